"""The animals on the flown ground, from bins of boxes and groups of photos. Pure.

Boxes that are animals and animals without a box are two independent samples: T = T_A + T_B, and the variances add.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from transect.arrays import FloatArray
from transect.review.estimator.cells import BoxBin, Limits, PhotoGroup, mover


@dataclass(frozen=True)
class Share:
    """A share of 0..1 and its standard error."""

    value: float
    se: float


@dataclass(frozen=True, eq=False)
class Flown:
    """The flown ground of one species, or of all; bins and groups share the numbers of their transects.

    Totals exist where `unknown` is empty, that is where two items of every cell are reviewed, or all.
    """

    bins: Sequence[BoxBin]
    groups: Sequence[PhotoGroup]

    @property
    def cells(self) -> list[BoxBin | PhotoGroup]:
        """All cells that hold something."""
        cells: list[BoxBin | PhotoGroup] = [*self.bins, *self.groups]
        return [one for one in cells if one.population]

    @property
    def unknown(self) -> list[BoxBin | PhotoGroup]:
        """Cells with too few reviewed items: their share of the total is unknown."""
        return [one for one in self.cells if not one.is_known]

    @cached_property
    def total(self) -> float:
        """T."""
        return sum(one.total for one in self.cells)

    @cached_property
    def variance(self) -> float:
        """V; the error of the perception is common to all groups."""
        searched = [one for one in self.groups if one.population]
        apart = sum((one.total * one.perception_cv) ** 2 for one in searched)
        common = sum(one.total * one.perception_cv for one in searched) ** 2
        return sum(one.variance for one in self.cells) - apart + common

    @property
    def seen(self) -> float:
        """The weighted animals that people saw, which the total cannot be below."""
        return sum(float(one.value.sum()) for one in self.cells)

    @cached_property
    def limits(self) -> Limits:
        """95% limits of the total, without a floor."""
        return mover(self.total, [(one.total, one.limits, one.unreviewed) for one in self.cells])

    @property
    def precision(self) -> Share | None:
        """The share of the counted boxes called the species that are of it; None without such boxes."""
        called = [one for one in self.bins if one.population and one.counted and one.called]
        boxes = sum(one.whole_size for one in called)
        if boxes == 0:
            return None
        return Share(sum(one.total for one in called) / boxes, math.sqrt(sum(one.variance for one in called)) / boxes)

    def recall(self, *, as_called: bool = False) -> Share | None:
        """The share of the animals on which the census has a counted box; `as_called`: of the right species.

        The standard error is by the delta method from found and missed, which are independent. None without animals.
        """
        if self.total <= 0:
            return None
        found = [one for one in self.bins if one.population and one.counted and (one.called or not as_called)]
        hit, error = sum(one.total for one in found), sum(one.variance for one in found)
        missed, other = self.total - hit, self.variance - error
        return Share(hit / self.total, math.sqrt(missed**2 * error + hit**2 * max(other, 0.0)) / self.total**2)

    @property
    def predicted(self) -> FloatArray:
        """The total divided between transects by weight and size, (n,)."""
        return np.asarray(sum(one.predicted for one in self.cells), np.float64)

    @property
    def estimated(self) -> FloatArray:
        """The nearly unbiased estimate of each transect, (n,), which may be below zero."""
        return np.asarray(sum(one.estimated for one in self.cells), np.float64)

    @property
    def variance_by_transect(self) -> FloatArray:
        """The variance of `estimated` from the review, (n,)."""
        return np.asarray(sum(one.variance_by_transect for one in self.cells), np.float64)

    def variance_of(self, factors: FloatArray) -> float:
        """The variance, from the review, of the sum of `estimated` times `factors` (n,)."""
        common = [float(factors @ one.estimated) * one.perception_cv for one in self.groups if one.population]
        # Each group has its own part of the perception's error; the parts add before they are squared.
        return sum(one.variance_of(factors) for one in self.cells) - sum(c**2 for c in common) + sum(common) ** 2
