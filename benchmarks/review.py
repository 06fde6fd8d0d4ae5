"""How often the limits of a count that people have checked hold the truth, in simulated surveys of herding animals.

    python -m benchmarks.review [--surveys 300] [--markdown]

Each survey has 200 possible transects of 50 photos, of which 20 are flown. Herds of geometric size stand on single
photos; the detector's recall varies from photo to photo (beta, mean 0.8), its false alarms are everywhere. A person
decides on crops (3 s each) and searches photos in full (60 s), drawn and allotted as `transect review` does it: a
pilot, then the best use of the rest. The second table spends the same minutes in other ways on the same surveys: photos
at random, PPI++ on photos, and DISCount. The third adds the 150 least certain boxes by choice. Limits must hold in 93
to 97% of the surveys and the error must be the smallest of the four: else the exit code is 1.
"""

import argparse
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.reporting import Bar, Report, Table, cores

from transect.arrays import FloatArray, IntArray
from transect.census.estimates.intervals import Limits
from transect.review.estimator.allocation import PlannedCell, allocate_for_seconds
from transect.review.estimator.area import AreaEstimate, StratumDesign
from transect.review.estimator.flown import Flown
from transect.review.population.design import Population, ReviewCells, Reviewed
from transect.review.population.order import next_in_order
from transect.review.population.plan import PILOT_BOXES, PILOT_PHOTOS, Costs, next_numbers, planned_cells
from transect.review.population.strata import expected_groups, score_bins

POSSIBLE, FLOWN, PHOTOS = 200, 20, 50
HERD, RECALL, CONF = 5.0, (8.0, 2.0), 0.25
# Animals prefer some places: the density of transects is gamma with this shape, as in benchmarks/intervals.py.
PATCHINESS = 1.0
CHOSEN = 150


@dataclass(frozen=True)
class Case:
    """Animals expected on the flown ground, the share of boxes that are animals, and what a person looks at."""

    name: str
    animals: float
    precision: float
    crops: int = 200
    photos: int = 60


CASES = (
    Case("about 500 flown, precision 0.6", 500, 0.6),
    Case("about 160 flown, precision 0.3", 160, 0.3),
    Case("same, 400 crops and 150 photos", 160, 0.3, 400, 150),
    Case("about 1,600 flown, precision 0.6", 1600, 0.6),
)


@dataclass(frozen=True, eq=False)
class Simulated:
    """A survey: the review's population with its truth, and the strata's design."""

    population: Population
    score: FloatArray
    is_animal: FloatArray
    missed: FloatArray
    per_photo: FloatArray
    design: StratumDesign
    truth: float

    @property
    def flown(self) -> float:
        """The animals on the flown ground."""
        return float(self.per_photo.sum())


def simulate(case: Case, seed: int) -> Simulated:
    """One survey."""
    rng = np.random.default_rng([1953, seed])
    area = rng.gamma(25, 1 / 25, POSSIBLE)
    herds = rng.poisson(case.animals / FLOWN / HERD * area * rng.gamma(PATCHINESS, 1 / PATCHINESS, POSSIBLE))
    sizes = rng.geometric(1 / HERD, int(herds.sum()))
    transect = np.repeat(np.arange(POSSIBLE), herds)
    on_photo = transect * PHOTOS + rng.integers(0, PHOTOS, len(sizes))
    animals = np.bincount(on_photo, sizes, minlength=POSSIBLE * PHOTOS)
    flown = rng.choice(POSSIBLE, FLOWN, replace=False)
    mine = animals.reshape(POSSIBLE, PHOTOS)[flown].ravel().astype(np.int64)
    found = rng.binomial(mine, rng.beta(*RECALL, len(mine)))
    share = RECALL[0] / sum(RECALL)
    false = rng.poisson(case.animals * share * (1 / case.precision - 1) / len(mine), len(mine))
    photo = np.concatenate([np.repeat(np.arange(len(mine)), found), np.repeat(np.arange(len(mine)), false)])
    is_animal = np.repeat([1.0, 0.0], [found.sum(), false.sum()])
    score = CONF + (1 - CONF) * np.where(is_animal > 0, rng.beta(4, 2, len(photo)), rng.beta(1.5, 4, len(photo)))
    counted = np.ones(len(photo), bool)
    bins, bin_of = score_bins(["buffalo"], np.zeros(len(photo), np.int64), score, counted)
    groups, group_of = expected_groups(np.bincount(photo, score, minlength=len(mine)).astype(np.float64))
    population = Population(
        bins=bins,
        groups=groups,
        transects=FLOWN + 1,
        bin=bin_of,
        weight=np.ones(len(photo)),
        box_photo=photo,
        box_transect=photo // PHOTOS,
        box_rank=rng.integers(0, 2**64, len(photo), dtype=np.uint64),
        group=group_of,
        photo_transect=np.arange(len(mine)) // PHOTOS,
        photo_rank=rng.integers(0, 2**64, len(mine), dtype=np.uint64),
    )
    design = StratumDesign("all", np.arange(FLOWN), area[flown], float(area.sum()), POSSIBLE)
    per_photo = mine.astype(np.float64)
    missed = (mine - found).astype(np.float64)
    return Simulated(population, score, is_animal, missed, per_photo, design, float(animals.sum()))


