"""Storage of a sweep's trials: an SQLite file beside the sweep, or a separate schema in PostgreSQL.

Optuna and MLflow both have a table `alembic_version`, and each would misread the other's as an unknown
version of its own. So they never share a schema: in a database that MLflow uses, the trials are in the
schema `transect_sweeps`.

Calls are retried by a loop of ours and no library: one pause between tries, and at the end a message of ours.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from transect.errors import InputError, UnreachableError
from transect.settings import Settings
from transect.settings.postgres import postgres_url
from transect.wording import one_line

logger = logging.getLogger(__name__)

SCHEMA = "transect_sweeps"
_VARIABLE = "TRANSECT_SWEEP_STORE"
_SQLITE_WAIT_S = 20
_AGAIN_S = 1.0

Value = TypeVar("Value")
STORE_ERRORS = (SQLAlchemyError, StorageInternalError)


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
    file = (folder / "study.db").absolute()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return RDBStorage(
            str(URL.create("sqlite", database=str(file))), engine_kwargs={"connect_args": {"timeout": _SQLITE_WAIT_S}}
        )
    except (OSError, RuntimeError, *STORE_ERRORS) as error:
        raise InputError(f"The trials of the sweep, {file}, cannot be opened: {_reason(error)}.") from error


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
            engine_kwargs={"pool_pre_ping": True, "connect_args": {"options": options}},
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
