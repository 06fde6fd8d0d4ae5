"""Storage of a sweep's trials: an SQLite file beside the sweep, or a separate schema in PostgreSQL.

Optuna and MLflow both have a table `alembic_version`, and each would misread the other's as an unknown
version of its own. So they never share a schema: in a database that MLflow uses, the trials are in the
schema `transect_sweeps`.

Calls are retried by a loop of ours and no library: one pause between tries, and at the end a message of ours.

Several workers share a store. What one of them has to read and write in one step (take a trial, renew a heartbeat, end
a trial) it does under `exclusive`: an advisory lock of PostgreSQL, or a lock on a file beside the SQLite file.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from transect.errors import InputError, UnreachableError
from transect.files import locked
from transect.settings import Settings
from transect.settings.postgres import postgres_url
from transect.wording import one_line

logger = logging.getLogger(__name__)

SCHEMA = "transect_sweeps"
_VARIABLE = "TRANSECT_SWEEP_STORE"
_SQLITE_WAIT_S = 20
_AGAIN_S = 1.0
# PostgreSQL takes 100 connections by default. A worker needs one for its trial, one for its heartbeat, and one for the
# lock of each; idle it keeps one.
_POOL = {"pool_size": 1, "max_overflow": 3}
# A worker holds the lock for milliseconds. One that was stopped in it must not hold up the others for ever.
_LOCK_WAIT_S, _LOCK_HOLD_S = 20, 60

Value = TypeVar("Value")
STORE_ERRORS = (SQLAlchemyError, StorageInternalError)


def store_file(folder: Path) -> Path:
    """The SQLite file of the sweep in `folder`."""
    return (folder / "study.db").absolute()


def open_store(folder: Path, settings: Settings) -> RDBStorage:
    """Open the store of the sweep in `folder`, or create it.

    Raises SettingsError for an invalid address, UnreachableError for a database that cannot be reached,
    InputError for a file that is not Optuna's.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if settings.sweep_store:
        return _in_postgres(
            postgres_url(settings.sweep_store, _VARIABLE, kept="sweeps", otherwise="a file under TRANSECT_HOME")
        )
    file = store_file(folder)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return RDBStorage(
            str(URL.create("sqlite", database=str(file))), engine_kwargs={"connect_args": {"timeout": _SQLITE_WAIT_S}}
        )
    except (OSError, RuntimeError, *STORE_ERRORS) as error:
        raise InputError(f"The trials of the sweep, {file}, cannot be opened: {_reason(error)}.") from error


@contextmanager
def exclusive(storage: RDBStorage, study: str) -> Iterator[None]:
    """Hold the lock of a study; waits for it. The system or the database releases that of a killed process.

    Whoever holds PostgreSQL's for longer than 60 s, as a stopped process, loses it; so what is written under the lock
    has to be safe from that, as trials that exist already and are ended once are.
    """
    if storage.engine.dialect.name == "sqlite":
        with locked(Path(str(storage.engine.url.database)).with_name("study.lock")):
            yield
        return
    key = int.from_bytes(hashlib.sha256(f"{SCHEMA} {study}".encode()).digest()[:8], signed=True)
    with storage.engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'"))
        connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LOCK_HOLD_S}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def retry_store(do: Callable[[], Value], wait: float) -> Value:
    """Call `do`, which must be idempotent, and retry it on STORE_ERRORS for up to `wait` seconds.

    Raises UnreachableError after that.
    """
    until = time.monotonic() + wait
    while True:
        try:
            return do()
        except STORE_ERRORS as error:
            if time.monotonic() >= until:
                raise UnreachableError(
                    f"The trials of the sweep cannot be written ({_reason(error)}); nothing is lost: when their store "
                    "is back, the same command resumes."
                ) from error
            time.sleep(_AGAIN_S)


def _in_postgres(url: URL) -> RDBStorage:
    in_url = url.query.get("options", "")
    existing = in_url if isinstance(in_url, str) else " ".join(in_url)
    options = f"{existing} -csearch_path={SCHEMA}".strip()
    plain = url.difference_update_query(["options"])
    shown = plain.render_as_string(hide_password=True)
    try:
        engine = create_engine(plain)
        try:
            with engine.begin() as connection:
                # An administrator may have created it for a user without that right.
                if not connection.scalar(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}):
                    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        finally:
            engine.dispose()
        return RDBStorage(
            plain.render_as_string(hide_password=False),
            # Trials take hours, in which a server or proxy closes an idle connection.
            engine_kwargs={"pool_pre_ping": True, "connect_args": {"options": options}, **_POOL},
        )
    except RuntimeError as error:
        raise InputError(f"{shown} has sweeps of another Optuna in the schema {SCHEMA}: {_reason(error)}.") from error
    except STORE_ERRORS as error:
        raise UnreachableError(
            f"The store of sweeps {shown} cannot be used ({_reason(error)}); is it up, is {_VARIABLE} right, and may "
            f"its user make the schema {SCHEMA}?"
        ) from error


def _reason(error: BaseException) -> str:
    """The database's own reason, which SQLAlchemy wraps, on one line."""
    return one_line(getattr(error, "orig", None) or error.__cause__ or error)