def review(survey: Simulated, case: Case, *, chosen: int = 0) -> tuple[Flown, Reviewed]:
    """A pilot, then the rest of the crops and of the photos as the plan allots them; all decisions are right."""
    population = survey.population
    by_choice = np.zeros(len(population.bin), bool)
    by_choice[np.argsort(survey.score, kind="stable")[:chosen]] = True
    done = Reviewed(
        box_decided=by_choice.copy(),
        box_chosen=by_choice,
        animal=survey.is_animal > 0,
        photo_searched=np.zeros(len(population.group), bool),
        photo_chosen=np.zeros(len(population.group), bool),
    )
    done = _looked_at(population, done, _pilot(population.bin, PILOT_BOXES), _pilot(population.group, PILOT_PHOTOS))
    flown = _flown(survey, done)
    costs = Costs()
    planned = planned_cells(ReviewCells(population, done), flown, survey.score, costs)
    many = len(population.bins)
    for part, seconds in (
        (slice(0, many), case.crops * costs.box),
        (slice(many, None), case.photos * costs.photo),
    ):
        more = _more(planned[part], seconds)
        nothing = np.zeros(len(population.groups if part.start == 0 else population.bins), np.int64)
        boxes, photos = (more, nothing) if part.start == 0 else (nothing, more)
        done = _looked_at(population, done, boxes, photos)
    return _flown(survey, done), done


def _pilot(cell: IntArray, least: int) -> IntArray:
    return np.minimum(np.bincount(cell), least)


def _more(planned: Sequence[PlannedCell], seconds: float) -> IntArray:
    numbers = allocate_for_seconds(planned, seconds)
    return next_numbers(planned, np.floor(numbers), np.array([one.least for one in planned]))


def _looked_at(population: Population, done: Reviewed, boxes: IntArray, photos: IntArray) -> Reviewed:
    decided, searched = done.box_decided.copy(), done.photo_searched.copy()
    decided[next_in_order(population.bin, population.box_rank, taken=decided, wanted=boxes)] = True
    searched[next_in_order(population.group, population.photo_rank, taken=searched, wanted=photos)] = True
    return replace(done, box_decided=decided, photo_searched=searched)


def _flown(survey: Simulated, done: Reviewed) -> Flown:
    return ReviewCells(survey.population, done).flown(None, survey.is_animal > 0, survey.missed)


def other_ways(survey: Simulated, minutes: float, seed: int) -> dict[str, float]:
    """The flown total by other uses of the same minutes, each of which searches whole photos."""
    rng = np.random.default_rng([2023, seed])
    y, photos = survey.per_photo, len(survey.per_photo)
    boxes = np.bincount(survey.population.box_photo, minlength=photos).astype(np.float64)
    many = round(minutes * 60 / Costs().photo)
    drawn = rng.choice(photos, many, replace=False)
    # PPI++ (Angelopoulos et al. 2023, arXiv 2311.01453): the mean of boxes, corrected on the sample at its best weight.
    spread = float(np.var(boxes[drawn], ddof=1))
    weight = float(np.cov(y[drawn], boxes[drawn])[0, 1]) / spread if spread > 0 else 0.0
    ppi = photos * (y[drawn].mean() + weight * (boxes.mean() - boxes[drawn].mean()))
    # DISCount (Perez et al. 2024): importance sampling of photos by their boxes, with replacement.
    proposal = boxes + 0.1
    picked = rng.choice(photos, many, p=proposal / proposal.sum())
    discount = proposal.sum() * (y[picked] / proposal[picked]).mean()
    return {"photos at random": photos * float(y[drawn].mean()), "PPI++": float(ppi), "DISCount": float(discount)}


@dataclass(frozen=True)
class Outcome:
    """One survey's numbers, as shares of the truth where they are numbers of animals."""

    flown: float
    cv: float
    flown_held: bool
    area_error: float
    area_variance: float
    area_naive: float
    area_held: bool
    without_held: bool
    others: dict[str, float]


