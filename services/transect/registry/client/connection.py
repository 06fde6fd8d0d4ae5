"""Reaching MLflow: the address, the credentials, the embedded store, and what its failures mean."""

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from transect.errors import RegistryError, UnreachableError
from transect.files import locked
from transect.redaction import without_secrets
from transect.settings import Settings

_PROBE_TIMEOUT_S = 5
_PROBE_ENDPOINT = "/api/2.0/mlflow/experiments/search"
# Besides those of 500 and more, answers of a server that may say something else in a minute.
_PASSING = (requests.codes.request_timeout, requests.codes.too_many_requests)
# Defaults of MLflow would wait for minutes on a server that is gone. A value in the environment wins.
_CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # Jitter draws from Python's global random numbers: a retry would change the training that runs meanwhile.
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The object store is reached through the server alone: a presigned address of it would hang for minutes.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}


def open_client(settings: Settings) -> MlflowClient:
    """Open MLflow at `settings.store_uri`, after one cheap question that proves it answers.

    An SQLite store is created and migrated when it is new. Raises RegistryError when the address
    cannot be used, nothing answers within some seconds, or the credentials are refused.
    """
    uri = settings.store_uri
    _export(settings)
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _probe_server(uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    if scheme == "sqlite" and sqlite_path(uri) is not None:
        return _open_embedded(uri)
    raise RegistryError(
        f"MLFLOW_TRACKING_URI={shown(uri)} is not usable; give http://HOST:PORT of an MLflow server, "
        "sqlite:///PATH of a local store, or leave it empty for the store under TRANSECT_HOME."
    )


def is_embedded(uri: str) -> bool:
    """Whether the store is a local SQLite file, with no server in front of it."""
    return urlsplit(uri).scheme == "sqlite"


def sqlite_path(uri: str) -> Path | None:
    """The database file of `sqlite:///relative` or `sqlite:////absolute`; None when there is none."""
    parts = urlsplit(uri)
    if parts.netloc or len(parts.path) < 2:
        return None
    return Path(unquote(parts.path[1:]))


def shown(uri: str) -> str:
    """The URI without user and password, either of which may be a token, for messages."""
    return without_secrets(uri)


@contextmanager
def translated(uri: str, doing: str) -> Iterator[None]:
    """Turn what MLflow and its transport raise while `doing` something into one RegistryError."""
    try:
        yield
    except MlflowException as error:
        if _is_transport(error):
            raise UnreachableError(_unreachable(uri, error, doing)) from error
        raise _refused(uri, doing, error.get_http_status_code(), str(error)) from error
    except requests.exceptions.HTTPError as error:
        status = 500 if error.response is None else error.response.status_code
        raise _refused(uri, doing, status, str(error)) from error
    except requests.exceptions.RequestException as error:
        raise UnreachableError(_unreachable(uri, error, doing)) from error
    except OSError as error:
        raise RegistryError(f"Could not finish {doing}: {error}. Check the disk and its permissions.") from error


def _export(settings: Settings) -> None:
    # MLflow's client takes credentials from the environment alone, and .env may be where they are.
    given = {
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_TRACKING_USERNAME": settings.tracking_username,
        "MLFLOW_TRACKING_PASSWORD": settings.tracking_password,
    }
    os.environ.update({name: value for name, value in given.items() if value})
    for name, value in _CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


def _probe_server(uri: str) -> None:
    # One direct question without retries: MlflowClient itself asks nothing until it is used.
    try:
        answer = http_request(
            get_default_host_creds(uri),
            _PROBE_ENDPOINT,
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=_PROBE_TIMEOUT_S,
            raise_on_status=False,
        )
    except MlflowException as error:
        raise UnreachableError(_unreachable(uri, error, "connecting")) from error
    found = answer.status_code != requests.codes.not_found
    if found and answer.status_code != requests.codes.ok:
        raise _refused(uri, "connecting", answer.status_code, answer.text)
    if not found or "json" not in answer.headers.get("Content-Type", ""):
        raise RegistryError(f"{shown(uri)} answers, but it is no MLflow server; check MLFLOW_TRACKING_URI.")


def _open_embedded(uri: str) -> MlflowClient:
    path = sqlite_path(uri)
    assert path is not None  # noqa: S101 - the caller looked
    # It logs the statement of a query that failed, with its values; what failed is in the exception.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that meet a new store must not both create its tables.
        with locked(path.with_name(f"{path.name}.lock")), _quiet_migrations():
            with closing(sqlite3.connect(path, timeout=20)) as database:
                # Kept in the file: readers and the writer no longer stop each other.
                database.execute("PRAGMA journal_mode=WAL")
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
    except (OSError, sqlite3.Error) as error:
        raise RegistryError(
            f"The MLflow store {path} cannot be opened: {error}. Check MLFLOW_TRACKING_URI and TRANSECT_HOME."
        ) from error
    except MlflowException as error:
        raise RegistryError(_store_sentence(uri, path, str(error))) from error
    return client


def _store_sentence(uri: str, path: Path, detail: str) -> str:
    if "out-of-date database schema" in detail:
        return f"The MLflow store {path} was written by another MLflow; run: mlflow db upgrade {shown(uri)}"
    if "No module named 'sqlalchemy'" in detail or "unsupported URI" in detail:
        return (
            f"The store {path} is an SQLite file, which needs the full mlflow package; "
            "set MLFLOW_TRACKING_URI to a server, or pip install 'transect[train]'."
        )
    return f"The MLflow store {path} cannot be opened: {_line(detail)}."


@contextmanager
def _quiet_migrations() -> Iterator[None]:
    """Hold back the hundred lines that MLflow and Alembic write when they make a new store."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # MLflow's own migration scripts and models use what SQLAlchemy has since renamed.
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _refused(uri: str, doing: str, status: int, detail: str) -> RegistryError:
    passing = status >= 500 or status in _PASSING
    return (UnreachableError if passing else RegistryError)(_sentence(uri, doing, status, detail))


def _sentence(uri: str, doing: str, status: int, detail: str) -> str:
    # What SQLAlchemy adds to an error of the database says nothing to whoever reads it, and has values in it.
    said = _line(detail.partition("[SQL:")[0].replace(uri, shown(uri)).rstrip())
    if status == requests.codes.unauthorized:
        return (
            f"MLflow at {shown(uri)} refused the credentials while {doing}; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user that it knows."
        )
    if status == requests.codes.forbidden:
        return (
            f"MLflow at {shown(uri)} does not allow {doing} (403): the user MLFLOW_TRACKING_USERNAME (with its "
            "MLFLOW_TRACKING_PASSWORD) lacks the right, or the server does not accept this host name "
            f"(MLFLOW_SERVER_ALLOWED_HOSTS). It said: {said}."
        )
    return f"MLflow at {shown(uri)} failed while {doing} ({status}): {said}."


def _unreachable(uri: str, error: BaseException, doing: str) -> str:
    return (
        f"MLflow at {shown(uri)} cannot be reached while {doing} ({_line(str(_root_cause(error)))}); "
        "is it up, and is MLFLOW_TRACKING_URI right?"
    )


def _is_transport(error: MlflowException) -> bool:
    # MLflow wraps what requests raised in an exception of its own, with the status of a server error.
    causes = _causes(error)
    return any(isinstance(cause, requests.exceptions.RequestException) for cause in causes) and not any(
        isinstance(cause, requests.exceptions.HTTPError) for cause in causes
    )


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None and below not in chain:
        chain.append(below)
    return chain


def _root_cause(error: BaseException) -> BaseException:
    return _causes(error)[-1]


def _line(text: str, limit: int = 300) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"
