"""Where the trials of sweeps are kept: an SQLite file beside the sweep, or a schema of its own in PostgreSQL.

Optuna and MLflow both call a table `alembic_version`, and each takes the other's for its own, of a
version that it does not know. So they never share a schema: a database that MLflow uses may be named,
and the trials are kept in its schema `transect_sweeps`.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from transect.errors import InputError, SettingsError, UnreachableError
from transect.settings import Settings

logger = logging.getLogger(__name__)

SCHEMA = "transect_sweeps"
_VARIABLE = "TRANSECT_SWEEP_STORE"
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg2")
_SQLITE_WAIT_S = 20
_AGAIN_S = 1.0

Answer = TypeVar("Answer")
TROUBLE = (SQLAlchemyError, StorageInternalError)


def open_store(folder: Path, settings: Settings) -> RDBStorage:
    """The store of the sweep in `folder`, made when it is new.

    Raises SettingsError for an address that cannot be used, UnreachableError when nothing answers
    there, InputError for a file that is none of Optuna's.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if settings.sweep_store:
        return _in_postgres(_postgres_url(settings.sweep_store))
    file = (folder / "study.db").absolute()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return RDBStorage(
            str(URL.create("sqlite", database=str(file))), engine_kwargs={"connect_args": {"timeout": _SQLITE_WAIT_S}}
        )
    except (OSError, RuntimeError, *TROUBLE) as error:
        raise InputError(f"The trials of the sweep, {file}, cannot be opened: {_line(error)}.") from error


def patiently(do: Callable[[], Answer], wait: float) -> Answer:
    """Do it, and again for up to `wait` seconds while the store is in trouble.

    Raises UnreachableError after that. What is done must not be harmed by being done twice.
    """
    until = time.monotonic() + wait
    while True:
        try:
            return do()
        except TROUBLE as error:
            if time.monotonic() >= until:
                raise UnreachableError(
                    f"The trials of the sweep cannot be written ({_line(error)}); nothing is lost: when their store "
                    "is back, the same command goes on."
                ) from error
            time.sleep(_AGAIN_S)


def _postgres_url(given: str) -> URL:
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(f"{_VARIABLE} is no address; give postgresql://USER:PASSWORD@HOST/DATABASE.") from error
    if url.drivername not in _POSTGRES:
        raise SettingsError(
            f"{_VARIABLE} names {url.drivername}, and sweeps are kept in PostgreSQL: give "
            "postgresql://USER:PASSWORD@HOST/DATABASE, or leave it empty for a file under TRANSECT_HOME."
        )
    return url.set(drivername="postgresql+psycopg2")


def _in_postgres(url: URL) -> RDBStorage:
    given = url.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} -csearch_path={SCHEMA}".strip()
    plain = url.difference_update_query(["options"])
    shown = plain.render_as_string(hide_password=True)
    try:
        engine = create_engine(plain)
        try:
            with engine.begin() as connection:
                # Somebody with more rights may have made it for a user who may not.
                if not connection.scalar(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}):
                    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        finally:
            engine.dispose()
        return RDBStorage(
            plain.render_as_string(hide_password=False),
            # Trials take hours, in which a server or something between closes a connection that says nothing.
            engine_kwargs={"pool_pre_ping": True, "connect_args": {"options": options}},
        )
    except RuntimeError as error:
        raise InputError(f"{shown} has sweeps of another Optuna in the schema {SCHEMA}: {_line(error)}.") from error
    except TROUBLE as error:
        raise UnreachableError(
            f"The store of sweeps {shown} cannot be used ({_line(error)}); is it up, is {_VARIABLE} right, and may its "
            f"user make the schema {SCHEMA}?"
        ) from error


def _line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return " ".join(str(cause).split())[:300].rstrip(".")
