"""Counts on transects and areas of strata as CSV files, for people who counted by other means."""

import csv
import difflib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transect.census.tally import StratumSample
from transect.errors import InputError

TRANSECT_COLUMNS = ("stratum", "transect", "species", "area_km2", "count")
STRATUM_COLUMNS = ("stratum", "area_km2")
_OPTIONAL = "transects_possible"
_AREA_ROUNDING = 1e-9


@dataclass(frozen=True)
class CountTable:
    """For each species, in order of appearance, its sample in each stratum, in the order of their file."""

    samples: Mapping[str, tuple[StratumSample, ...]]


@dataclass(frozen=True)
class _Row:
    """A line of a CSV file: `line` is its number in the file, from 1."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def problem(self, column: str, what: str) -> InputError:
        return InputError(f"{self.path} line {self.line}, column {column}: {what}.")

    def text(self, column: str) -> str:
        if not self.cells[column]:
            raise self.problem(column, "the cell is empty")
        return self.cells[column]

    def number(self, column: str) -> float:
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            hint = "; write decimals with a point" if "," in text else ""
            raise self.problem(column, f"{text!r} is not a number{hint}") from None
        if not math.isfinite(value):
            raise self.problem(column, f"{text!r} is not a finite number")
        return value

    def area(self, column: str) -> float:
        value = self.number(column)
        if value <= 0:
            raise self.problem(column, f"an area of {value:g} km2 is not above zero")
        return value

    def count(self, column: str) -> int:
        value = self.number(column)
        if value < 0:
            raise self.problem(column, f"{value:g} animals are fewer than none")
        if value != int(value):
            raise self.problem(column, f"{value:g} is not a whole number of animals")
        return int(value)


@dataclass
class _Transect:
    area: float
    line: int
    counts: dict[str, tuple[int, int]]


def read_count_table(transects: Path, strata: Path) -> CountTable:
    """Read `transects` (stratum, transect, species, area_km2, count) and `strata` (stratum, area_km2 and, if wanted,
    transects_possible).

    A transect without a row for a species counts none of it; a row with an empty species and no count names a
    transect on which nothing was seen. Raises InputError, naming file, line and column.
    """
    grounds = {row.cells["stratum"]: row for row in _strata_rows(strata)}
    flown: dict[str, dict[str, _Transect]] = {name: {} for name in grounds}
    species: dict[str, None] = {}
    for row in _rows(transects, TRANSECT_COLUMNS):
        name = row.text("stratum")
        if name not in flown:
            raise row.problem("stratum", f"{name!r} is not a stratum of {strata}{_did_you_mean(name, list(flown))}")
        _add(row, flown[name], species)
    if not species:
        raise InputError(f"{transects} names no species: there is nothing to estimate.")
    return CountTable({one: tuple(_sample(grounds[name], flown[name], one) for name in grounds) for one in species})


def _strata_rows(path: Path) -> Iterator[_Row]:
    first: dict[str, int] = {}
    for row in _rows(path, STRATUM_COLUMNS):
        name = row.text("stratum")
        if name in first:
            raise row.problem("stratum", f"{name!r} is also on line {first[name]}")
        first[name] = row.line
        yield row
    if not first:
        raise InputError(f"{path} names no stratum below its header line.")


def _add(row: _Row, flown: dict[str, _Transect], species: dict[str, None]) -> None:
    name, area = row.text("transect"), row.area("area_km2")
    transect = flown.setdefault(name, _Transect(area, row.line, {}))
    if abs(area - transect.area) > _AREA_ROUNDING * transect.area:
        raise row.problem(
            "area_km2", f"transect {name!r} has {area:g} km2 here and {transect.area:g} km2 on line {transect.line}"
        )
    animal = row.cells["species"]
    if not animal:
        if row.cells["count"] and row.count("count"):
            raise row.problem("species", f"{row.cells['count']} animals of no species")
        return
    count = row.count("count")
    if animal in transect.counts:
        raise row.problem(
            "species", f"{animal!r} on transect {name!r} is also on line {transect.counts[animal][1]}; add the counts"
        )
    transect.counts[animal] = (count, row.line)
    species[animal] = None


def _sample(row: _Row, flown: Mapping[str, _Transect], species: str) -> StratumSample:
    name, area = row.cells["stratum"], row.area("area_km2")
    possible = row.number(_OPTIONAL) if row.cells.get(_OPTIONAL) else None
    sampled = math.fsum(one.area for one in flown.values())
    if sampled > area * (1 + _AREA_ROUNDING):
        raise row.problem(
            "area_km2", f"stratum {name!r} has {area:g} km2, less than the {sampled:g} km2 of its transects"
        )
    if possible is not None and possible < max(len(flown), 1):
        raise row.problem(_OPTIONAL, f"{possible:g} is less than the {len(flown)} transects flown in {name!r}")
    counts = tuple(one.counts.get(species, (0, 0))[0] for one in flown.values())
    return StratumSample(name, area, possible, counts, tuple(one.area for one in flown.values()))


def _rows(path: Path, required: Sequence[str]) -> Iterator[_Row]:
    text = _text(path)
    header = text.partition("\n")[0]
    # Where a comma is the decimal sign, spreadsheets put semicolons between the columns.
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [cell.strip() for cell in next(reader, [])]
        _check_columns(path, columns, required)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise InputError(
                    f"{path} line {reader.line_num} has {len(cells)} cells, and the header line {len(columns)} columns."
                )
            values = [cell.strip() for cell in cells]
            yield _Row(path, reader.line_num, dict(zip(columns, values, strict=True)))
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not CSV: {error}.") from error


def _check_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in columns]
    if not any(columns):
        raise InputError(f"{path} is empty: its first line names the columns {','.join(required)}.")
    if missing:
        raise InputError(
            f"{path} line 1 lacks the column {missing[0]}: it must name {','.join(required)}, "
            f"and names {','.join(columns)}."
        )
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise InputError(f"{path} line 1 names the column {twice[0]} twice.")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} line {line} is not UTF-8 text; save the table as CSV in UTF-8.") from error
    if "\0" in text:
        raise InputError(f"{path} is no text file; save the table as CSV in UTF-8.")
    return text


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f", which has {', '.join(known)}"
