"""The tally: animals seen, unique, corrected, by transect, and estimated. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray, IntArray
from transect.census.estimates.correction import Correction, corrected
from transect.census.estimates.estimate import (
    DEFAULT_METHOD,
    Estimate,
    Method,
    StripMethod,
    add_strata,
    estimate_strip,
    total_coverage,
)
from transect.census.estimates.ground import SearchEffort
from transect.census.estimates.intervals import StripSample
from transect.census.ground.coverage import Coverage, assign_to_units
from transect.census.ground.searched import SearchedGround
from transect.census.inputs.survey import SurveySpec
from transect.census.sightings.animals import Animals
from transect.census.sightings.observations import Observations

UNIT_REACH_M = 10.0
"""Tolerance for assignment to a transect: a mean over photos, or a GPS error, may put a position just outside of it."""

_NOTHING_FLOWN = "No transect was flown in a stratum, so there is no total."


@dataclass(frozen=True, kw_only=True)
class SpeciesRow:
    """One line of the result.

    `seen` counts boxes in photos with a position, `seen_unplaced` those in photos without one, `unique` each
    animal once, `outside` those of them that lie in no stratum or transect. `single_look` is the expected count with
    one photo of every place: each box weighted by 1 / the photos that show its place; `searched_mpx` are the megapixels
    of such a look (0: not known). `corrected` is the count after the correction (None where there is none): of
    `single_look` where the detector's errors are corrected, else of `unique`. `estimate`, `se` and `ci95` are for the
    whole study area (None where they do not exist; `note` has the reason). `area_km2` is the sampled ground,
    `density_per_km2` the animals per km2 of the study area; without strata, of the photographed ground.

    `detector` is whether the model's validation applies to this survey (applicability/state.py). Where it does not, the
    detector's errors are not corrected, the limits are those of sampling alone, and the corrected numbers are
    `doubtful` (as `corrected`), `doubtful_estimate` and `doubtful_ci95`.
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
    corrected: float | None = None
    single_look: float = 0.0
    detector: str = "not known"
    doubtful: float | None = None
    doubtful_estimate: float | None = None
    doubtful_ci95: tuple[float, float] | None = None
    searched_mpx: float = 0.0


@dataclass(frozen=True, kw_only=True)
class UnitCount:
    """Unique animals of one species in one transect of one stratum: one y_i and z_i of Jolly's method.

    `single_look`, `seen` (boxes) and `searched_mpx`: see SpeciesRow.
    """

    stratum: str
    transect: str
    species: str
    area_km2: float
    count: int
    single_look: float = 0.0
    seen: int = 0
    searched_mpx: float = 0.0


@dataclass(frozen=True)
class StratumEstimate:
    """The estimate for a species in a stratum; `stratum` is `all` for the sum of several.

    `uncorrected` is the estimate from unique animals; None where nothing was corrected.
    """

    stratum: str
    species: str
    estimate: Estimate
    uncorrected: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class StratumSample:
    """The transects of one stratum as a species was counted on them; none where `areas` is empty.

    `counts` are unique animals, `single_look` the expected counts of one look at each place; empty where there was only
    one look, or it is not known. `searched_mpx` are the megapixels of such a look; empty where not known.
    """

    stratum: str
    stratum_km2: float
    transects_possible: float | None
    counts: tuple[int, ...]
    areas: tuple[float, ...]
    single_look: tuple[float, ...] = ()
    searched_mpx: tuple[float, ...] = ()


@dataclass(frozen=True)
class Tally:
    """All counts and estimates; `corrections` are in the order of the rows, if there are any.

    `doubtful` are the estimates with a species' correction that was not applied, since it is not validated here.
    """

    rows: tuple[SpeciesRow, ...]
    units: tuple[UnitCount, ...]
    estimates: tuple[StratumEstimate, ...]
    corrections: tuple[Correction, ...] = ()
    doubtful: tuple[StratumEstimate, ...] = ()


