"""Small MLflow queries that several modules share."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Experiment, FileInfo, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

_T = TypeVar("_T")
FORBIDDEN = 403
PAGE = 1000


def none_if_missing(client: MlflowClient, name: str, request: Callable[[], _T]) -> _T | None:
    """The result of a request about model `name`; None if the model, version or alias does not exist."""
    try:
        return request()
    except MlflowException as error:
        # A server with user accounts denies access to a model that does not exist; its search finds nothing.
        if error.error_code == "PERMISSION_DENIED" or error.get_http_status_code() == FORBIDDEN:
            if not client.search_registered_models(f"name = '{name}'", max_results=1):
                return None
            raise
        # A missing alias is reported as a bad parameter.
        alias = error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in str(error) and "not found" in str(error)
        if alias or error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return None
        raise


def run_or_none(client: MlflowClient, run_id: str) -> Run | None:
    """The run with this id, deleted or not; None if it does not exist or the id is empty."""
    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def paginate(fetch: Callable[[str | None], PagedList[_T]]) -> Iterator[_T]:
    """Yield the items of an MLflow list, page by page; `fetch` gets the token of the next page."""
    token: str | None = None
    while True:
        page = fetch(token)
        yield from page
        token = page.token
        if not token:
            return


def all_experiments(client: MlflowClient) -> Iterator[Experiment]:
    """All experiments that are not deleted."""
    return paginate(lambda token: client.search_experiments(max_results=PAGE, page_token=token))


def all_versions(client: MlflowClient, name: str = "") -> list[ModelVersion]:
    """All versions of model `name`, or of all models."""
    search = f"name = '{name}'" if name else ""
    return list(paginate(lambda token: client.search_model_versions(search, max_results=PAGE, page_token=token)))


def stored_files(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[FileInfo]:
    """All files that a run has logged, only those below `folder` if given."""
    for info in client.list_artifacts(run_id, folder):
        if info.is_dir:
            yield from stored_files(client, run_id, info.path)
        else:
            yield info
