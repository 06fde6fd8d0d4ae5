"""How the database of decisions is reached: its address, its connections, and its failures as sentences.

SQLite: the driver's own transactions are turned off, since they begin before the first INSERT and not before the first
SELECT, so that two writers could both read, and one of them fail. The journal is a file that is deleted: a write-ahead
log needs memory that is shared, which a folder on a network does not have.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from transect.errors import InputError, TransectError, UnreachableError
from transect.settings import Settings
from transect.settings.postgres import postgres_url
from transect.wording import one_line

FILE_NAME = "decisions.sqlite"
VARIABLE = "TRANSECT_REVIEW_DATABASE"
WRITES = "transect_writes"
"""The execution option of a transaction that writes."""
_SQLITE = "sqlite:///"
_PRAGMAS = ("journal_mode=DELETE", "synchronous=FULL", "foreign_keys=ON")
_NOT_PERMITTED = "42501"  # PostgreSQL's insufficient_privilege
# By the beginning of SQLite's name of the error: what is wrong, and what to do.
_SQLITE_FAILURES = {
    "SQLITE_BUSY": "another program holds it; try again when that has ended",
    "SQLITE_FULL": "the disk is full; free some space, then do the same again",
    "SQLITE_IOERR": "the disk does not read or write it; check that it has space and no faults, then do the same again",
    "SQLITE_READONLY": "it is read-only; make the file and its folder writable for you",
    "SQLITE_CANTOPEN": "it cannot be opened; make the file and its folder readable and writable for you",
    "SQLITE_PERM": "it cannot be opened; make the file and its folder readable and writable for you",
    "SQLITE_NOTADB": "it is damaged or no SQLite file; put back a copy of it",
    "SQLITE_CORRUPT": "it is damaged; put back a copy of it",
}


@dataclass(frozen=True)
class Address:
    """Where the decisions are; `shown` has no password, and `file` is None for PostgreSQL."""

    url: URL
    shown: str
    file: Path | None


def database_url(folder: Path, settings: Settings) -> str:
    """The database of the review in `folder`: the one of TRANSECT_REVIEW_DATABASE, else a file in that folder."""
    return settings.review_database or f"{_SQLITE}{folder / FILE_NAME}"


def address_of(url: str) -> Address:
    """Read `sqlite:///PATH` or PostgreSQL's address; raises SettingsError for anything else.

    PATH is taken as it is: a question mark in the name of a folder begins no options.
    """
    if url.startswith(_SQLITE) and url != _SQLITE:
        file = Path(url.removeprefix(_SQLITE)).absolute()
        return Address(URL.create("sqlite", database=str(file)), str(file), file)
    found = postgres_url(url, VARIABLE, kept="decisions", otherwise="a file in the folder of each review")
    # Options may hold a password too.
    shown = found.set(query={}, drivername="postgresql").render_as_string(hide_password=True)
    return Address(found, shown, None)


def engine_of(address: Address, wait_s: float) -> Engine:
    """An engine that waits `wait_s` for an SQLite file that another process writes; makes no connection yet."""
    if address.file is None:
        return create_engine(address.url, hide_parameters=True, pool_pre_ping=True, isolation_level="READ COMMITTED")
    engine = create_engine(address.url, hide_parameters=True, connect_args={"timeout": wait_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def make_private(file: Path) -> None:
    """Make an empty database that its owner alone reads, unless there is one; SQLite's journals take its mode.

    Raises InputError where that is not possible.
    """
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise InputError(
            f"The decisions in {file} cannot be kept: {error.strerror}; name a folder that is there and writable for "
            "you."
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Any: the driver's connection.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer that reads first takes the lock at once: a lock that grows can fail, and waiting does not help then.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def told(address: Address, done: str) -> Iterator[None]:
    """Turn every failure of the database into one sentence that it could not be `done` (`read`, `written`)."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _sentence(address, done, error) from error


def _sentence(address: Address, done: str, error: SQLAlchemyError) -> TransectError:
    cause = getattr(error, "orig", None) or error
    taken = ", and nothing was taken" if done == "written" else ""
    begin = f"The decisions in {address.shown} cannot be {done}{taken}"
    if address.file is None and isinstance(error, OperationalError | InterfaceError):
        return UnreachableError(f"{begin} ({one_line(cause)}); is the database up, and is {VARIABLE} right?")
    if getattr(cause, "pgcode", None) == _NOT_PERMITTED:
        return InputError(
            f"{begin} ({one_line(cause)}); name a user in {VARIABLE} who may, and run `transect review migrate` as the "
            "owner of the tables."
        )
    name = getattr(cause, "sqlite_errorname", "")
    known = next((text for code, text in _SQLITE_FAILURES.items() if name.startswith(code)), None)
    return InputError(f"{begin}: {known or one_line(cause)}.")
