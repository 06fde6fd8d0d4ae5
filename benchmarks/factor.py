"""How often the 95% limits of a detector's factor hold the true one, in simulated validation images.

    python -m benchmarks.factor [--sets 2000] [--markdown]

A set of validation images has 10 to 200 images and on average 20 to 500 animals in herds: herds are Poisson by image,
with on average one in two images or fewer, and their sizes geometric with a mean of 3 or more. Animals are missed with
a probability by image (beta, so that two animals of one image are alike with a given correlation). False alarms come
with the ground, negative binomial by image with the variance mean + mean2, or Poisson where the correlation is 0;
as many are expected as make the true precision. Images are drawn like the survey's, so the true factor is that of
the expectations, precision / recall. Where fewer than three errors are expected in a set, most sets have none or one,
and hardly any limits can miss the truth. On the other lines 93 to 97% of the limits must hold it on average, and so
on those of 3 to 10, 10 to 30 and more expected errors by themselves: else the exit code is 1.
"""

import argparse
import itertools
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from benchmarks.reporting import Bar, Report, Table, cores

from transect.arrays import FloatArray
from transect.census.estimates.factor import estimate_factor
from transect.census.estimates.rates import IntervalEstimate

SHARES = (0.8, 0.9, 0.95, 0.99, 0.999)
ANIMALS, IMAGES = (20, 62, 200, 500), (10, 30, 100, 200)
HERD, HERDS_AN_IMAGE = 3.0, 0.5
JUDGED = (3.0, 10.0, 30.0, math.inf)
LOW, HIGH = 0.93, 0.97


@dataclass(frozen=True)
class World:
    """How errors come: correlation of two animals of one image, dispersion and source of false alarms, herds.

    `exact` makes every set hold as many animals as the line says, and not on average.
    """

    name: str
    correlation: float
    dispersion: float
    with_animals: bool = False
    exact: bool = False


WORLDS = (
    World("correlation 0.1", 0.1, 1.0),
    World("independent errors", 0.0, 0.0),
    World("correlation 0.2", 0.2, 1.0),
    World("correlation 0.1, false alarms by animals", 0.1, 0.0, with_animals=True),
    World("correlation 0.1, over-dispersed false alarms by animals", 0.1, 1.0, with_animals=True),
    World("correlation 0.1, exactly so many animals", 0.1, 1.0, exact=True),
)
# Of these the grid is shown, and these keep the bars; the others show what a wrong picture of the errors does.
SHOWN, BARRED = WORLDS[:2], WORLDS[:3]


@dataclass(frozen=True)
class Line:
    """A line of the grid: animals and images of a set, true precision and recall."""

    animals: int
    images: int
    precision: float
    recall: float

    @property
    def alarms(self) -> float:
        """False alarms expected for each animal."""
        return self.recall * (1 - self.precision) / self.precision

    @property
    def errors(self) -> float:
        """Misses and false alarms expected in a set of images."""
        return self.animals * (1 - self.recall + self.alarms)


@dataclass(frozen=True)
class Held:
    """Share of the limits that held the truth: of the factor, of precision, of recall; and of factors out on a side."""

    factor: float
    precision: float
    recall: float
    below: float
    above: float


LINES = tuple(Line(*values) for values in itertools.product(ANIMALS, IMAGES, SHARES, SHARES))


def animals_of(line: Line, world: World, sets: int, rng: np.random.Generator) -> FloatArray:
    """Animals by image (sets, images), in herds."""
    size = max(HERD, line.animals / line.images / HERDS_AN_IMAGE)
    shape = (sets, line.images)
    animals = rng.poisson(line.animals / line.images / size, shape)
    some = animals > 0
    animals[some] += rng.negative_binomial(animals[some], 1 / size)
    if world.exact:
        weights = animals + 1e-9
        animals = rng.multinomial(line.animals, weights / weights.sum(axis=1, keepdims=True))
    return animals.astype(np.float64)


