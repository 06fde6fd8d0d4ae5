"""What to review next: how uncertain each bin and group is, from what was decided, or from scores before that. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from transect.arrays import FloatArray, IntArray
from transect.review.estimator.allocation import PlannedCell
from transect.review.estimator.flown import Flown
from transect.review.population.design import ReviewCells

_Cell = TypeVar("_Cell")
PILOT_BOXES, PILOT_PHOTOS = 10, 8
# Before anything was searched: the share of animals that a detector finds, and those on a photo without a sure box.
_RECALL, _LONE_MISSES = 0.8, 0.02


@dataclass(frozen=True)
class Costs:
    """Seconds to decide on one box, and to search one photo in full."""

    box: float = 3.0
    photo: float = 60.0


def planned_cells(cells: ReviewCells, flown: Flown, score: FloatArray, costs: Costs) -> list[PlannedCell]:
    """Bins, then groups, of the sample, with the standard deviation of one item; `score` (n,) is of all boxes.

    Shares that a few decisions put at 0 or 1 are taken to be a little less sure than that: (k + 1/2) / (m + 1).
    """
    return [*_bins(cells, flown, score, costs.box), *_groups(cells, flown, score, costs.photo)]


def expected_total(cells: ReviewCells, flown: Flown, score: FloatArray) -> float:
    """The total that a plan aims at: the estimate, with scores for what nobody decided on yet."""
    population = cells.population
    bins = sum(
        share * one.whole_size for share, one in zip(_shares(cells, flown, score), _sampled(flown.bins), strict=True)
    )
    counts = np.bincount(population.group, minlength=len(population.groups))
    misses = _misses(cells, flown, score)
    chosen = [*flown.bins[1::2], *flown.groups[1::2]]
    return float(bins + (misses * counts).sum()) + sum(one.total for one in chosen)


def _bins(cells: ReviewCells, flown: Flown, score: FloatArray, cost: float) -> list[PlannedCell]:
    population = cells.population
    squares = np.bincount(population.bin, population.weight**2, minlength=len(population.bins))
    counts = np.bincount(population.bin, minlength=len(population.bins))
    typical = np.sqrt(squares / np.maximum(counts, 1))
    shares = _shares(cells, flown, score)
    return [
        PlannedCell(
            population=one.population,
            sd=float(math.sqrt(share * (1 - share)) * weight),
            cost=cost,
            least=max(one.reviewed, min(PILOT_BOXES, one.population)),
        )
        for one, share, weight in zip(_sampled(flown.bins), shares, typical.tolist(), strict=True)
    ]


def _groups(cells: ReviewCells, flown: Flown, score: FloatArray, cost: float) -> list[PlannedCell]:
    found = []
    for one, prior in zip(_sampled(flown.groups), _prior_misses(cells, score).tolist(), strict=True):
        # A pilot that happens to find nothing must not end the search of its group: it weighs as many photos as before.
        variance = (one.scatter * one.reviewed + prior * PILOT_PHOTOS) / (one.reviewed + PILOT_PHOTOS)
        least = max(one.reviewed, min(PILOT_PHOTOS, one.population))
        found.append(PlannedCell(population=one.population, sd=math.sqrt(variance), cost=cost, least=least))
    return found


def _sampled(cells: Sequence[_Cell]) -> Sequence[_Cell]:
    """The cells of the sample: each is followed by the one of what somebody chose."""
    return cells[0::2]


def _shares(cells: ReviewCells, flown: Flown, score: FloatArray) -> list[float]:
    population = cells.population
    counts = np.bincount(population.bin, minlength=len(population.bins))
    prior = np.bincount(population.bin, score, minlength=len(population.bins)) / np.maximum(counts, 1)
    return [
        (one.ratio * one.reviewed + 0.5) / (one.reviewed + 1) if one.reviewed else float(before)
        for one, before in zip(_sampled(flown.bins), prior, strict=True)
    ]


def _misses(cells: ReviewCells, flown: Flown, score: FloatArray) -> FloatArray:
    """The expected misses of one photo of each group, from the photos searched and as many of what was expected."""
    return np.array(
        [
            (float(one.value.sum()) + prior * PILOT_PHOTOS) / (one.reviewed + PILOT_PHOTOS)
            for one, prior in zip(_sampled(flown.groups), _prior_misses(cells, score).tolist(), strict=True)
        ]
    )


def _prior_misses(cells: ReviewCells, score: FloatArray) -> FloatArray:
    """The misses expected of one photo of each group before any was searched, from the scores of counted boxes."""
    population = cells.population
    counted = np.array([one.counted for one in population.bins], bool)[population.bin]
    each = np.where(counted, score, 0.0) * population.weight
    expected = np.bincount(population.box_photo, each, minlength=len(population.group))
    counts = np.maximum(np.bincount(population.group, minlength=len(population.groups)), 1)
    mean = np.bincount(population.group, expected, minlength=len(population.groups)) / counts
    return np.asarray(np.maximum(mean * (1 / _RECALL - 1), _LONE_MISSES), np.float64)


def next_numbers(planned: Sequence[PlannedCell], numbers: FloatArray, done: IntArray) -> IntArray:
    """How many more items of each cell to hand out (k,): the plan rounded up, less what was handed out already."""
    whole = np.minimum(np.ceil(numbers - 1e-9), [cell.population for cell in planned])
    return np.maximum(whole - done, 0).astype(np.int64)