def tally(
    names: Sequence[str],
    observations: Observations,
    animals: Animals,
    coverage: Coverage,
    spec: SurveySpec,
    *,
    method: StripMethod = DEFAULT_METHOD,
    corrections: Mapping[str, Correction] | None = None,
    searched: SearchedGround | None = None,
) -> Tally:
    """Count and estimate every species in `names`; the animals' species are indices into it.

    `method` is for strip samples; `corrections` are by species. Raises ValueError where one of them subtracts the
    false alarms of the ground and `searched` is None.
    """
    if searched is None and any(one.ground is not None for one in (corrections or {}).values()):
        raise ValueError("the alarms of the ground cannot be taken off without the area that was searched")
    how: Method = "total" if spec.sampling == "total" else method
    boxes = _Boxes.of(observations, coverage)
    rows: list[SpeciesRow] = []
    units: list[UnitCount] = []
    estimates: list[StratumEstimate] = []
    for number, name in enumerate(names):
        mine = animals.unit[animals.species == number]
        counted = _unit_counts(name, mine, boxes.of_species(number), coverage, searched)
        correction = (corrections or {}).get(name)
        found = estimate_species(name, _samples(counted, coverage), how, correction)
        units += counted
        estimates += found
        whole = found[-1].estimate if found else None
        looked = 0.0 if searched is None else searched.whole
        rows.append(_row(name, boxes.of_species(number), mine, coverage, whole, correction=correction, mpx=looked))
    given = tuple(corrections[name] for name in names if name in corrections) if corrections else ()
    return Tally(tuple(rows), tuple(units), tuple(estimates), given)


def with_doubtful(counted: Tally, doubtful: Tally, states: Mapping[str, str]) -> Tally:
    """`counted` with each species' state and, where its correction is not applied, the numbers of `doubtful`."""
    rows, doubted = [], set[str]()
    for row, other in zip(counted.rows, doubtful.rows, strict=True):
        state = states[row.species]
        if state != "not validated here" or other.corrected == row.corrected:
            rows.append(replace(row, detector=state))
            continue
        doubted.add(row.species)
        rows.append(
            replace(
                row,
                detector=state,
                doubtful=other.corrected,
                doubtful_estimate=other.estimate,
                doubtful_ci95=other.ci95,
            )
        )
    left_out = tuple(one for one in doubtful.estimates if one.species in doubted)
    return replace(counted, rows=tuple(rows), doubtful=left_out)


def estimate_species(
    species: str, samples: Sequence[StratumSample], method: Method, correction: Correction | None = None
) -> list[StratumEstimate]:
    """The estimate of `species` in each stratum and, where there are several, their sum as stratum `all`.

    The correction of a detector's errors starts from the samples' `single_look`, any other from their `counts`.
    """
    parts = [(sample.stratum, [sample]) for sample in samples]
    if len(samples) > 1:
        parts.append(("all", list(samples)))
    plain = [(stratum, _estimate(part, method)) for stratum, part in parts]
    if correction is None or not correction.applies:
        return [StratumEstimate(stratum, species, estimate) for stratum, estimate in plain]
    looked = plain
    if correction.detector is not None:
        looked = [(stratum, _estimate(part, method, single_look=True)) for stratum, part in parts]
    return [
        StratumEstimate(stratum, species, corrected(start, correction, _searched(part)), estimate)
        for (stratum, estimate), (_, start), (_, part) in zip(plain, looked, parts, strict=True)
    ]


def _searched(samples: Sequence[StratumSample]) -> SearchEffort | None:
    """The searched megapixels of all samples; None where they are not known of one."""
    if not all(len(one.searched_mpx) == len(one.areas) > 0 for one in samples):
        return None
    sampled = [sum(one.searched_mpx) for one in samples]
    area = sum(mpx * one.stratum_km2 / sum(one.areas) for mpx, one in zip(sampled, samples, strict=True))
    return SearchEffort(sum(sampled), area)


def _samples(counted: Sequence[UnitCount], coverage: Coverage) -> list[StratumSample]:
    samples = []
    for region in coverage.regions:
        mine = [unit for unit in counted if unit.stratum == region.name]
        samples.append(
            StratumSample(
                stratum=region.name,
                stratum_km2=region.area_km2,
                transects_possible=region.transects_possible,
                counts=tuple(unit.count for unit in mine),
                areas=tuple(unit.area_km2 for unit in mine),
                single_look=tuple(unit.single_look for unit in mine),
                searched_mpx=tuple(unit.searched_mpx for unit in mine),
            )
        )
    return samples


