"""How far corrected counts are off, and how often their limits hold, where boxes are false alarms of the ground.

    python -m benchmarks.ground [--surveys 400] [--markdown]

A survey flies 20 of 200 transects of unequal size (gamma, coefficient of variation 0.2; 50 photos on average). Some
transects suit the animals better than others (gamma by transect, coefficient of variation 0.5); herds are Poisson by
photo and their sizes geometric with a mean of 5. Animals are found with a probability by photo (beta, mean 0.8,
correlation 0.1), and one in a hundred is boxed twice. False alarms come with the ground: negative binomial by photo
with the variance mean + mean2. Each survey has a model of its own, judged on 400 (or 8,000) validation photos like
those of a dense survey and on 400 photos without an animal. The truth is all animals of the 200 transects. A dense
survey is like the validation photos, a sparse one holds a twentieth of their animals. Every count is corrected twice:
by the validation photos' precision, and by the false alarms of the empty ground. The exit code is 1 where a bar is not
met.
"""

import argparse
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from benchmarks.reporting import Bar, Report, Table, cores

from transect.arrays import FloatArray
from transect.census.counting.tally import StratumSample, estimate_species
from transect.census.estimates.correction import Correction, correct_species, spread_factor
from transect.census.estimates.estimate import DEFAULT_METHOD, jolly2
from transect.engine import BackgroundCounts, ValidationCounts

TRANSECTS, FLOWN, PHOTOS = 200, 20, 50
SIZES_CV, SUIT_CV, HERD = 0.2, 0.5, 5.0
RECALL, CORRELATION, SECOND = 0.8, 0.1, 0.01
JUDGED_PHOTOS, MANY_PHOTOS, EMPTY_PHOTOS = 400, 8000, 400
PHOTO_MPX, PHOTO_KM2 = 2.8, 0.007
CONF, IOU = 0.25, 0.5
NAME = "animal"
LOW, HIGH, MOST_BIAS = 0.93, 0.97, 0.1


@dataclass(frozen=True)
class Line:
    """A kind of survey: animals expected on its flown ground, and how many on as much ground of the validation photos,
    where the model has such a precision.
    """

    animals: float
    judged_animals: float
    precision: float
    judged_photos: int = JUDGED_PHOTOS

    @property
    def alarms(self) -> float:
        """False alarms of the ground expected in a photo."""
        right = self.judged_animals * RECALL
        return max(right / self.precision - right * (1 + SECOND), 0.0) / (FLOWN * PHOTOS)

    @property
    def sparse(self) -> bool:
        """Whether it holds fewer animals than what the model was judged on."""
        return self.animals < self.judged_animals

    @property
    def name(self) -> str:
        """For a row."""
        kind = "sparse" if self.sparse else "dense"
        many = f", {self.judged_photos:,} validation photos" if self.judged_photos != JUDGED_PHOTOS else ""
        return f"{kind}, {self.animals:g} animals flown, precision {self.precision:g}{many}"


LINES = (
    *(Line(animals, animals, precision) for animals in (160.0, 500.0) for precision in (0.3, 0.6, 0.97)),
    *(Line(animals, animals, 0.3, MANY_PHOTOS) for animals in (160.0, 500.0)),
    *(Line(80.0, 1600.0, precision) for precision in (0.9, 0.97)),
)


@dataclass(frozen=True)
class Photos:
    """Photos of some ground, (n,) each: animals, those that were found, second boxes of those, alarms of the ground."""

    animals: FloatArray
    right: FloatArray
    second: FloatArray
    alarms: FloatArray

    @property
    def boxes(self) -> FloatArray:
        """All that was found."""
        return self.right + self.second + self.alarms


def photograph(animals: float, line: Line, suits: FloatArray, rng: np.random.Generator) -> Photos:
    """Photos on ground that suits animals so well, on average 1; `animals` are expected on as much as is flown."""
    herds = rng.poisson(animals / (FLOWN * PHOTOS) / HERD * suits)
    there = herds + rng.negative_binomial(np.maximum(herds, 1), 1 / HERD) * (herds > 0)
    strength = (1 - CORRELATION) / CORRELATION
    right = rng.binomial(there, rng.beta(RECALL * strength, (1 - RECALL) * strength, len(suits)))
    second = rng.binomial(right, SECOND)
    alarms = rng.poisson(line.alarms * rng.gamma(1.0, 1.0, len(suits)))
    return Photos(*(values.astype(np.float64) for values in (there, right, second, alarms)))


def suitable(places: int, rng: np.random.Generator) -> FloatArray:
    """How well transects suit the animals."""
    return np.asarray(rng.gamma(SUIT_CV**-2, SUIT_CV**2, places))


def judge(line: Line, rng: np.random.Generator) -> tuple[ValidationCounts, BackgroundCounts]:
    """What is known of a model: on validation photos of a dense survey, and on photos without an animal."""
    seen = photograph(line.judged_animals, line, suitable(line.judged_photos, rng), rng)
    wrong, missed = seen.second + seen.alarms, seen.animals - seen.right
    table = np.column_stack([np.arange(line.judged_photos), seen.right, wrong, missed]).astype(int)
    rows = tuple((image, right, false, lost) for image, right, false, lost in table.tolist() if right + false + lost)
    second = tuple((image, int(number)) for image, number in enumerate(seen.second) if number)
    known = ValidationCounts(images=line.judged_photos, conf=CONF, iou=IOU, counts={NAME: rows}, beside={NAME: second})
    empty = photograph(0.0, line, suitable(EMPTY_PHOTOS, rng), rng)
    alarms = tuple((image, int(number)) for image, number in enumerate(empty.alarms) if number)
    return known, BackgroundCounts(conf=CONF, iou=IOU, mpx=(PHOTO_MPX,) * EMPTY_PHOTOS, counts={NAME: alarms})


