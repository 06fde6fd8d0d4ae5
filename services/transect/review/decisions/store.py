"""The store of a review's decisions: rows are added, read, and never changed.

Every writer of one review waits for the one before it, also in another process or on another machine: then what is
known is read, compared and completed in one transaction, in the same way on SQLite and PostgreSQL.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Connection, Engine, func, insert, select

from transect.errors import InputError
from transect.review.decisions import rows, schema
from transect.review.decisions.connection import (
    WRITES,
    Address,
    address_of,
    engine_of,
    make_private,
    told,
)
from transect.review.decisions.decision import Decision, PhotoSearch
from transect.review.decisions.tables import AddedBoxRow, Base, DecisionRow, DrawnItemRow, PhotoSearchRow, ReviewRow

Kind = Literal["box", "photo"]
"""What an item is that is handed out: one box of the census, or a whole photo."""
_WAIT_S = 60.0


@dataclass(frozen=True)
class Appended:
    """How many decisions and searches were added, and how many were there already."""

    new: int
    known: int


class DecisionStore:
    """The decisions of reviews. Each method is a transaction of its own; threads may share a store."""

    def __init__(self, engine: Engine, address: Address) -> None:
        self._engine, self._address = engine, address

    def add_review(self, review_id: str, *, name: str, created_by: str, survey_digest: str, census_run: str) -> None:
        """Add a review; does nothing where it is there.

        Raises InputError where the id belongs to a review of another name or census.
        """
        rows.check_key(review_id, "The id of a review")
        said = (name, survey_digest, census_run)
        with self._writing(review_id) as connection:
            query = select(ReviewRow.name, ReviewRow.survey_digest, ReviewRow.census_run)
            there = connection.execute(query.where(ReviewRow.id == review_id)).one_or_none()
            if there is None:
                row = dict(zip(("name", "survey_digest", "census_run"), said, strict=True))
                connection.execute(insert(ReviewRow), {"id": review_id, "created_by": created_by, **row})
            elif tuple(there) != said:
                raise InputError(
                    f"{self._address.shown} has another review with the id {review_id}: {there.name} of the survey "
                    f"{there.survey_digest[:12]} and the census {there.census_run}; start a new review."
                )

    def record_drawn(self, review_id: str, kind: Kind, keys: Iterable[str], batch: str) -> int:
        """Record that items were handed out because chance put them next; the number of those that were not before.

        An item keeps the batch that it was in first.
        """
        if kind not in get_args(Kind):
            raise InputError(f"An item of the kind {kind!r} cannot be drawn; give one of {', '.join(get_args(Kind))}.")
        wanted = set(keys)
        for key in wanted:
            rows.check_key(key, f"The key of a {kind}")
        with self._writing_to(review_id) as connection:
            new = wanted - _drawn(connection, review_id, kind)
            row = {"review": review_id, "kind": kind, "batch": batch}
            _insert(connection, DrawnItemRow, [{**row, "key": key} for key in sorted(new)])
        return len(new)

    def append(self, review_id: str, decisions: Sequence[Decision], searches: Sequence[PhotoSearch]) -> Appended:
        """Add decisions and searches, all or none; one that is there with the same content is known.

        Raises InputError for a uuid that is there with other content, and for what no table takes.
        """
        for decision in decisions:
            rows.check_decision(decision)
        for search in searches:
            rows.check_search(search)
        with self._writing_to(review_id) as connection:
            decided = rows.new_items(
                decisions, rows.known_decisions(connection, review_id, [item.uuid for item in decisions])
            )
            searched = rows.new_items(
                searches, rows.known_searches(connection, review_id, [item.uuid for item in searches])
            )
            _insert(connection, DecisionRow, rows.rows_of_decisions(review_id, decided))
            _insert(connection, PhotoSearchRow, rows.rows_of_searches(review_id, searched))
            _insert(connection, AddedBoxRow, rows.rows_of_boxes(review_id, searched))
        new = len(decided) + len(searched)
        return Appended(new=new, known=len(decisions) + len(searches) - new)

    def decisions(self, review_id: str) -> tuple[Decision, ...]:
        """The decisions of a review by uuid, whenever and in whichever order they came."""
        with self._reading() as connection:
            return tuple(sorted(rows.read_decisions(connection, review_id), key=lambda item: item.uuid))

    def searches(self, review_id: str) -> tuple[PhotoSearch, ...]:
        """The searches of a review by uuid, whenever and in whichever order they came."""
        with self._reading() as connection:
            return tuple(sorted(rows.read_searches(connection, review_id), key=lambda item: item.uuid))

    def drawn(self, review_id: str, kind: Kind) -> frozenset[str]:
        """The keys of the items that were handed out by chance."""
        with self._reading() as connection:
            return _drawn(connection, review_id, kind)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with told(self._address, "read"), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self, review_id: str) -> Iterator[Connection]:
        writes = self._engine.execution_options(**{WRITES: True})
        with told(self._address, "written"), writes.begin() as connection:
            if self._address.file is None:
                connection.execute(select(func.pg_advisory_xact_lock(_lock_of(review_id))))
            yield connection

    @contextmanager
    def _writing_to(self, review_id: str) -> Iterator[Connection]:
        with self._writing(review_id) as connection:
            if connection.scalar(select(ReviewRow.id).where(ReviewRow.id == review_id)) is None:
                raise InputError(f"{self._address.shown} has no review {review_id}; start the review first.")
            yield connection


@contextmanager
def open_store(url: str, *, wait_s: float = _WAIT_S) -> Iterator[DecisionStore]:
    """Open the store at `sqlite:///PATH`, or in PostgreSQL.

    An SQLite file is made and brought up to date; it may be in use by another process for `wait_s` at a time. The
    tables in PostgreSQL belong to another user, so they are not touched. Raises InputError for tables of another
    version and for a file that cannot be used, UnreachableError for a database that does not answer.
    """
    address = address_of(url)
    with _engine(address, wait_s) as engine:
        if address.file is not None:
            _bring_up_to_date(engine, address)
        else:
            with told(address, "read"), engine.begin() as connection:
                schema.require_current(connection, address)
        yield DecisionStore(engine, address)


def migrate(url: str) -> bool:
    """Make the tables at `url`, or bring them up to date; false where they were.

    Raises as `open_store` does.
    """
    address = address_of(url)
    with _engine(address, _WAIT_S) as engine:
        return _bring_up_to_date(engine, address)


@contextmanager
def _engine(address: Address, wait_s: float) -> Iterator[Engine]:
    if address.file is not None:
        make_private(address.file)
    engine = engine_of(address, wait_s)
    try:
        yield engine
    finally:
        engine.dispose()


def _bring_up_to_date(engine: Engine, address: Address) -> bool:
    if address.file is not None:
        # Whoever only reads a review may have no right to write.
        with told(address, "read"), engine.begin() as connection:
            if schema.is_current(connection, address):
                return False
    with told(address, "written"), engine.execution_options(**{WRITES: True}).begin() as connection:
        return schema.upgrade(connection, address)


def _drawn(connection: Connection, review_id: str, kind: Kind) -> frozenset[str]:
    query = select(DrawnItemRow.key).where(DrawnItemRow.review == review_id, DrawnItemRow.kind == kind)
    return frozenset(connection.scalars(query))


def _insert(connection: Connection, table: type[Base], added: list[rows.Row]) -> None:
    # Without a row it would insert one of defaults.
    if added:
        connection.execute(insert(table), added)


def _lock_of(review_id: str) -> int:
    """The number of PostgreSQL's lock of a review."""
    return int.from_bytes(hashlib.sha256(f"transect review {review_id}".encode()).digest()[:8], "big", signed=True)
