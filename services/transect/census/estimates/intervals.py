"""Limits of a stratified ratio estimate: studentised and percentile bootstrap, log-normal, Student's t. Pure.

The names follow Jolly (1969): n of N possible transects with y animals on z km2 were flown in a stratum of Z km2.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from transect.arrays import FloatArray

Limits = tuple[float, float]

# With 9,999 replicates the 250th from either end is the 2.5% point itself (Davison and Hinkley 1997, ch. 2).
REPLICATES = 9999
_SEED = 1969
_CHUNK = 2_000_000
# Residuals below this share of the counts are rounding, not spread.
_NO_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class StripSample:
    """The transects of one stratum: `counts` y and `areas` z in km2 (n,), its area Z in km2, and N if known.

    Raises ValueError where no such survey can exist (negative or zero areas, more sampled than there is).
    """

    counts: FloatArray
    areas: FloatArray
    stratum_area: float
    transects_possible: float | None = None

    @classmethod
    def of(
        cls, counts: Sequence[float], areas: Sequence[float], stratum_area: float, possible: float | None = None
    ) -> "StripSample":
        """From plain numbers."""
        return cls(np.asarray(counts, np.float64), np.asarray(areas, np.float64), float(stratum_area), possible)

    def __post_init__(self) -> None:
        y, z, whole = self.counts, self.areas, self.stratum_area
        if y.ndim != 1 or y.shape != z.shape or len(y) == 0:
            raise ValueError("counts and areas must be two lists of the same length, at least one transect long")
        if not (np.isfinite(y).all() and np.isfinite(z).all() and math.isfinite(whole)):
            raise ValueError("counts and areas must be finite numbers")
        if (y < 0).any() or (z <= 0).any() or whole <= 0:
            raise ValueError("counts cannot be below zero, and areas must be above zero")
        if z.sum() > whole * (1 + 1e-9):
            raise ValueError(f"the transects cover {z.sum():.4g} km2, more than the stratum's {whole:.4g} km2")
        given = self.transects_possible
        if given is not None and not given >= self.n * (1 - 1e-9):
            raise ValueError(f"{given:g} possible transects are fewer than the {self.n} that were flown")

    @property
    def n(self) -> int:
        """Transects flown."""
        return len(self.counts)

    @property
    def seen(self) -> float:
        """Animals counted."""
        return float(self.counts.sum())

    @property
    def sampled(self) -> float:
        """Area of the transects in km2."""
        return float(self.areas.sum())

    @property
    def ratio(self) -> float:
        """R: animals per km2 of transect."""
        return self.seen / self.sampled

    @property
    def estimate(self) -> float:
        """R Z."""
        return self.ratio * self.stratum_area

    @property
    def possible(self) -> float:
        """N: given, else Z / mean z, unrounded."""
        if self.transects_possible is not None:
            return max(self.transects_possible, float(self.n))
        return max(self.stratum_area * self.n / self.sampled, float(self.n))

    @property
    def unsampled(self) -> float:
        """1 - n / N: the finite population correction, without rounding errors."""
        share = 1 - self.n / self.possible
        return share if share > 1e-9 else 0.0

    @cached_property
    def variance(self) -> float | None:
        """Jolly's method II: N (N - n) / n (s2_y - 2 R s_zy + R2 s2_z); None for one transect."""
        if self.n < 2:
            return None
        # The bracket is the sample variance of y - R z; in this form it cannot become negative.
        spread = float(np.var(self.counts - self.ratio * self.areas, ddof=1))
        if math.sqrt(spread) <= _NO_SPREAD * float(self.counts.max()):
            spread = 0.0
        return self.possible**2 * self.unsampled / self.n * spread


def student(estimate: float, variance: float, df: float) -> Limits:
    """Estimate -+ t(0.975, df) SE, the usual limits of surveys (Jolly 1969; Norton-Griffiths 1978)."""
    reach = float(stdtrit(df, 0.975)) * math.sqrt(variance)
    return estimate - reach, estimate + reach


def lognormal(estimate: float, variance: float, df: float) -> Limits:
    """Estimate / C and estimate C, C = exp(t(0.975, df) sqrt(ln(1 + CV2))).

    Burnham et al. 1987, as in Buckland et al. 2001, Introduction to Distance Sampling, section 3.6.1; t for z.
    """
    factor = math.exp(float(stdtrit(df, 0.975)) * math.sqrt(math.log1p(variance / estimate**2)))
    return estimate / factor, estimate * factor