def _estimate(samples: Sequence[StratumSample], method: Method, *, single_look: bool = False) -> Estimate:
    """The total of `samples`; without a number where no transect was flown in one of them."""
    counts: list[Sequence[float]] = [(one.single_look if single_look else ()) or one.counts for one in samples]
    if not all(sample.areas for sample in samples):
        flown = [sample for sample in samples if sample.areas]
        seen, area = sum(sum(mine) for mine in counts), sum(sum(sample.areas) for sample in flown)
        ground = sum(sample.stratum_km2 for sample in samples)
        n = 0 if method == "total" else sum(len(sample.areas) for sample in flown)
        return Estimate(
            method=method,
            n=n,
            seen=seen,
            area_km2=area,
            density=None,
            estimate=None,
            note=_NOTHING_FLOWN,
            stratum_km2=ground,
        )
    if method == "total":
        return add_strata(
            [
                total_coverage(sum(mine), sum(one.areas), one.stratum_km2)
                for mine, one in zip(counts, samples, strict=True)
            ]
        )
    return estimate_strip(
        [
            StripSample.of(mine, one.areas, one.stratum_km2, one.transects_possible)
            for mine, one in zip(counts, samples, strict=True)
        ],
        method,
    )


@dataclass(frozen=True)
class _Boxes:
    """Boxes: species, whether the photo has a position, weight 1 / visits (0: does not count), and unit (-1: none)."""

    species: IntArray
    placed: NDArray[np.bool_]
    weight: FloatArray
    unit: IntArray

    @classmethod
    def of(cls, observations: Observations, coverage: Coverage) -> "_Boxes":
        rows = np.flatnonzero(observations.visits > 0)
        unit = np.full(len(observations), -1, np.int64)
        unit[rows] = assign_to_units(observations.xy[rows], coverage, UNIT_REACH_M)
        return cls(observations.species, observations.placed, observations.weight, unit)

    def of_species(self, number: int) -> "_Boxes":
        mine = self.species == number
        return _Boxes(self.species[mine], self.placed[mine], self.weight[mine], self.unit[mine])


def _unit_counts(
    name: str, animal_units: IntArray, boxes: _Boxes, coverage: Coverage, searched: SearchedGround | None
) -> list[UnitCount]:
    many, inside = len(coverage.units), boxes.unit >= 0
    counts = np.bincount(animal_units[animal_units >= 0], minlength=many)
    looks = np.bincount(boxes.unit[inside], boxes.weight[inside], minlength=many)
    seen = np.bincount(boxes.unit[inside], minlength=many)
    mpx = (0.0,) * many if searched is None else searched.units
    return [
        UnitCount(
            stratum=one.stratum,
            transect=one.transect,
            species=name,
            area_km2=one.area_km2,
            count=int(count),
            single_look=float(look),
            seen=int(boxes_seen),
            searched_mpx=looked,
        )
        for one, count, look, boxes_seen, looked in zip(coverage.units, counts, looks, seen, mpx, strict=True)
    ]


def _row(
    name: str,
    boxes: _Boxes,
    units: IntArray,
    coverage: Coverage,
    whole: Estimate | None,
    *,
    correction: Correction | None,
    mpx: float,
) -> SpeciesRow:
    why = "" if correction is None else correction.note
    single_look, count, right = float(boxes.weight.sum()), float(len(units)), None
    if correction is not None and correction.applies:
        count = right = correction.of(count if correction.detector is None else single_look, mpx)
    row = SpeciesRow(
        species=name,
        seen=int(boxes.placed.sum()),
        seen_unplaced=int((~boxes.placed).sum()),
        unique=len(units),
        outside=int((units < 0).sum()) if coverage.regions else 0,
        estimate=None,
        se=None,
        ci95=None,
        density_per_km2=count / coverage.area_km2 if coverage.area_km2 > 0 else None,
        area_km2=coverage.area_km2,
        note=_joined("survey.yaml names no strata, so there is nothing to estimate for.", why),
        corrected=right,
        single_look=single_look,
        searched_mpx=mpx,
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
        note=_joined(whole.note, why),
    )


def _joined(*notes: str) -> str:
    return " ".join(note for note in notes if note)
