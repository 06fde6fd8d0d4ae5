"""Small questions to MLflow's registry that several modules ask."""

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


def or_none(client: MlflowClient, name: str, ask: Callable[[], _T]) -> _T | None:
    """What MLflow answers about model `name`, or None where there is no such model, version or alias."""
    try:
        return ask()
    except MlflowException as error:
        # A server with users refuses questions about a model that does not exist; its search just finds nothing.
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
    """The run of this id, deleted or not; None where MLflow has none, and for an empty id."""
    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def every(ask: Callable[[str | None], PagedList[_T]]) -> Iterator[_T]:
    """What MLflow lists, page by page; `ask` gets the token of the next page."""
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def all_experiments(client: MlflowClient) -> Iterator[Experiment]:
    """Every experiment that is not deleted."""
    return every(lambda token: client.search_experiments(max_results=PAGE, page_token=token))


def all_versions(client: MlflowClient, name: str = "") -> list[ModelVersion]:
    """Every version of model `name`, or of all models."""
    search = f"name = '{name}'" if name else ""
    return list(every(lambda token: client.search_model_versions(search, max_results=PAGE, page_token=token)))


def stored_files(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[FileInfo]:
    """Every file that a run has logged, below `folder` where one is named."""
    for info in client.list_artifacts(run_id, folder):
        if info.is_dir:
            yield from stored_files(client, run_id, info.path)
        else:
            yield info