def held(line: Line, world: World, sets: int, seed: int) -> Held:
    """Coverage on one line; sets in which nothing was found rightly are left out."""
    rng = np.random.default_rng((seed, LINES.index(line)))
    animals = animals_of(line, world, sets, rng)
    right, herds = np.zeros_like(animals), animals > 0
    found: FloatArray | float = line.recall
    if world.correlation > 0:
        strength = (1 - world.correlation) / world.correlation
        found = rng.beta(line.recall * strength, (1 - line.recall) * strength, int(herds.sum()))
    right[herds] = rng.binomial(animals[herds].astype(np.int64), found)
    mean = line.alarms * (animals if world.with_animals else np.full_like(animals, line.animals / line.images))
    if world.dispersion > 0:
        mean = mean * rng.gamma(1 / world.dispersion, world.dispersion, mean.shape)
    wrong = rng.poisson(mean).astype(np.float64)
    some = right.sum(axis=1) > 0
    known = estimate_factor(right[some], wrong[some], (animals - right)[some])
    truth = line.precision / line.recall
    return Held(
        _holds(known.factor, truth),
        _holds(known.precision, line.precision),
        _holds(known.recall, line.recall),
        float((known.factor.high < truth).mean()),
        float((known.factor.low > truth).mean()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(cores()) as pool:
        tasks = {
            world.name: [pool.submit(held, line, world, arguments.sets, arguments.seed) for line in LINES]
            for world in WORLDS
        }
        found = {name: [task.result() for task in some] for name, some in tasks.items()}
    bars = [bar for world in BARRED for bar in _bars(world, found[world.name])]
    report = Report(
        "Limits of a detector's factor",
        f"Share of the 95% limits that hold the true factor, in {arguments.sets} sets of validation images a line; a "
        f"share of 0.95 has a standard error of {math.sqrt(0.95 * 0.05 / arguments.sets):.3f}.",
        (_summary(found), _grid(found)),
        tuple(bars),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in bars) else 1


def _holds(known: IntervalEstimate, truth: float) -> float:
    return float(((known.low <= truth) & (truth <= known.high)).mean())


def _groups() -> list[tuple[str, list[int]]]:
    """Lines by the errors that are expected in a set: a name, and the numbers of the lines."""
    groups = [
        ("all lines", 0.0, math.inf),
        ("fewer than 3 errors", 0.0, JUDGED[0]),
        ("3 errors and more", *JUDGED[::3]),
    ]
    for low, high in itertools.pairwise(JUDGED):
        groups.append((f"{low:g} to {high:g} errors" if math.isfinite(high) else f"{low:g} errors and more", low, high))
    return [
        (name, [number for number, line in enumerate(LINES) if low <= line.errors < high]) for name, low, high in groups
    ]


def _bars(world: World, found: list[Held]) -> list[Bar]:
    averages = [(name, float(np.mean([found[number].factor for number in lines]))) for name, lines in _groups()[2:]]
    return [
        Bar(f"{world.name}, {name}", average, limit, at_least=limit == LOW)
        for name, average in averages
        for limit in (LOW, HIGH)
    ]


def _summary(found: dict[str, list[Held]]) -> Table:
    columns = (
        *("errors expected in a set", "lines", "factor", "least", "most", "lines in 0.93-0.97"),
        *("truth below", "truth above", "precision", "recall"),
    )
    rows = []
    for name, some in found.items():
        for where, numbers in _groups():
            chosen = [some[number] for number in numbers]
            shares = np.array([one.factor for one in chosen])
            inside = ((shares >= LOW) & (shares <= HIGH)).mean()
            sides = [np.mean([getattr(one, side) for one in chosen]) for side in ("above", "below")]
            parts = [np.mean([getattr(one, part) for one in chosen]) for part in ("precision", "recall")]
            cells = (f"{value:.3f}" for value in (shares.mean(), shares.min(), shares.max()))
            others = (f"{value:.3f}" for value in (*sides, *parts))
            rows.append((f"{name}: {where}", f"{len(chosen)}", *cells, f"{inside:.0%}", *others))
    return Table(columns, tuple(rows))


def _grid(found: dict[str, list[Held]]) -> Table:
    columns = (
        " / ".join(world.name for world in SHOWN) + ": animals, images, recall",
        *(f"precision {share:g}" for share in SHARES),
    )
    rows = []
    for animals, images, recall in itertools.product(ANIMALS, IMAGES, SHARES):
        at = [LINES.index(Line(animals, images, precision, recall)) for precision in SHARES]
        cells = [" / ".join(f"{found[world.name][row].factor:.3f}" for world in SHOWN) for row in at]
        rows.append((f"{animals} animals, {images} images, recall {recall:g}", *cells))
    return Table(columns, tuple(rows))


if __name__ == "__main__":
    raise SystemExit(main())
