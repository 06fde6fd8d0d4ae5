"""Bins of boxes by predicted species and score, and groups of photos by the animals expected in them. Pure.

The cells are fixed when a review starts, from scores alone: whatever people decide later, they stay strata of one
design.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from transect.arrays import BoolArray, FloatArray, IntArray

COUNTED_BINS, CANDIDATE_BINS = 4, 3
_LEAST_BOXES = 20
# Photos with few expected animals, with some, and with a herd.
GROUP_EDGES = (0.35, 2.0)
_LEAST_PHOTOS = 10


@dataclass(frozen=True)
class ScoreBin:
    """Boxes called `species` with scores from `low` up to, but without, `high`; `counted` ones are in the census."""

    species: str
    low: float
    high: float
    counted: bool


@dataclass(frozen=True)
class ExpectedGroup:
    """Photos with `low` or more and fewer than `high` expected animals; those of the first group have nearly none."""

    low: float
    high: float

    @property
    def nearly_empty(self) -> bool:
        """Whether the photos are alike, so that misses do not grow with what is expected."""
        return self.low == 0


def score_bins(
    names: Sequence[str], species: IntArray, score: FloatArray, counted: BoolArray
) -> tuple[tuple[ScoreBin, ...], IntArray]:
    """Bins, and the bin of each box (n,); `species` are numbers of `names`. Each bin holds a box.

    Edges divide the sum of sqrt(score (1 - score)) equally, the standard deviation of a verdict if the score were its
    probability: Cochran 1977, section 5A.7, with boxes for the density.
    """
    bins: list[ScoreBin] = []
    bin_of = np.full(len(score), -1, np.int64)
    for number, name in enumerate(names):
        for is_counted, most in ((True, COUNTED_BINS), (False, CANDIDATE_BINS)):
            rows = np.flatnonzero((species == number) & (counted == is_counted))
            if len(rows) == 0:
                continue
            edges = _score_edges(score[rows], most)
            bin_of[rows] = len(bins) + np.searchsorted(edges[1:-1], score[rows], side="right")
            bins += [ScoreBin(name, low, high, is_counted) for low, high in pairwise(edges)]
    return tuple(bins), bin_of


def _score_edges(score: FloatArray, most: int) -> list[float]:
    """Edges of at most so many bins that hold _LEAST_BOXES each; the first and the last enclose all scores."""
    ordered = np.sort(score)
    weight = np.cumsum(np.sqrt(np.clip(ordered * (1 - ordered), 1e-4, None)))
    edges = [float(ordered[0])]
    for part in range(1, most):
        at = int(np.searchsorted(weight, weight[-1] * part / most, side="right"))
        if at >= len(ordered):
            continue
        # Equal scores stay together.
        below = int(np.searchsorted(ordered, ordered[at], side="left"))
        so_far = int(np.searchsorted(ordered, edges[-1], side="left"))
        if below - so_far >= _LEAST_BOXES and len(ordered) - below >= _LEAST_BOXES:
            edges.append(float(ordered[at]))
    return [*edges, float(np.nextafter(ordered[-1], np.inf))]


def expected_groups(expected: FloatArray) -> tuple[tuple[ExpectedGroup, ...], IntArray]:
    """Groups, and the group of each photo (P,), from the expected animals in it. Each group holds a photo."""
    edges = [0.0]
    for edge in GROUP_EDGES:
        inside = int(((expected >= edges[-1]) & (expected < edge)).sum())
        if inside >= _LEAST_PHOTOS and int((expected >= edge).sum()) >= _LEAST_PHOTOS:
            edges.append(edge)
    group_of = np.searchsorted(edges[1:], expected, side="right").astype(np.int64)
    upper = [*edges[1:], float("inf")]
    groups = tuple(ExpectedGroup(low, high) for low, high in zip(edges, upper, strict=True)) if len(expected) else ()
    return groups, group_of
