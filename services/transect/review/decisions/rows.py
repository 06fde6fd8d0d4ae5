"""Decisions and searches as rows of the tables, and back; what no table takes is refused before."""

import gc
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar, get_args

from sqlalchemy import Connection, Select, select

from transect.errors import InputError
from transect.review.decisions.decision import VERDICTS, AddedBox, Decision, Drawn, PhotoSearch
from transect.review.decisions.tables import AddedBoxRow, DecisionRow, PhotoSearchRow

LONGEST_KEY = 200
"""Of ids, uuids and keys; PostgreSQL's indexes take little more than 2,700 bytes."""
# SQLite takes 32,766 values in a statement, PostgreSQL 65,535.
_CHUNK = 1000
# Rows that are fetched at once; all at once they would be in memory twice.
_FETCHED = 10_000
_MOST_MILLISECONDS = 2**63 - 1
_DECISION = tuple(field.name for field in fields(Decision))
_SEARCH = tuple(field.name for field in fields(PhotoSearch) if field.name != "added")

Item = TypeVar("Item", Decision, PhotoSearch)
Row = dict[str, object]


def check_key(text: str, what: str) -> None:
    """Raise InputError unless `text` can be the key of a row."""
    if not 0 < len(text) <= LONGEST_KEY:
        raise InputError(f"{what} {text[:40]!r} has {len(text)} characters; give 1 to {LONGEST_KEY}.")
    _check_text(text, what)


def check_decision(decision: Decision) -> None:
    """Raise InputError, which names the uuid, for a decision that no table takes."""
    _check_item(decision, decision.decided_at)
    if decision.verdict not in VERDICTS:
        raise InputError(
            f"Decision {decision.uuid}: the verdict {decision.verdict!r} is none of {', '.join(VERDICTS)}."
        )


def check_search(search: PhotoSearch) -> None:
    """Raise InputError, which names the uuid, for a search that no table takes."""
    _check_item(search, search.done_at)
    for added in search.added:
        _check_text(added.species, f"Search {search.uuid}: a species")
        if not all(math.isfinite(side) for side in added.box):
            raise InputError(f"Search {search.uuid}: the box {added.box} is not finite; give pixels.")


def _check_item(item: Decision | PhotoSearch, at: datetime | None) -> None:
    kind = "Decision" if isinstance(item, Decision) else "Search"
    check_key(item.uuid, f"{kind} with the uuid")
    name = f"{kind} {item.uuid}"
    for value in vars(item).values():
        if isinstance(value, str):
            _check_text(value, f"{name}: a text")
    if item.drawn not in get_args(Drawn):
        raise InputError(f"{name}: drawn by {item.drawn!r} is none of {', '.join(get_args(Drawn))}.")
    if at is not None and at.utcoffset() is None:
        raise InputError(f"{name}: the time {at} has no zone; give it in UTC.")
    if item.milliseconds is not None and not 0 <= item.milliseconds <= _MOST_MILLISECONDS:
        raise InputError(f"{name}: {item.milliseconds} ms is no time that it took; give 0 or more.")


def _check_text(text: str, what: str) -> None:
    """PostgreSQL stores neither NUL nor half of a surrogate pair."""
    try:
        storable = b"\0" not in text.encode()
    except UnicodeEncodeError:
        storable = False
    if not storable:
        raise InputError(f"{what} has characters that cannot be stored: {text[:40]!r}.")


def rows_of_decisions(review_id: str, decisions: Iterable[Decision]) -> list[Row]:
    """The rows of `decision`."""
    return [{"review": review_id, **{name: getattr(item, name) for name in _DECISION}} for item in decisions]


def rows_of_searches(review_id: str, searches: Iterable[PhotoSearch]) -> list[Row]:
    """The rows of `photo_search`."""
    return [{"review": review_id, **{name: getattr(item, name) for name in _SEARCH}} for item in searches]


def rows_of_boxes(review_id: str, searches: Iterable[PhotoSearch]) -> list[Row]:
    """The rows of `added_box`."""
    return [
        {
            "review": review_id,
            "search": search.uuid,
            "number": number,
            **dict(zip(("x1", "y1", "x2", "y2"), map(float, added.box), strict=True)),
            "species": added.species,
            "before_reveal": added.before_reveal,
        }
        for search in searches
        for number, added in enumerate(search.added)
    ]


