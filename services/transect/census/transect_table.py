"""Read counts on transects and areas of strata from CSV files, for counts by other means."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transect.census.counting.tally import StratumSample
from transect.census.inputs.table import TableRow, folded, read_table
from transect.errors import InputError
from transect.wording import count_of

TRANSECT_COLUMNS = ("stratum", "transect", "species", "area_km2", "count")
STRATUM_COLUMNS = ("stratum", "area_km2")
_OPTIONAL = "transects_possible"
_AREA_ROUNDING = 1e-9


@dataclass(frozen=True)
class CountTable:
    """The samples of each species, in order of appearance, by stratum in the order of its file."""

    samples: Mapping[str, tuple[StratumSample, ...]]


@dataclass
class _Transect:
    area: float
    line: int
    counts: dict[str, tuple[int, int]]


def read_count_table(transects: Path, strata: Path) -> CountTable:
    """Read `transects` (stratum, transect, species, area_km2, count) and `strata` (stratum, area_km2 and, if wanted,
    transects_possible).

    A transect without a row for a species has a count of 0; a row with an empty species and no count is a transect
    without animals. Names of strata, transects and species that differ only in case, blanks or composition of accents
    are the same; the first spelling is kept. Raises InputError, naming file, line and column.
    """
    grounds = {row.cells["stratum"]: row for row in _strata_rows(strata)}
    flown: dict[str, dict[str, _Transect]] = {name: {} for name in grounds}
    spelled = {_folded(name): name for name in grounds}
    species: dict[str, str] = {}
    for row in read_table(transects, TRANSECT_COLUMNS, InputError, whole_rows=True):
        name = row.text("stratum")
        stratum = spelled.get(_folded(name))
        if stratum is None:
            raise row.problem("stratum", f"{name!r} is not a stratum of {strata}{_did_you_mean(name, list(flown))}")
        _add(row, flown[stratum], species)
    if not species:
        raise InputError(f"{transects} names no species: there is nothing to estimate.")
    return CountTable(
        {
            name: tuple(_sample(grounds[stratum], flown[stratum], key) for stratum in grounds)
            for key, name in species.items()
        }
    )


def _strata_rows(path: Path) -> Iterator[TableRow]:
    first: dict[str, int] = {}
    for row in read_table(path, STRATUM_COLUMNS, InputError, whole_rows=True):
        name = row.text("stratum")
        if (key := _folded(name)) in first:
            raise row.problem("stratum", f"{name!r} is also on line {first[key]}")
        first[key] = row.line
        yield row
    if not first:
        raise InputError(f"{path} names no stratum below its header line.")


def _add(row: TableRow, flown: dict[str, _Transect], species: dict[str, str]) -> None:
    name, area = row.text("transect"), row.area("area_km2")
    transect = flown.setdefault(_folded(name), _Transect(area, row.line, {}))
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
    key = _folded(animal)
    if key in transect.counts:
        raise row.problem(
            "species", f"{animal!r} on transect {name!r} is also on line {transect.counts[key][1]}; add the counts"
        )
    transect.counts[key] = (count, row.line)
    species.setdefault(key, animal)


def _folded(name: str) -> str:
    """A key for names that ignores case, the number of blanks, and the composition of accents."""
    return " ".join(folded(name).split())


def _sample(row: TableRow, flown: Mapping[str, _Transect], species: str) -> StratumSample:
    name, area = row.cells["stratum"], row.area("area_km2")
    possible = row.number(_OPTIONAL)
    sampled = math.fsum(one.area for one in flown.values())
    if sampled > area * (1 + _AREA_ROUNDING):
        raise row.problem(
            "area_km2", f"stratum {name!r} has {area:g} km2, less than the {sampled:g} km2 of its transects"
        )
    if possible is not None and possible < max(len(flown), 1):
        known = count_of(len(flown), "transect")
        raise row.problem(_OPTIONAL, f"{possible:g} is less than the {known} flown in {name!r}")
    counts = tuple(one.counts.get(species, (0, 0))[0] for one in flown.values())
    return StratumSample(
        stratum=name,
        stratum_km2=area,
        transects_possible=possible,
        counts=counts,
        areas=tuple(one.area for one in flown.values()),
    )


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f", which has {', '.join(known)}"