def fly(line: Line, rng: np.random.Generator) -> tuple[StratumSample, float]:
    """What a survey found on its transects, and the animals of the whole area."""
    photos = np.maximum(rng.poisson(PHOTOS * rng.gamma(SIZES_CV**-2, SIZES_CV**2, TRANSECTS)), 1)
    transect = np.repeat(np.arange(TRANSECTS), photos)
    seen = photograph(line.animals, line, np.repeat(suitable(TRANSECTS, rng), photos), rng)
    boxes = np.bincount(transect, seen.boxes, TRANSECTS)
    flown = rng.choice(TRANSECTS, FLOWN, replace=False)
    sample = StratumSample(
        stratum="plain",
        stratum_km2=float(photos.sum()) * PHOTO_KM2,
        transects_possible=None,
        counts=tuple(boxes[flown].astype(int).tolist()),
        areas=tuple((photos[flown] * PHOTO_KM2).tolist()),
        single_look=tuple(boxes[flown].tolist()),
        searched_mpx=tuple((photos[flown] * PHOTO_MPX).tolist()),
    )
    return sample, float(seen.animals.sum())


@dataclass(frozen=True)
class Held:
    """What became of a line's surveys, corrected in one way.

    `bias` is the sum of all estimates over that of all truths, less one; `stated` the mean of the stated variances over
    the mean squared error (`even` without the spread factor), `held` the share of limits that hold the truth and
    `width` their median width over it.
    """

    bias: float
    stated: float
    even: float
    held: float
    width: float


def compare(line: Line, surveys: int, seed: int) -> tuple[Held, Held]:
    """The same surveys corrected by precision and by ground; those that found nothing are left out."""
    rng = np.random.default_rng((seed, LINES.index(line)))
    found: tuple[list[tuple[float, ...]], list[tuple[float, ...]]] = ([], [])
    while len(found[0]) < surveys:
        known, empty = judge(line, rng)
        sample, truth = fly(line, rng)
        if sum(sample.single_look) == 0:
            continue
        for rows, background in zip(found, (None, empty), strict=True):
            correction = correct_species(NAME, [NAME], known, conf=CONF, iou=IOU, background=background)
            (one,) = estimate_species(NAME, [sample], DEFAULT_METHOD, correction)
            low, high = one.estimate.ci95 or (math.nan, math.nan)
            variance = one.estimate.variance or 0.0
            even = variance - _spread_variance(sample, correction)
            rows.append((truth, one.estimate.estimate or 0.0, variance, even, low, high))
    by_precision, by_ground = (_held(np.array(rows)) for rows in found)
    return by_precision, by_ground


def _spread_variance(sample: StratumSample, correction: Correction) -> float:
    """The part of a corrected estimate's variance that the spread factor added."""
    if correction.ground is not None:
        return 0.0
    boxes = jolly2(sample.single_look, sample.areas, sample.stratum_km2)
    return (spread_factor(boxes, correction) ** 2 - 1) * correction.factor**2 * (boxes.variance or 0.0)


def _held(rows: FloatArray) -> Held:
    truth, estimate, variance, even, low, high = rows.T
    squares = np.mean((estimate - truth) ** 2)
    return Held(
        float(estimate.sum() / truth.sum() - 1),
        float(variance.mean() / squares),
        float(even.mean() / squares),
        float(np.mean((low <= truth) & (truth <= high))),
        float(np.nanmedian(high - low) / truth.mean()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(cores()) as pool:
        many = len(LINES)
        found = list(pool.map(compare, LINES, [arguments.surveys] * many, [arguments.seed] * many))
    bars = _bars(found)
    report = Report(
        "False alarms of the ground",
        f"{arguments.surveys} simulated surveys a line; a share of 0.95 has a standard error of "
        f"{math.sqrt(0.95 * 0.05 / arguments.surveys):.3f}. Bias: of all estimates together. Stated: mean variance "
        "over mean squared error (in brackets: without the spread factor). Held: share of the 95% limits that hold the "
        "truth, and their median width over it.",
        (_table(found),),
        bars,
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in bars) else 1


def _table(found: Sequence[tuple[Held, Held]]) -> Table:
    ways = ("by precision", "by ground")
    columns = ("survey", *(f"{way}: {name}" for way in ways for name in ("bias", "stated", "held / width")))
    rows = []
    for line, both in zip(LINES, found, strict=True):
        cells = [[f"{one.bias:+.1%}", f"{one.stated:.2f}", f"{one.held:.3f} / {one.width:.2f}"] for one in both]
        cells[0][1] += f" ({both[0].even:.2f})"
        rows.append((line.name, *cells[0], *cells[1]))
    return Table(columns, tuple(rows))


def _bars(found: Sequence[tuple[Held, Held]]) -> tuple[Bar, ...]:
    """On average over lines, since one line of a share of 0.95 is off by a point through chance."""
    dense = [both for line, both in zip(LINES, found, strict=True) if not line.sparse]
    sparse = [both[1] for line, both in zip(LINES, found, strict=True) if line.sparse]
    groups = (
        ("dense, by precision", [both[0] for both in dense]),
        ("dense, by ground", [both[1] for both in dense]),
        ("sparse, by ground", sparse),
    )
    bars = [
        Bar(f"limits that hold, {name}", float(np.mean([one.held for one in some])), limit, at_least=limit == LOW)
        for name, some in groups
        for limit in (LOW, HIGH)
    ]
    return (*bars, Bar("bias on the worst line, sparse, by ground", max(abs(one.bias) for one in sparse), MOST_BIAS))


if __name__ == "__main__":
    raise SystemExit(main())
