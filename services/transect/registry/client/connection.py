"""Connection to MLflow: address, credentials, embedded store, and translation of its errors."""

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
from transect.wording import one_line

_PROBE_TIMEOUT_S = 5
_PROBE_ENDPOINT = "/api/2.0/mlflow/experiments/search"
# Transient client errors: worth a retry, as all of 500 and above are.
_TRANSIENT = (requests.codes.request_timeout, requests.codes.too_many_requests)
# MLflow's defaults wait for minutes on an unavailable server. A value in the environment takes precedence.
_CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # Jitter draws from Python's global random state: a retry would change a concurrent training.
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The object store is reached through the server alone: a presigned URL would hang for minutes.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}


def open_client(settings: Settings) -> MlflowClient:
    """Connect to MLflow at `settings.store_uri`, after one cheap request that checks that it responds.

    A new SQLite store is created and migrated. Raises RegistryError when the address is not usable,
    the server does not respond within seconds, or it rejects the credentials.
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
        f"MLFLOW_TRACKING_URI={redact_uri(uri)} is not usable; give http://HOST:PORT of an MLflow server, "
        "sqlite:///PATH of a local store, or leave it empty for the store under TRANSECT_HOME."
    )


def is_embedded(uri: str) -> bool:
    """Whether the store is a local SQLite file without a server."""
    return urlsplit(uri).scheme == "sqlite"


def sqlite_path(uri: str) -> Path | None:
    """The database file of `sqlite:///relative` or `sqlite:////absolute`; None for another URI."""
    parts = urlsplit(uri)
    if parts.netloc or len(parts.path) < 2:
        return None
    return Path(unquote(parts.path[1:]))


def redact_uri(uri: str) -> str:
    """The URI without user and password (either may be a token), for messages."""
    return without_secrets(uri)


@contextmanager
def mlflow_errors_as(uri: str, doing: str) -> Iterator[None]:
    """Convert exceptions of MLflow and its transport while `doing` something to one RegistryError."""
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
    # MLflow's client reads credentials only from the environment, and ours may come from .env.
    credentials = {
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_TRACKING_USERNAME": settings.tracking_username,
        "MLFLOW_TRACKING_PASSWORD": settings.tracking_password,
    }
    os.environ.update({name: value for name, value in credentials.items() if value})
    for name, value in _CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


def _probe_server(uri: str) -> None:
    # One direct request without retries: MlflowClient does not connect until it is used.
    try:
        response = http_request(
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
    found = response.status_code != requests.codes.not_found
    if found and response.status_code != requests.codes.ok:
        raise _refused(uri, "connecting", response.status_code, response.text)
    if not found or "json" not in response.headers.get("Content-Type", ""):
        raise RegistryError(f"{redact_uri(uri)} responds, but it is not an MLflow server; check MLFLOW_TRACKING_URI.")


def _open_embedded(uri: str) -> MlflowClient:
    path = sqlite_path(uri)
    assert path is not None  # noqa: S101 - checked by the caller
    # This logger writes the SQL of a failed query with its values; the exception already has the reason.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes must not create the tables of a new store at the same time.
        with locked(path.with_name(f"{path.name}.lock")), _quiet_migrations():
            with closing(sqlite3.connect(path, timeout=20)) as database:
                # Stored in the file; readers and the writer then do not block each other.
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
        return f"The MLflow store {path} was written by another MLflow; run: mlflow db upgrade {redact_uri(uri)}"
    if "No module named 'sqlalchemy'" in detail or "unsupported URI" in detail:
        return (
            f"The store {path} is an SQLite file, which needs the full mlflow package; "
            "set MLFLOW_TRACKING_URI to a server, or pip install 'transect[train]'."
        )
    return f"The MLflow store {path} cannot be opened: {one_line(detail)}."


@contextmanager
def _quiet_migrations() -> Iterator[None]:
    """Suppress the hundred log lines that MLflow and Alembic write when they create a store."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # MLflow's migration scripts and models use deprecated SQLAlchemy names.
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _refused(uri: str, doing: str, status: int, detail: str) -> RegistryError:
    transient = status >= 500 or status in _TRANSIENT
    return (UnreachableError if transient else RegistryError)(_sentence(uri, doing, status, detail))


def _sentence(uri: str, doing: str, status: int, detail: str) -> str:
    # SQLAlchemy appends the statement to a database error: it does not help the reader, and contains values.
    reason = one_line(detail.partition("[SQL:")[0].replace(uri, redact_uri(uri)).rstrip())
    if status == requests.codes.unauthorized:
        return (
            f"MLflow at {redact_uri(uri)} refused the credentials while {doing}; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user that it knows."
        )
    if status == requests.codes.forbidden:
        return (
            f"MLflow at {redact_uri(uri)} does not allow {doing} (403): the user MLFLOW_TRACKING_USERNAME (with its "
            "MLFLOW_TRACKING_PASSWORD) lacks the right, or the server does not accept this host name "
            f"(MLFLOW_SERVER_ALLOWED_HOSTS). It said: {reason}."
        )
    return f"MLflow at {redact_uri(uri)} failed while {doing} ({status}): {reason}."


def _unreachable(uri: str, error: BaseException, doing: str) -> str:
    return (
        f"MLflow at {redact_uri(uri)} cannot be reached while {doing} ({one_line(_root_cause(error))}); "
        "is it up, and is MLFLOW_TRACKING_URI right?"
    )


def _is_transport(error: MlflowException) -> bool:
    # MLflow wraps exceptions of requests in its own, with the status of a server error.
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
