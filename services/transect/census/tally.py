"""From unique animals to the table: seen, unique, per transect, estimated. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transect.census.animals import Animals
from transect.census.coverage import Coverage
from transect.census.estimate import Estimate, add_strata, jolly2, total_coverage
from transect.census.observations import Observations
from transect.census.survey import SurveySpec

IntArray = NDArray[np.int64]

_NOTHING_FLOWN = "No transect was flown in a stratum, so there is no total."


@dataclass(frozen=True)
class SpeciesRow:
    """One line of the result.

    `seen` counts boxes in photos with a position, `seen_unplaced` those in photos without one, `unique` each
    animal once, `outside` those of them that lie in no stratum or transect. `estimate`, `se` and `ci95` are for
    the whole study area (None where they do not exist; `note` says why). `area_km2` is the ground that was
    sampled, `density_per_km2` the animals per km2 of it.
    """

    species: str
    seen: int
    seen_unplaced: int
    unique: int
    outside: int
    estimate: float | None
    se: float | None
    ci95: tuple[float, float] | None
    density_per_km2: float | None
    area_km2: float
    note: str = ""


@dataclass(frozen=True)
class UnitCount:
    """Unique animals of one species in one transect of one stratum: one y_i and z_i of Jolly's method."""

    stratum: str
    transect: str
    species: str
    area_km2: float
    count: int


@dataclass(frozen=True)
class StratumEstimate:
    """The estimate for a species in a stratum; `stratum` is `all` for the sum of several."""

    stratum: str
    species: str
    estimate: Estimate


@dataclass(frozen=True)
class Tally:
    """Everything that was counted and estimated."""

    rows: tuple[SpeciesRow, ...]
    units: tuple[UnitCount, ...]
    estimates: tuple[StratumEstimate, ...]


def tally(
    names: Sequence[str],
    observations: Observations,
    animals: Animals,
    coverage: Coverage,
    spec: SurveySpec,
) -> Tally:
    """Count and estimate every species in `names`; the animals' species number into it."""
    rows: list[SpeciesRow] = []
    units: list[UnitCount] = []
    estimates: list[StratumEstimate] = []
    for number, name in enumerate(names):
        mine = animals.species == number
        counted = [
            UnitCount(unit.stratum, unit.transect, name, unit.area_km2, int((mine & (animals.unit == index)).sum()))
            for index, unit in enumerate(coverage.units)
        ]
        parts = [
            StratumEstimate(region.name, name, _estimate(region.area_km2, region.transects_possible, counts, spec))
            for region in coverage.regions
            for counts in [[unit for unit in counted if unit.stratum == region.name]]
        ]
        whole = add_strata([part.estimate for part in parts]) if parts else None
        units += counted
        estimates += parts
        if whole is not None and len(parts) > 1:
            estimates.append(StratumEstimate("all", name, whole))
        rows.append(
            _row(name, observations.placed[observations.species == number], animals.unit[mine], coverage, whole)
        )
    return Tally(tuple(rows), tuple(units), tuple(estimates))


def _row(
    name: str, boxes_placed: NDArray[np.bool_], units: IntArray, coverage: Coverage, whole: Estimate | None
) -> SpeciesRow:
    row = SpeciesRow(
        species=name,
        seen=int(boxes_placed.sum()),
        seen_unplaced=int((~boxes_placed).sum()),
        unique=len(units),
        outside=int((units < 0).sum()) if coverage.regions else 0,
        estimate=None,
        se=None,
        ci95=None,
        density_per_km2=len(units) / coverage.area_km2 if coverage.area_km2 > 0 else None,
        area_km2=coverage.area_km2,
        note="survey.yaml names no strata, so there is nothing to estimate for.",
    )
    if whole is None:
        return row
    return replace(
        row,
        estimate=whole.estimate,
        se=whole.se,
        ci95=whole.ci95,
        density_per_km2=whole.density,
        area_km2=whole.area_km2,
        note=whole.note,
    )


def _estimate(
    area_km2: float, transects_possible: float | None, counts: Sequence[UnitCount], spec: SurveySpec
) -> Estimate:
    if not counts:
        return Estimate("total" if spec.sampling == "total" else "jolly2", 0, 0, 0.0, None, None, note=_NOTHING_FLOWN)
    if spec.sampling == "total":
        return total_coverage(sum(one.count for one in counts), sum(one.area_km2 for one in counts), area_km2)
    return jolly2([one.count for one in counts], [one.area_km2 for one in counts], area_km2, transects_possible)
