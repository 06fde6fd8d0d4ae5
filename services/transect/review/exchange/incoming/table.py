"""Read decisions.csv as people and spreadsheets leave it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from transect.census.inputs.table import TableRow, read_table
from transect.census.outputs.writers import unescape_formula
from transect.errors import InputError
from transect.review.decisions.decision import AddedBox, Decision, Drawn, PhotoSearch, PixelBox
from transect.review.exchange.incoming.marks import set_verdict
from transect.review.exchange.known import KEY_LENGTH, KnownItems, decision_uuid, listed
from transect.review.exchange.terms import COLUMNS

_ITEMS = ("box", "photo", "added")
_YES, _NO = ("yes", "true", "1", "y", "ja", "wahr"), ("no", "false", "0", "n", "nein", "falsch")
_DONE = "done"


@dataclass(frozen=True)
class _Line:
    """A row with its text as it was before a spreadsheet escaped it."""

    row: TableRow

    @property
    def where(self) -> str:
        return f"{self.row.path} line {self.row.line}"

    def text(self, column: str) -> str:
        return unescape_formula(self.row.cells.get(column, ""))

    def flag(self, column: str, otherwise: bool) -> bool:
        cell = self.text(column).casefold()
        if cell in ("", *_YES, *_NO):
            return cell in _YES if cell else otherwise
        raise self.row.problem(column, f"{cell!r} is neither yes nor no")

    def milliseconds(self) -> int | None:
        seconds = self.row.number("seconds")
        if seconds is not None and seconds < 0:
            raise self.row.problem("seconds", f"{seconds:g} is less than no time")
        return None if seconds is None else round(1000 * seconds)

    def time(self) -> datetime | None:
        cell = self.text("decided_at")
        try:
            found = datetime.fromisoformat(cell) if cell else None
        except ValueError as error:
            raise self.row.problem(
                "decided_at", f"{cell!r} is no time; write 2026-11-30T09:15:00Z or leave it empty"
            ) from error
        return None if found is None else (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)

    def given_uuid(self) -> str:
        cell = self.text("uuid")
        try:
            return str(uuid.UUID(cell)) if cell else ""
        except ValueError as error:
            raise self.row.problem("uuid", f"{cell!r} is no uuid; leave it empty") from error

    def corners(self) -> PixelBox:
        x1, y1, x2, y2 = (self._corner(name) for name in ("x1", "y1", "x2", "y2"))
        return x1, y1, x2, y2

    def _corner(self, column: str) -> float:
        value = self.row.number(column)
        if value is None:
            raise self.row.problem(column, "an added animal needs all four corners of its box")
        return value


@dataclass(frozen=True)
class TableDecisions:
    """What a table says, and the uuids that it brought itself."""

    decisions: tuple[Decision, ...]
    searches: tuple[PhotoSearch, ...]
    given: frozenset[str]
    rows: int


def read_decisions_csv(path: Path, known: KnownItems, reviewer: str | None) -> TableDecisions:
    """The decisions of a table. A reviewer in a row wins over `reviewer`.

    Raises InputError, naming file and line, for the first row that cannot be taken.
    """
    rows = read_table(path, ("item", "verdict", "key"), InputError, known=COLUMNS, whole_end=True)
    lines = [_Line(row) for row in rows]
    by_item: dict[str, list[_Line]] = {item: [] for item in _ITEMS}
    for line in lines:
        item = line.text("item").casefold()
        if item not in by_item:
            raise line.row.problem("item", f"{line.text('item')!r} is none of {listed(_ITEMS)}")
        by_item[item].append(line)
    given: dict[str, str] = {}
    decisions = _decisions(by_item["box"], known, reviewer, given)
    searches = _searches(by_item["photo"], by_item["added"], known, reviewer, given)
    return TableDecisions(tuple(decisions), tuple(searches), frozenset(given), len(lines))


def _decisions(
    lines: Sequence[_Line], known: KnownItems, reviewer: str | None, given: dict[str, str]
) -> list[Decision]:
    seen: dict[tuple[str, str], str] = {}
    found = []
    for line in lines:
        key, where = _key(line), line.where
        box = known.box_keyed(key, where)
        _check_in_place(line, known.photos[box.photo_sha256].image, box.species)
        verdict = set_verdict(line.text("verdict"), where)
        new = line.text("new_species")
        if verdict is None:
            if new:
                raise line.row.problem("verdict", "the row names a new species; write the verdict species too")
            continue
        known.check_unchanged(box.photo_sha256, where)
        species = known.species_named(new, where) if new else ""
        if verdict == "species" and not new:
            raise line.row.problem("new_species", "the verdict species needs the species that it is")
        if verdict == "species" and species == box.species:
            raise line.row.problem("new_species", f"the box is of {species} already; write the verdict keep")
        if verdict != "species" and species not in ("", box.species):
            raise line.row.problem("verdict", f"{verdict} contradicts the new species {species}; write species")
        made = Decision(
            uuid=_unused(line, given),
            photo_sha256=box.photo_sha256,
            box_key=key,
            verdict=verdict,
            reviewer=_reviewer(line, reviewer),
            drawn=known.drawn_box(key),
            species=species if verdict == "species" else "",
            decided_at=line.time(),
            milliseconds=line.milliseconds(),
            note=line.text("note"),
        )
        _check_once(seen, (key, made.reviewer), line)
        found.append(made if made.uuid else replace(made, uuid=decision_uuid(known.review_id, made)))
    return found


def _searches(
    photos: Sequence[_Line],
    added: Sequence[_Line],
    known: KnownItems,
    reviewer: str | None,
    given: dict[str, str],
) -> list[PhotoSearch]:
    seen: dict[tuple[str, str], str] = {}
    found: dict[tuple[str, str], PhotoSearch] = {}
    for line in photos:
        photo = _photo(line, known)
        verdict = line.text("verdict").casefold()
        if verdict not in ("", _DONE):
            raise line.row.problem(
                "verdict", f"{line.text('verdict')!r} is not {_DONE}, which is all that a photo can be"
            )
        if not verdict:
            continue
        known.check_unchanged(photo, line.where)
        person, handed = _reviewer(line, reviewer), _handed(known, photo)
        _check_once(seen, (photo, person), line)
        found[photo, person] = PhotoSearch(
            uuid=_unused(line, given),
            photo_sha256=photo,
            reviewer=person,
            drawn=handed[0],
            blind=line.flag("blind", handed[1]),
            done_at=line.time(),
            milliseconds=line.milliseconds(),
            note=line.text("note"),
        )
    animals: dict[tuple[str, str], list[AddedBox]] = {}
    for line in added:
        search = _search_of(line, known, reviewer, found)
        animals.setdefault((search.photo_sha256, search.reviewer), []).append(_animal(line, known, search))
    whole = [
        replace(one, added=tuple(sorted(animals.get(place, ()), key=lambda animal: (animal.box, animal.species))))
        for place, one in found.items()
    ]
    return [one if one.uuid else replace(one, uuid=decision_uuid(known.review_id, one)) for one in whole]


def _handed(known: KnownItems, photo: str) -> tuple[Drawn, bool]:
    """How the newest batch handed a photo out to be searched: drawn by what, and blind or not."""
    for _, batch in sorted(known.batches.items(), reverse=True):
        if photo in batch.searches:
            return batch.searches[photo].drawn, batch.searches[photo].blind
    return "choice", False


def _search_of(
    line: _Line, known: KnownItems, reviewer: str | None, found: Mapping[tuple[str, str], PhotoSearch]
) -> PhotoSearch:
    """The search that an added animal belongs to: by its own reviewer, else by the only one of the photo."""
    photo = _photo(line, known)
    done = [one for (place, _), one in found.items() if place == photo]
    if not done:
        raise InputError(
            f"{line.where} adds an animal to {known.photos[photo].image}, whose row photo is not marked {_DONE}."
        )
    person = line.text("reviewer") or reviewer
    mine = [one for one in done if one.reviewer == person] if person else done
    if len(mine) == 1:
        return mine[0]
    if not line.text("reviewer") and len(done) == 1:
        return done[0]
    if not person:
        raise line.row.problem("reviewer", "several people searched the photo; name the one who saw this animal")
    raise line.row.problem("reviewer", f"{person} has not marked {known.photos[photo].image} {_DONE}")


def _animal(line: _Line, known: KnownItems, search: PhotoSearch) -> AddedBox:
    if line.text("verdict"):
        raise line.row.problem("verdict", "an added animal has none; leave the cell empty")
    name = line.text("species") or line.text("new_species")
    if not name:
        raise line.row.problem("species", "an added animal needs its species")
    before = line.flag("before_reveal", search.blind)
    if before and not search.blind:
        raise line.row.problem("before_reveal", "the photo was not searched blind, so that nothing was revealed")
    box = known.inside(line.corners(), search.photo_sha256, line.where)
    return AddedBox(box=box, species=known.species_named(name, line.where), before_reveal=before)


def _key(line: _Line) -> str:
    key = line.text("key")
    if not key:
        raise line.row.problem("key", "the cell is empty; the row was cut off, or has a cell too few")
    return key


def _photo(line: _Line, known: KnownItems) -> str:
    key, image = line.text("key"), line.text("image")
    added = line.text("item").casefold() == "added"
    if key or not added:
        key = _key(line)
        if key not in known.photos:
            if known.photo_named(image) is not None and key not in known.boxes and len(key) == KEY_LENGTH:
                raise known.unknown_photo(key, image, line.where)
            raise line.row.problem("key", f"the photo {key[:12]!r} is none of this review{known.why_not(key)}")
        _check_in_place(line, known.photos[key].image, "")
        return key
    if not image:
        raise line.row.problem("image", "an added animal needs its photo, by name or by key")
    found = known.photo_named(image)
    if found is None:
        raise line.row.problem("image", f"{image!r} is no photo of this review; write its name as the other rows do")
    return found


def _check_in_place(line: _Line, image: str, species: str) -> None:
    """Raise InputError where a row's cells are those of several items, as after sorting one column alone."""
    there = line.text("image")
    if there and there != image:
        raise line.row.problem(
            "image", f"{there!r} is not {image!r}, to which the key belongs; the columns were sorted apart"
        )
    if species and line.text("species") and line.text("species").casefold() != species.casefold():
        raise line.row.problem(
            "species",
            f"the box is of {species}; leave this cell, and write the verdict species and the other one as new_species",
        )


def _reviewer(line: _Line, reviewer: str | None) -> str:
    name = line.text("reviewer") or reviewer
    if not name:
        raise line.row.problem("reviewer", "nobody is named; fill the cell in, or name the person with --reviewer")
    return name


def _unused(line: _Line, given: dict[str, str]) -> str:
    """The row's own uuid, empty for none. Raises InputError for one of another row."""
    own = line.given_uuid()
    if own and own in given:
        raise line.row.problem("uuid", f"{own} is that of {given[own]} too; leave it empty")
    if own:
        given[own] = f"line {line.row.line}"
    return own


def _check_once(seen: dict[tuple[str, str], str], place: tuple[str, str], line: _Line) -> None:
    if place in seen:
        raise InputError(f"{line.where} decides the same as {seen[place]}, by {place[1]} too; keep one of them.")
    seen[place] = f"line {line.row.line}"
