"""The plan of a review: how many crops and photos come next, their cost, and what limits they should give. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from transect.arrays import FloatArray, IntArray
from transect.census.estimates.intervals import Limits
from transect.errors import InputError
from transect.review.estimator.allocation import (
    PlannedCell,
    allocate_for_cv,
    allocate_for_seconds,
    expected_cv,
    seconds_of,
)
from transect.review.estimator.flown import Flown
from transect.review.outcome.checked import ALL, CheckedReview
from transect.review.population.order import next_in_order
from transect.review.population.plan import (
    PILOT_BOXES,
    PILOT_PHOTOS,
    Costs,
    expected_total,
    next_numbers,
    planned_cells,
)
from transect.review.verdicts.truth import Truth

# So many times taken are the median of a person, and not of how a first try went.
_TIMED = 10


@dataclass(frozen=True)
class Target:
    """What a plan aims at: a coefficient of variation of the flown total of `species`, or a time in minutes."""

    cv: float | None = 0.10
    minutes: float | None = None
    species: str = ALL

    def __post_init__(self) -> None:
        if (self.cv is None) == (self.minutes is None):
            raise InputError("A plan aims at a coefficient of variation (--cv) or at a time (--minutes): give one.")
        if self.cv is not None and not 0 < self.cv < 1:
            raise InputError(f"--cv {self.cv:g} is no aim: give a share between 0 and 1, such as 0.10 for 10%.")
        if self.minutes is not None and not (self.minutes > 0 and math.isfinite(self.minutes)):
            raise InputError(f"--minutes {self.minutes:g} is no time: give minutes above 0.")


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One bin or group of a plan: its name, how many items it has, how many are reviewed, and how many come next."""

    name: str
    kind: str
    population: int
    reviewed: int
    following: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A species, or all: the animals on the flown ground as far as known, and the limits now and after the plan.

    Limits are None where too little was reviewed; `cv_after` and `limits_after` are what the plan should give.
    """

    species: str
    total: float
    limits_now: Limits | None
    cv_after: float
    limits_after: Limits


@dataclass(frozen=True, kw_only=True)
class ReviewPlan:
    """What comes next. `pilot` is true where it is the first few of each bin and group, from which the rest is planned.

    `boxes` and `photos` are rows of the population in the order of the review; `later_seconds` is what remains to be
    done after these to reach the aim.
    """

    target: Target
    pilot: bool
    costs: Costs
    measured: bool
    steps: tuple[PlannedStep, ...]
    expectations: tuple[Expectation, ...]
    boxes: IntArray
    photos: IntArray
    later_seconds: float

    @property
    def seconds(self) -> float:
        """The time that what comes next takes."""
        return sum(one.seconds for one in self.steps)


def plan_review(truth: Truth, target: Target) -> ReviewPlan:
    """The plan from what was decided, and from scores for what was not.

    Raises InputError for a target of a species that the review does not have.
    """
    items, review = truth.items, CheckedReview(truth)
    known = {one.species: one.flown for one in review.species}
    if target.species not in known:
        raise InputError(
            f"The review has no species {target.species!r}; it has {', '.join(items.manifest.named)}, and {ALL}."
        )
    costs, measured = measured_costs(truth)
    cells = {name: planned_cells(review.cells, flown, _score(truth, name), costs) for name, flown in known.items()}
    totals = {name: expected_total(review.cells, flown, _score(truth, name)) for name, flown in known.items()}
    wanted = _numbers(cells[target.species], totals[target.species], target, _reviewed(known[target.species]))
    sampled = _done(truth)
    following = next_numbers(cells[ALL], wanted, sampled)
    first = np.maximum(np.array([_pilot(one, kind) for one, kind in _kinds(truth, cells[ALL])]) - sampled, 0)
    pilot = bool(first.any())
    step = np.minimum(first, np.array([one.population for one in cells[ALL]]) - sampled) if pilot else following
    many = len(items.population.bins)
    cost = np.array([one.cost for one in cells[ALL]])
    later = float((np.maximum(following - step, 0) * cost).sum()) if pilot else 0.0
    reached = sampled + np.maximum(following, step)
    return ReviewPlan(
        target=target,
        pilot=pilot,
        costs=costs,
        measured=measured,
        steps=_steps(truth, cells[ALL], sampled, step),
        expectations=tuple(
            _expectation(name, known[name], cells[name], done=sampled, reached=reached, prior=totals[name])
            for name in known
        ),
        boxes=next_in_order(
            items.population.bin, items.population.box_rank, taken=truth.box_decided, wanted=step[:many]
        ),
        photos=next_in_order(
            items.population.group, items.population.photo_rank, taken=truth.photo_searched, wanted=step[many:]
        ),
        later_seconds=later,
    )


def measured_costs(truth: Truth) -> tuple[Costs, bool]:
    """Seconds for a crop and for a photo: the medians of what people took, where they say it, else the usual ones."""
    boxes = [one.milliseconds for ones in truth.decided.values() for one in ones if one.milliseconds]
    photos = [one.milliseconds for ones in truth.searches.values() for one in ones if one.milliseconds]
    usual = Costs()
    box = median(boxes) / 1000 if len(boxes) >= _TIMED else usual.box
    photo = median(photos) / 1000 if len(photos) >= _TIMED else usual.photo
    return Costs(max(box, 0.1), max(photo, 1.0)), len(boxes) >= _TIMED or len(photos) >= _TIMED


def _numbers(cells: Sequence[PlannedCell], total: float, target: Target, reviewed: IntArray) -> FloatArray:
    if target.cv is not None:
        return allocate_for_cv(cells, total, target.cv)
    spent = seconds_of(cells, reviewed.astype(np.float64))
    return np.floor(allocate_for_seconds(cells, spent + (target.minutes or 0.0) * 60) + 1e-9)


def _score(truth: Truth, species: str) -> FloatArray:
    """The scores of boxes (n,) as the probability that each is an animal of `species`."""
    boxes, names = truth.items.boxes, truth.items.manifest.species
    if species == ALL:
        return boxes.score
    if species not in names:
        return np.zeros(len(boxes))
    return np.where(boxes.species == names.index(species), boxes.score, 0.0)


def _reviewed(flown: Flown) -> IntArray:
    return np.array([one.reviewed for one in (*flown.bins[0::2], *flown.groups[0::2])], np.int64)


def _done(truth: Truth) -> IntArray:
    """The decided items of each bin and group that nobody chose, also those that wait for one before them."""
    population = truth.items.population
    boxes = truth.box_decided & ~truth.box_chosen
    photos = truth.photo_searched & ~truth.photo_chosen
    return np.concatenate(
        [
            np.bincount(population.bin[boxes], minlength=len(population.bins)),
            np.bincount(population.group[photos], minlength=len(population.groups)),
        ]
    ).astype(np.int64)


def _kinds(truth: Truth, cells: Sequence[PlannedCell]) -> list[tuple[PlannedCell, str]]:
    many = len(truth.items.population.bins)
    return [(one, "crops" if number < many else "photos") for number, one in enumerate(cells)]


def _pilot(cell: PlannedCell, kind: str) -> int:
    return min(PILOT_BOXES if kind == "crops" else PILOT_PHOTOS, cell.population)


def _steps(
    truth: Truth, cells: Sequence[PlannedCell], reviewed: IntArray, following: IntArray
) -> tuple[PlannedStep, ...]:
    population = truth.items.population
    names = [
        f"{one.species} {one.low:.2f} to {min(one.high, 1):.2f}{'' if one.counted else ' (candidates)'}"
        for one in population.bins
    ]
    names += [
        f"{one.low:g} {'or more' if math.isinf(one.high) else f'to {one.high:g}'} expected animals"
        for one in population.groups
    ]
    return tuple(
        PlannedStep(
            name=name,
            kind=kind,
            population=cell.population,
            reviewed=done,
            following=more,
            seconds=more * cell.cost,
        )
        for name, (cell, kind), done, more in zip(
            names, _kinds(truth, cells), reviewed.tolist(), following.tolist(), strict=True
        )
    )


def _expectation(
    name: str, flown: Flown, cells: Sequence[PlannedCell], *, done: IntArray, reached: IntArray, prior: float
) -> Expectation:
    """What a species' number is, and what its limits become.

    Where every cell is known the number is the estimate, and its limits shrink as the standard error that the plan
    expects; before, they are log-normal ones around what the scores lead one to expect.
    """
    after = _expected_error(cells, reached)
    if flown.unknown:
        cv = after / prior if prior > 0 else math.inf
        factor = math.exp(1.96 * math.sqrt(math.log1p(cv**2))) if math.isfinite(cv) else math.inf
        return Expectation(
            species=name, total=prior, limits_now=None, cv_after=cv, limits_after=(prior / factor, prior * factor)
        )
    now = _expected_error(cells, done)
    shrunk = after / now if now > 0 and math.isfinite(now) else 1.0
    total, (low, high) = flown.total, flown.limits
    return Expectation(
        species=name,
        total=total,
        limits_now=(low, high),
        cv_after=after / total if total > 0 else math.inf,
        limits_after=(total - shrunk * (total - low), total + shrunk * (high - total)),
    )


def _expected_error(cells: Sequence[PlannedCell], numbers: IntArray) -> float:
    """The standard error that a plan expects with so many items of each cell reviewed."""
    most = np.minimum(numbers, [one.population for one in cells]).astype(np.float64)
    return expected_cv(cells, most, 1.0)