def studentised(samples: Sequence[StripSample]) -> tuple[float | None, float | None]:
    """Bootstrap-t limits of the sum over independent strata; None where resampling gives no finite one.

    In each replicate n - 1 of a stratum's n transects are drawn with replacement (Rao and Wu 1988, J. Am. Stat.
    Assoc. 83: 231-241, which keeps the variance unbiased also for few transects); the deviation of its ratio
    estimate and the estimate's variance carry the stratum's finite population correction; both add over strata.
    With t* = deviation / SE*, the limits are estimate - t*(0.975) SE and estimate - t*(0.025) SE (Efron 1981,
    Can. J. Stat. 9: 139-172; Davison and Hinkley 1997, Bootstrap Methods and their Application, section 2.4). The
    draws start from a fixed seed and from transects in order of size, so that a survey always gives the same limits.
    """
    deviation, variance = np.zeros(REPLICATES), np.zeros(REPLICATES)
    for sample, number in _in_order(samples):
        ratio, spread = _resampled(sample, number)
        scale = sample.stratum_area * math.sqrt(sample.unsampled)
        deviation += scale * (ratio - sample.ratio)
        variance += scale**2 * spread
    pivot = np.copysign(np.full(REPLICATES, np.inf), deviation)
    # Replicates without spread: their estimate is off by infinitely many standard errors.
    np.divide(deviation, np.sqrt(variance), out=pivot, where=variance > 0)
    se = math.sqrt(sum(sample.variance or 0.0 for sample in samples))
    estimate = sum(sample.estimate for sample in samples)
    low, high = (estimate - quantile * se if math.isfinite(quantile) else None for quantile in _tails(pivot)[::-1])
    return low, high


def percentile(samples: Sequence[StripSample]) -> Limits:
    """The 2.5% and 97.5% points of the resampled sum of estimates (Efron 1979), as `studentised` draws them."""
    deviation = np.zeros(REPLICATES)
    for sample, number in _in_order(samples):
        deviation += sample.stratum_area * math.sqrt(sample.unsampled) * (_resampled(sample, number)[0] - sample.ratio)
    estimate = sum(sample.estimate for sample in samples)
    low, high = _tails(deviation)
    return estimate + low, estimate + high


def _in_order(samples: Sequence[StripSample]) -> list[tuple[StripSample, int]]:
    """Strata and their transects in a canonical order, so that the order of the table does not matter.

    The number distinguishes strata with equal numbers of transects, which would otherwise draw the same resamples.
    """
    ordered = []
    for sample in samples:
        order = np.lexsort((sample.counts, sample.areas))
        ordered.append(
            StripSample(
                sample.counts[order], sample.areas[order], sample.stratum_area, transects_possible=sample.possible
            )
        )
    ordered.sort(key=lambda one: (one.n, one.stratum_area, tuple(one.counts), tuple(one.areas)))
    before: Counter[int] = Counter()
    numbered = []
    for sample in ordered:
        numbered.append((sample, before[sample.n]))
        before[sample.n] += 1
    return numbered


def _resampled(sample: StripSample, number: int) -> tuple[FloatArray, FloatArray]:
    """Ratio estimate R* (animals per km2) and its variance in each replicate, without finite population correction."""
    drawn = sample.n - 1
    generator = np.random.default_rng([_SEED, sample.n, number])
    ratios, variances = np.empty(REPLICATES), np.empty(REPLICATES)
    step = max(_CHUNK // drawn, 1)
    for start in range(0, REPLICATES, step):
        part = slice(start, min(start + step, REPLICATES))
        chosen = generator.integers(0, sample.n, (part.stop - part.start, drawn))
        y, z = sample.counts[chosen], sample.areas[chosen]
        ratio = y.sum(axis=1) / z.sum(axis=1)
        residuals = y - ratio[:, None] * z
        squares = np.einsum("ij,ij->i", residuals, residuals)
        squares[np.sqrt(squares) <= _NO_SPREAD * y.max(axis=1)] = 0.0
        ratios[part] = ratio
        variances[part] = squares / max(drawn - 1, 1) * drawn / z.sum(axis=1) ** 2
    return ratios, variances


def _tails(values: FloatArray) -> Limits:
    """The 2.5% and the 97.5% point: order statistics (REPLICATES + 1) p."""
    low = round((REPLICATES + 1) * 0.025) - 1
    ordered = np.partition(values, (low, REPLICATES - 1 - low))
    return float(ordered[low]), float(ordered[REPLICATES - 1 - low])
