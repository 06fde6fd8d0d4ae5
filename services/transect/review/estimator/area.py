"""From the flown ground to the study area: sampling of transects and review of their photos as two phases. Pure.

Two-phase sampling: Cochran 1977, chapters 10 and 12; Saerndal, Swensson and Wretman 1992, chapter 9. Predictions
spread false alarms evenly over transects and shrink herds, so that the variance between transects would come out too
small; the unbiased estimates of transects correct it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from transect.arrays import FloatArray, IntArray
from transect.census.estimates.estimate import StripMethod, sampling_limits
from transect.census.estimates.intervals import Limits, StripSample, lognormal, student
from transect.review.estimator.flown import Flown

_NO_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class StratumDesign:
    """A stratum as it was flown: `transects` (n,) are numbers of the cells' transects, `areas` (n,) their km2."""

    name: str
    transects: IntArray
    areas: FloatArray
    stratum_area: float
    transects_possible: float | None = None

    def sample(self, counts: FloatArray) -> StripSample:
        """The strip sample with the given counts (n,), of which none is below zero."""
        return StripSample(counts, self.areas, self.stratum_area, self.transects_possible)

    @property
    def expansion(self) -> float:
        """Z / sum z: the study area for each unit of flown ground."""
        return self.stratum_area / float(self.areas.sum())


@dataclass(frozen=True, eq=False)
class AreaEstimate:
    """The animals in one stratum or in several, with both phases in the variance and in the limits.

    `total` is of the flown ground, `flown_limits` its limits from the review alone.
    """

    flown: Flown
    strata: Sequence[StratumDesign]

    @cached_property
    def _counts(self) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
        columns = (self.flown.predicted, self.flown.estimated, self.flown.variance_by_transect)
        predicted, estimated, error = ([column[one.transects] for one in self.strata] for column in columns)
        return predicted, estimated, error

    @cached_property
    def total(self) -> float:
        """T of these strata: the animals on their transects."""
        return float(sum(one.sum() for one in self._counts[1]))

    @cached_property
    def estimate(self) -> float:
        """Y = sum of Z T / sum z."""
        return float(sum(s.expansion * y.sum() for s, y in zip(self.strata, self._counts[1], strict=True)))

    @cached_property
    def review_variance(self) -> float:
        """The part of the variance that comes from the review."""
        return self.flown.variance_of(self._factors(expanded=True))

    @cached_property
    def _by_stratum(self) -> list[tuple[float, float, float]]:
        """For each stratum the sampling variance, the one of the predictions alone, and the degrees of freedom."""
        found = []
        for stratum, y, estimated, error in zip(self.strata, *self._counts, strict=True):
            sample, n = stratum.sample(y), len(y)
            scale = sample.possible**2 * sample.unsampled / n
            residuals = estimated - float(estimated.sum()) / sample.sampled * stratum.areas
            within = self.flown.variance_of(self._factors(expanded=False, only=stratum))
            # The review's own scatter between transects is not the animals'.
            corrected = float(np.var(residuals, ddof=1)) - (float(error.sum()) - within / n) / (n - 1)
            naive = sample.variance or 0.0
            found.append((max(scale * corrected, naive), naive, float(n - 1)))
        return found

    @cached_property
    def spread(self) -> tuple[float, float] | None:
        """The sampling variance, and the one that the predictions alone would give; None for one transect."""
        if any(len(one.areas) < 2 for one in self.strata):
            return None
        return sum(one for one, _, _ in self._by_stratum), sum(one for _, one, _ in self._by_stratum)

    @property
    def spread_factor(self) -> float | None:
        """Lambda: by how much the predictions understate the standard error of sampling; None where undefined."""
        if self.spread is None or self.spread[1] <= 0:
            return None
        return math.sqrt(self.spread[0] / self.spread[1])

    @property
    def variance(self) -> float | None:
        """Of the estimate: sampling and review."""
        return None if self.spread is None else self.spread[0] + self.review_variance

    @cached_property
    def degrees(self) -> float:
        """Degrees of freedom of the sampling variance (Satterthwaite; Cochran 1977, section 5.4)."""
        below = sum(one**2 / df for one, _, df in self._by_stratum)
        if below <= 0:
            return sum(df for _, _, df in self._by_stratum)
        return sum(one for one, _, _ in self._by_stratum) ** 2 / below

    @cached_property
    def flown_limits(self) -> Limits:
        """Limits of `total` from the review.

        For a part of the flown ground they are those of the whole, on the log scale, in proportion to the coefficient
        of variation: the shape of the whole's limits with the part's own error.
        """
        factors = self._factors(expanded=False)
        if np.array_equal(factors, np.ones_like(factors)):
            return self.flown.limits
        if self.total <= 0:
            return 0.0, self.flown.limits[1]
        down, up = self._review_distances(self.flown.variance_of(factors), self.total)
        return self.total * math.exp(-down), self.total * math.exp(up)

    @property
    def student(self) -> Limits | None:
        """`jolly2`: estimate -+ t SE."""
        return None if self.variance is None else student(self.estimate, self.variance, self.degrees)

    def limits(self, method: StripMethod) -> Limits | None:
        """95% limits with both phases; None for one transect, or where nothing was found.

        The log distances of the limits of sampling, times the spread factor, are joined with those of the review.
        """
        if self.spread is None or self.estimate <= 0:
            return None
        if method == "jolly2":
            return self.student
        sampled = self._sampling_distances(method)
        if sampled is None:
            return None
        down, up = self._review_distances(self.review_variance, self.estimate)
        low, high = math.hypot(sampled[0], down), math.hypot(sampled[1], up)
        return self.estimate * math.exp(-low), self.estimate * math.exp(high)

    def _sampling_distances(self, method: StripMethod) -> tuple[float, float] | None:
        """Log distances of the limits of sampling alone, times the spread factor."""
        variance, naive = self.spread or (0.0, 0.0)
        if variance <= 0:
            return 0.0, 0.0
        samples = [s.sample(y) for s, y in zip(self.strata, self._counts[0], strict=True)]
        predicted = sum(sample.estimate for sample in samples)
        if naive <= 0 or predicted <= 0:
            # Without spread of the predictions there is nothing to resample.
            low, high = lognormal(self.estimate, variance, self.degrees)
            return math.log(self.estimate / low), math.log(high / self.estimate)
        low, high = sampling_limits(samples, method)
        factor = math.sqrt(variance / naive)
        down = factor * math.log(predicted / low) if low > 0 else math.inf
        return down, factor * math.log(high / predicted)

    def _review_distances(self, variance: float, total: float) -> tuple[float, float]:
        """Log distances of the review's limits for a sum of transects with this variance and total."""
        whole, (low, high) = self.flown.total, self.flown.limits
        if whole <= 0 or total <= 0:
            return 0.0, 0.0
        down = math.log(whole / low) if low > 0 else math.inf
        up = math.log(high / whole)
        own, common = variance / total**2, self.flown.variance / whole**2
        # Without a variance (every box an animal, no miss found) only the number of items says how sure it is.
        scale = math.sqrt(own / common) if common > 0 and own > 0 else 1.0
        return down * scale, up * scale

    def _factors(self, *, expanded: bool, only: StratumDesign | None = None) -> FloatArray:
        factors = np.zeros(len(self.flown.predicted))
        for one in self.strata if only is None else (only,):
            factors[one.transects] = one.expansion if expanded else 1.0
        return factors
