"""Cells of the two samples of a review: bins of boxes, and groups of photos searched in full. Pure.

Both are ratio estimates in a simple random sample (Cochran 1977, Sampling Techniques, chapter 6), which is Jolly's
method II with boxes or photos for transects. Transects are numbers from 0 to n - 1, the same ones in all cells.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri, stdtrit

from transect.arrays import FloatArray, IntArray

Limits = tuple[float, float]

_Z = float(ndtri(0.975))
# Exact 97.5% limit of a Poisson mean of which none was seen.
_NONE_SEEN = -math.log(0.025)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """Of `population` items the reviewed ones are a simple random sample, or all.

    `size_by_transect` (n,) is the sum over all items of the auxiliary size z, by transect. Of each of the k reviewed
    items, `transect` (k,) is the number, `size` (k,) the size z, and `value` (k,) what people found in it: weighted
    animals. Raises ValueError for more reviewed than there are, for sizes and values below zero, and where the sizes of
    the sample exceed those of all.
    """

    population: int
    size_by_transect: FloatArray
    transect: IntArray
    size: FloatArray
    value: FloatArray

    def __post_init__(self) -> None:
        if not len(self.transect) == len(self.size) == len(self.value):
            raise ValueError("transect, size and value of the reviewed items must have one length")
        if self.population < self.reviewed:
            raise ValueError(f"{self.reviewed} are reviewed, more than the {self.population} that there are")
        numbers = np.concatenate([self.size_by_transect, self.size, self.value])
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            raise ValueError("weights and counts must be finite numbers, not below zero")
        if self.reviewed and not 0 <= self.transect.min() <= self.transect.max() < len(self.size_by_transect):
            raise ValueError(f"transects are numbered from 0 to {len(self.size_by_transect) - 1}")

    @property
    def reviewed(self) -> int:
        """Items that people decided on."""
        return len(self.value)

    @property
    def is_known(self) -> bool:
        """Whether the cell's total has a variance: all items are reviewed, or two at least."""
        return self.reviewed == self.population or self.reviewed >= 2

    @property
    def whole_size(self) -> float:
        """The size of all items."""
        return float(self.size_by_transect.sum())

    @property
    def unreviewed(self) -> float:
        """1 - k / K: the finite population correction."""
        return 1 - self.reviewed / self.population if self.population else 0.0

    @cached_property
    def ratio(self) -> float:
        """Animals for each unit of size: p of a bin, r of a group. 0 where nothing reviewed has a size."""
        sized = float(self.size.sum())
        return float(self.value.sum()) / sized if sized > 0 else 0.0

    @cached_property
    def residuals(self) -> FloatArray:
        """Value less ratio times size, (k,)."""
        return np.asarray(self.value - self.ratio * self.size, np.float64)

    @property
    def total(self) -> float:
        """T: the animals in all items of the cell."""
        return self.ratio * self.whole_size if self._sized else self._raised * float(self.value.sum())

    @property
    def scatter(self) -> float:
        """The sample variance of the residuals; 0 for fewer than two."""
        return float(np.var(self.residuals, ddof=1)) if self.reviewed > 1 else 0.0

    @property
    def variance(self) -> float:
        """K (K - k) / k times the scatter."""
        return self._expansion * self.scatter

    @property
    def _sized(self) -> bool:
        """Whether the ratio is known; else values are raised by the number of items."""
        return bool(self.size.any())

    @property
    def _raised(self) -> float:
        return self.population / self.reviewed if self.reviewed else 0.0

    @property
    def _expansion(self) -> float:
        return self.population * (self.population - self.reviewed) / self.reviewed if self.reviewed else 0.0

    @property
    def predicted(self) -> FloatArray:
        """The total divided between transects by size, (n,)."""
        return np.asarray(self.ratio * self.size_by_transect, np.float64)

    @property
    def estimated(self) -> FloatArray:
        """The generalised difference estimate of each transect, (n,); the sum is the total.

        Saerndal, Swensson and Wretman 1992, Model Assisted Survey Sampling, section 6.3.
        """
        return np.asarray(self.predicted + self._raised * self._by_transect(self.residuals), np.float64)

    @property
    def variance_by_transect(self) -> FloatArray:
        """The variance of `estimated` from the sample of items, (n,)."""
        return self._spread(self._by_transect(self.residuals), self._by_transect(self.residuals**2))

    def variance_of(self, factors: FloatArray) -> float:
        """The variance of the sum of `estimated` times `factors` (n,)."""
        values = factors[self.transect] * self.residuals
        return float(self._spread(values.sum(), (values**2).sum()))

    def _spread(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """The variance of a sum over items, from the sums of residuals and of their squares in the sample."""
        if self.reviewed < 2:
            return np.zeros_like(first)
        spread = np.maximum(second - first**2 / self.reviewed, 0.0)
        return np.asarray(self._expansion * spread / (self.reviewed - 1), np.float64)

    def _by_transect(self, values: FloatArray) -> FloatArray:
        return np.bincount(self.transect, values, minlength=len(self.size_by_transect)).astype(np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxBin(Cell):
    """Boxes of one predicted species and a range of scores: size is a box's weight, value that weight or 0.

    `counted` is false for boxes below the census's threshold, `called` false where they were called another species.
    """

    counted: bool = True
    called: bool = True

    @property
    def limits(self) -> Limits:
        """95% limits of the total: the size times Wilson's score limits of the share (Wilson 1927)."""
        low, high = wilson(self.ratio, self.reviewed)
        return low * self.whole_size, high * self.whole_size


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotoGroup(Cell):
    """Photos of one range of expected animals; the value is the weighted number of animals that no box covers.

    `perception` is the share of the animals without a box that a reader finds, and `perception_cv` its coefficient of
    variation; values are of what was found, and the total is that over the perception.
    """

    perception: float = 1.0
    perception_cv: float = 0.0

    @property
    def total(self) -> float:
        """T: the animals without a box in all photos of the group."""
        return super().total / self.perception

    @property
    def variance(self) -> float:
        """That of the sample, and that of the perception."""
        return super().variance / self.perception**2 + (self.total * self.perception_cv) ** 2

    @property
    def predicted(self) -> FloatArray:
        """See Cell."""
        return np.asarray(super().predicted / self.perception, np.float64)

    @property
    def estimated(self) -> FloatArray:
        """See Cell."""
        # The residuals are of what was found, as the prediction of the base class is.
        plain = self.ratio * self.size_by_transect + self._raised * self._by_transect(self.residuals)
        return np.asarray(plain / self.perception, np.float64)

    @property
    def variance_by_transect(self) -> FloatArray:
        """See Cell; the error of the perception is common to all transects."""
        return super().variance_by_transect / self.perception**2 + (self.estimated * self.perception_cv) ** 2

    def variance_of(self, factors: FloatArray) -> float:
        """See Cell."""
        common = float(factors @ self.estimated) * self.perception_cv
        return super().variance_of(factors) / self.perception**2 + common**2

    @property
    def limits(self) -> Limits:
        """95% limits of the total.

        None found: exact Poisson limits. Else log-normal ones, at least as wide as those of a Poisson count.
        """
        found, plain = float(self.value.sum()), super().total
        if found == 0:
            raised = self.whole_size / float(self.size.sum()) if self._sized else self._raised
            return 0.0, _NONE_SEEN * raised / self.perception
        spread = self.population * math.sqrt(self.scatter / self.reviewed) / plain
        cv = math.hypot(max(spread, 1 / math.sqrt(found)), self.perception_cv)
        factor = math.exp(float(stdtrit(max(self.reviewed - 1, 1), 0.975)) * math.sqrt(math.log1p(cv**2)))
        return self.total / factor, self.total * factor


def wilson(share: float, number: int) -> Limits:
    """95% score limits of a share among `number` (Wilson 1927, J. Am. Stat. Assoc. 22: 209-212); (0, 1) for none."""
    if number == 0:
        return 0.0, 1.0
    square = _Z**2 / number
    middle = share + square / 2
    reach = math.sqrt(square * share * (1 - share) + square**2 / 4)
    return max(middle - reach, 0.0) / (1 + square), min((middle + reach) / (1 + square), 1.0)


def mover(total: float, parts: list[tuple[float, Limits, float]]) -> Limits:
    """95% limits of a sum from (total, limits, unreviewed share) of its independent parts.

    Zou and Donner 2008, Stat. Med. 27: 1693-1702 (method of variance estimates recovery).
    """
    low = math.sqrt(sum(share * (one - limits[0]) ** 2 for one, limits, share in parts if share > 0))
    high = math.sqrt(sum(share * (limits[1] - one) ** 2 for one, limits, share in parts if share > 0))
    return total - low, total + high