def one_survey(case: Case, seed: int, *, chosen: int = 0) -> Outcome:
    """Simulate, review and estimate one survey."""
    survey = simulate(case, seed)
    flown, _ = review(survey, case, chosen=chosen)
    area = AreaEstimate(flown, [survey.design])
    sampling = area.spread or (0.0, 0.0)
    minutes = (case.crops * Costs().box + case.photos * Costs().photo) / 60
    truth = survey.flown
    return Outcome(
        flown=flown.total / truth,
        cv=math.sqrt(flown.variance) / flown.total,
        flown_held=_holds(flown.limits, truth),
        area_error=area.estimate - survey.truth,
        area_variance=area.variance or 0.0,
        area_naive=sampling[1] + area.review_variance,
        area_held=_holds(area.limits("bootstrap"), survey.truth),
        without_held=_holds(_WithoutFactor(flown, [survey.design]).limits("bootstrap"), survey.truth),
        others={} if chosen else {name: value / truth for name, value in other_ways(survey, minutes, seed).items()},
    )


class _WithoutFactor(AreaEstimate):
    """The limits that the predictions alone would give."""

    @property
    def spread(self) -> tuple[float, float] | None:
        """The naive variance in both places."""
        found = super().spread
        return None if found is None else (found[1], found[1])


def _holds(limits: Limits | None, truth: float) -> bool:
    return limits is not None and limits[0] <= truth <= limits[1]


def run_case(case: Case, surveys: int, chosen: int) -> list[Outcome]:
    """So many surveys of a case."""
    return [one_survey(case, seed, chosen=chosen) for seed in range(surveys)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=1200)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    tasks = [*((case, 0) for case in CASES), (CASES[0], CHOSEN)]
    with ProcessPoolExecutor(cores()) as pool:
        found = list(
            pool.map(
                run_case, [case for case, _ in tasks], [arguments.surveys] * len(tasks), [chosen for _, chosen in tasks]
            )
        )
    rows = [_row(case.name, outcomes) for case, outcomes in zip(CASES, found, strict=False)]
    chosen = _row(f"{CHOSEN} least certain boxes by choice", found[-1])
    ways = {"this": [one.flown for one in found[0]]}
    ways |= {name: [one.others[name] for one in found[0]] for name in found[0][0].others}
    errors = {name: _rmse(values) for name, values in ways.items()}
    error = math.sqrt(0.95 * 0.05 / arguments.surveys)
    bars = []
    for (name, *_), outcomes in zip((*rows, chosen), found, strict=True):
        for what in ("flown", "area"):
            share = float(np.mean([getattr(one, f"{what}_held") for one in outcomes]))
            # A share of so few surveys may be off by two standard errors.
            low, high = 0.93 - 2 * error, 0.97 + 2 * error
            bars.append(Bar(f"limits hold {what}: {name}", share, low, at_least=True))
            bars.append(Bar(f"limits hold {what}: {name}", share, high, at_least=False))
    bars.append(Bar("error, of the best other way", errors["this"], min(errors[name] for name in found[0][0].others)))
    columns = ("case", "RMSE / bias of flown", "stated CV", "hold flown", "area var/MSE (naive)", "hold area / without")
    report = Report(
        "Counts that people have checked",
        f"{arguments.surveys} simulated surveys a line; a share of 0.95 has a standard error of {error:.3f}, and the "
        "bars allow for two of them beside 93 and 97%. Naive, and without: the variance between transects as the "
        "predictions give it.",
        (
            Table(columns, tuple(rows)),
            Table(("the same minutes, first case", "RMSE of flown"), tuple((n, f"{e:.1%}") for n, e in errors.items())),
            Table(columns, (chosen,)),
        ),
        tuple(bars),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in bars) else 1


def _row(name: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    flown = [one.flown for one in outcomes]
    mse = float(np.mean([one.area_error**2 for one in outcomes]))
    variance, naive = (
        float(np.mean([getattr(one, key) for one in outcomes])) / mse for key in ("area_variance", "area_naive")
    )
    return (
        name,
        f"{_rmse(flown):.1%} / {np.mean(flown) - 1:+.1%}",
        f"{np.mean([one.cv for one in outcomes]):.1%}",
        f"{np.mean([one.flown_held for one in outcomes]):.3f}",
        f"{variance:.2f} ({naive:.2f})",
        f"{np.mean([one.area_held for one in outcomes]):.3f} / {np.mean([one.without_held for one in outcomes]):.3f}",
    )


def _rmse(shares: Sequence[float]) -> float:
    return float(np.sqrt(np.mean((np.array(shares) - 1) ** 2)))


if __name__ == "__main__":
    raise SystemExit(main())
