"""The numbers of a review: animals on the flown ground and in the study area, as far as people checked. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from transect.arrays import FloatArray
from transect.census.estimates.intervals import Limits
from transect.review.estimator.area import AreaEstimate, StratumDesign
from transect.review.estimator.cells import BoxBin, PhotoGroup
from transect.review.estimator.flown import Flown
from transect.review.folder.items import ReviewItems
from transect.review.population.design import ReviewCells
from transect.review.verdicts.truth import Truth

ALL = "all"
"""The name of the sum of all species, and of all strata."""
_NOT_FLOWN = "No transect was flown in a stratum, so there is no total."
_ONE_TRANSECT = "One transect gives no limits: at least two are needed."
_NONE_FOUND = "People found none; that gives no limits of the study area."


@dataclass(frozen=True, kw_only=True)
class CheckedArea:
    """The estimate of a stratum, or of all together; None for what does not exist, with the reason in `note`.

    `flown` and `flown_limits` are of its flown ground, `lambda_` is by how much predictions understate the scatter
    between transects, and `seen` the weighted animals that people saw, below which no limit lies.
    """

    stratum: str
    n: int
    area_km2: float
    stratum_km2: float
    flown: float | None
    flown_limits: Limits | None
    seen: float
    estimate: float | None = None
    variance: float | None = None
    limits: Limits | None = None
    lambda_: float | None = None
    df: float | None = None
    note: str = ""

    @property
    def se(self) -> float | None:
        """The standard error of the estimate."""
        return None if self.variance is None else math.sqrt(self.variance)


@dataclass(frozen=True, eq=False, kw_only=True)
class Checked:
    """One species, or all: the flown ground, and the study area by stratum; `areas` ends with that of several."""

    species: str
    flown: Flown
    areas: tuple[CheckedArea, ...]

    @property
    def known(self) -> bool:
        """Whether every bin and group has enough reviewed items."""
        return not self.flown.unknown

    @cached_property
    def seen(self) -> float:
        """The weighted animals that people saw."""
        return self.flown.seen

    @cached_property
    def limits(self) -> Limits | None:
        """95% limits of the flown total, not below what people saw; None where a share is unknown."""
        if not self.known:
            return None
        return _floored(self.flown.limits, self.flown.total, self.seen)

    @property
    def whole(self) -> CheckedArea | None:
        """The study area; None without strata."""
        return self.areas[-1] if self.areas else None


class CheckedReview:
    """The numbers of a review for one reading of its unsure boxes: none is an animal, or (`unsure`) each is one."""

    def __init__(self, truth: Truth, *, unsure: bool = False) -> None:
        self.truth, self.unsure = truth, unsure
        self.cells = ReviewCells(truth.items.population, truth.reviewed(unsure=True)) if unsure else truth.cells
        self.designs = designs_of(truth.items)

    @cached_property
    def species(self) -> tuple[Checked, ...]:
        """Each species that may be named, and their sum."""
        named = self.truth.items.manifest.named
        return (*(self._checked(name, name) for name in named), self._checked(ALL, None))

    def _checked(self, shown: str, species: str | None) -> Checked:
        flown = self.truth.flown(species)
        if self.unsure:
            animal = self.truth.is_animal(species, unsure=True)
            flown = self.cells.flown(species, animal, self.truth.missed_weight(species))
        return Checked(species=shown, flown=flown, areas=self._areas(flown))

    def _areas(self, flown: Flown) -> tuple[CheckedArea, ...]:
        items = self.truth.items
        found = [self._area(flown, [design], items, design.name) for design in self.designs]
        missing = [region for region in items.coverage.regions if region.name not in {one.name for one in self.designs}]
        if missing or len(self.designs) > 1:
            found.append(self._area(flown, self.designs, items, ALL, not_flown=bool(missing)))
        return tuple(found)

    def _area(
        self,
        flown: Flown,
        designs: Sequence[StratumDesign],
        items: ReviewItems,
        name: str,
        *,
        not_flown: bool = False,
    ) -> CheckedArea:
        ground = sum(one.area_km2 for one in items.coverage.regions if name in (ALL, one.name))
        units = np.concatenate([one.transects for one in designs]) if designs else np.empty(0, np.int64)
        seen = float(seen_by_transect(flown)[units].sum())
        base = CheckedArea(
            stratum=name,
            n=len(units),
            area_km2=float(sum(one.areas.sum() for one in designs)),
            stratum_km2=ground,
            flown=None,
            flown_limits=None,
            seen=seen,
        )
        if flown.unknown or not designs:
            return base
        area = AreaEstimate(flown, designs)
        total = max(area.total, seen)
        base = replace(base, flown=total, flown_limits=_floored(area.flown_limits, total, seen))
        if not_flown:
            return replace(base, note=_NOT_FLOWN)
        if items.manifest.survey.sampling == "total":
            return _total(base, designs, area)
        estimate = max(area.estimate, seen)
        limits = area.limits(items.manifest.census.method)
        note = "" if limits is not None else (_ONE_TRANSECT if area.spread is None else _NONE_FOUND)
        return replace(
            base,
            estimate=estimate,
            variance=area.variance,
            limits=None if limits is None else _floored(limits, estimate, seen),
            lambda_=area.spread_factor,
            df=area.degrees if area.spread is not None else None,
            note=note,
        )


def designs_of(items: ReviewItems) -> list[StratumDesign]:
    """The strata in which something was flown."""
    found = []
    for region in items.coverage.regions:
        rows = [row for row, one in enumerate(items.coverage.units) if one.stratum == region.name]
        if rows:
            areas = np.array([items.coverage.units[row].area_km2 for row in rows])
            found.append(
                StratumDesign(region.name, np.array(rows, np.int64), areas, region.area_km2, region.transects_possible)
            )
    return found


def seen_by_transect(flown: Flown) -> FloatArray:
    """The weighted animals that people saw on each transect, (n,)."""
    many = len(flown.bins[0].size_by_transect if flown.bins else flown.groups[0].size_by_transect)
    found = np.zeros(many)
    for cell in flown.cells:
        found += np.bincount(cell.transect, cell.value, minlength=many)
    return found


def unknown_cells(review: CheckedReview, flown: Flown) -> list[str]:
    """A phrase for each bin and group of which too little was reviewed, so that its share of the total is unknown."""
    population = review.truth.items.population
    phrases = []
    for number, cells in enumerate(_pairs(flown.bins)):
        one = population.bins[number]
        if any(cell.population and not cell.is_known for cell in cells):
            kind = "counted" if one.counted else "candidate"
            phrases.append(
                f"{sum(cell.population for cell in cells)} {kind} boxes called {one.species} with scores "
                f"{one.low:.2f} to {one.high:.2f}, decided: {sum(cell.reviewed for cell in cells)}"
            )
    for number, groups in enumerate(_pairs(flown.groups)):
        if any(cell.population and not cell.is_known for cell in groups):
            expected = population.groups[number]
            upper = "or more" if math.isinf(expected.high) else f"to {expected.high:g}"
            phrases.append(
                f"{sum(cell.population for cell in groups)} photos with {expected.low:g} {upper} expected animals, "
                f"searched: {sum(cell.reviewed for cell in groups)}"
            )
    return phrases


def _pairs(cells: Sequence[BoxBin] | Sequence[PhotoGroup]) -> list[tuple[BoxBin | PhotoGroup, ...]]:
    """Each cell of the sample with the one of what somebody chose."""
    return [(cells[at], cells[at + 1]) for at in range(0, len(cells), 2)]


def _total(base: CheckedArea, designs: Sequence[StratumDesign], area: AreaEstimate) -> CheckedArea:
    """Everything was flown, or stands for the little that was not: the review alone is uncertain."""
    expanded = [max(one.stratum_area / float(one.areas.sum()), 1.0) for one in designs]
    by_stratum = [
        float(area.flown.estimated[one.transects].sum()) * factor for one, factor in zip(designs, expanded, strict=True)
    ]
    estimate = max(sum(by_stratum), base.seen)
    factor = estimate / base.flown if base.flown else 1.0
    low, high = base.flown_limits or (0.0, 0.0)
    return replace(
        base,
        n=0,
        estimate=estimate,
        variance=area.flown.variance_of(_factors(area.flown, designs, expanded)),
        limits=_floored((low * factor, high * factor), estimate, base.seen),
        note="Total coverage has no sampling error: the limits are those of the review.",
    )


def _factors(flown: Flown, designs: Sequence[StratumDesign], expanded: Sequence[float]) -> FloatArray:
    factors = np.zeros(len(flown.predicted))
    for one, factor in zip(designs, expanded, strict=True):
        factors[one.transects] = factor
    return factors


def _floored(limits: Limits, estimate: float, seen: float) -> Limits:
    """Limits that contain the estimate, and of which none lies below the animals that people saw."""
    return max(min(limits[0], estimate), seen), max(limits[1], estimate, seen)