def read_decisions(connection: Connection, review_id: str) -> list[Decision]:
    """All decisions of a review, in no order."""
    return _decisions(connection, _select_decisions(review_id))


def read_searches(connection: Connection, review_id: str) -> list[PhotoSearch]:
    """All searches of a review, in no order."""
    return _searches(connection, _select_searches(review_id), _select_boxes(review_id))


def known_decisions(connection: Connection, review_id: str, uuids: Sequence[str]) -> dict[str, Decision]:
    """The decisions that have one of these uuids, by uuid."""
    known: dict[str, Decision] = {}
    for chunk in _chunks(uuids):
        query = _select_decisions(review_id).where(DecisionRow.uuid.in_(chunk))
        known |= {item.uuid: item for item in _decisions(connection, query)}
    return known


def known_searches(connection: Connection, review_id: str, uuids: Sequence[str]) -> dict[str, PhotoSearch]:
    """The searches that have one of these uuids, by uuid."""
    known: dict[str, PhotoSearch] = {}
    for chunk in _chunks(uuids):
        query = _select_searches(review_id).where(PhotoSearchRow.uuid.in_(chunk))
        boxes = _select_boxes(review_id).where(AddedBoxRow.search.in_(chunk))
        known |= {item.uuid: item for item in _searches(connection, query, boxes)}
    return known


def new_items(items: Sequence[Item], known: Mapping[str, Item]) -> list[Item]:
    """The items that are not known, each once, by uuid.

    Raises InputError for a uuid that comes again with other content.
    """
    new: dict[str, Item] = {}
    for item in items:
        there = known.get(item.uuid) or new.setdefault(item.uuid, item)
        if there != item:
            raise InputError(
                f"{type(item).__name__} {item.uuid} is recorded with other content; a decision is never changed: give "
                "the new one a uuid of its own and name this one in supersedes. Nothing was taken."
            )
    return [new[uuid] for uuid in sorted(new)]


def _chunks(uuids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (uuids[start : start + _CHUNK] for start in range(0, len(uuids), _CHUNK))


# The names, and so the types, of the columns are known at run time alone.
def _select_decisions(review_id: str) -> Select[Any]:
    columns = [getattr(DecisionRow, name) for name in _DECISION]
    return select(*columns).where(DecisionRow.review == review_id)


def _select_searches(review_id: str) -> Select[Any]:
    columns = [getattr(PhotoSearchRow, name) for name in _SEARCH]
    return select(*columns).where(PhotoSearchRow.review == review_id)


def _select_boxes(review_id: str) -> Select[Any]:
    row = AddedBoxRow
    columns: list[Any] = [row.search, row.x1, row.y1, row.x2, row.y2, row.species, row.before_reveal]
    return select(*columns).where(row.review == review_id).order_by(row.search, row.number)


def _decisions(connection: Connection, query: Select[Any]) -> list[Decision]:
    # A million decisions name few photos and people, and the driver makes each text anew: one of each is kept.
    kept: dict[Any, Any] = {}
    one = kept.setdefault
    with _collector_paused():
        return [
            Decision(
                uuid=uuid,
                photo_sha256=one(photo, photo),
                box_key=box_key,
                verdict=one(verdict, verdict),
                reviewer=one(reviewer, reviewer),
                drawn=one(drawn, drawn),
                species=one(species, species),
                decided_at=decided_at,
                milliseconds=milliseconds,
                settles=settles,
                note=note,
                supersedes=supersedes,
            )
            for (
                uuid, photo, box_key, verdict, reviewer, drawn,
                species, decided_at, milliseconds, settles, note, supersedes,
            ) in connection.execute(query.execution_options(yield_per=_FETCHED))
        ]  # fmt: skip


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the collector of cycles, which looks again and again through a million objects that have none."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _searches(connection: Connection, query: Select[Any], boxes: Select[Any]) -> list[PhotoSearch]:
    # The searches first: a box is written with its search, so that none is missing of those that are read.
    rows = connection.execute(query).all()
    added: dict[str, list[AddedBox]] = defaultdict(list)
    for search, x1, y1, x2, y2, species, before_reveal in connection.execute(boxes):
        added[search].append(AddedBox(box=(x1, y1, x2, y2), species=species, before_reveal=before_reveal))
    found = []
    for row in rows:
        values = dict(zip(_SEARCH, row, strict=True))
        found.append(PhotoSearch(**values, added=tuple(added[values["uuid"]])))
    return found
