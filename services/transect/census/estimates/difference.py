"""Tests and limits of the difference of two estimates. Pure: numbers in, numbers out."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from transect.arrays import FloatArray
from transect.census.estimates.intervals import Limits


@dataclass(frozen=True)
class Estimated:
    """An estimate with its variance, the variance's degrees of freedom, and 95% limits (low, high) that contain it."""

    estimate: float
    variance: float
    degrees: float
    ci95: Limits | None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A difference with its two-sided test: 95% limits of it and, where there are any, of the ratio."""

    se: float
    df: float
    t: float
    p: float
    ci95: Limits
    ratio_ci95: Limits | None = None


def mover(a: Estimated, b: Estimated) -> Contrast | None:
    """Test b - a by the limits of both: the method of variance estimates recovery, for independent estimates.

    With a in (la, ua) and b in (lb, ub) the difference d = b - a has the limits
    d - sqrt((b - lb)2 + (ua - a)2) and d + sqrt((ub - b)2 + (a - la)2) (Zou and Donner 2008, Stat. Med. 27:
    1693-1702): the distance of each limit stands for a standard error of its own, so that limits that are wider
    upwards stay so. The ratio's limits are the ratios at which b - ratio a has a limit of 0 (MOVER-R: Donner and Zou
    2012, Stat. Methods Med. Res. 21: 347-359), so 1 is between them where 0 is between those of the difference.

    `t` and `p` belong to the side that faces 0: p is below 0.05 where 0 is outside the limits. The degrees of freedom
    are Satterthwaite's. None where one has no limits, or the side that faces 0 has no width.
    """
    if a.ci95 is None or b.ci95 is None:
        return None
    difference = b.estimate - a.estimate
    down = math.hypot(b.estimate - b.ci95[0], a.ci95[1] - a.estimate)
    up = math.hypot(b.ci95[1] - b.estimate, a.estimate - a.ci95[0])
    df = satterthwaite(a, b)
    facing = down if difference > 0 else up
    if facing == 0:
        return None
    limits = (difference - down, difference + up)
    return _tested(difference, facing / _reach(df), df, limits, _ratio_limits(a, b))


def welch(a: Estimated, b: Estimated) -> Contrast:
    """Test b - a by Welch's t (1947, Biometrika 34: 28-35): the difference over the root of the summed variances.

    Raises ZeroDivisionError where neither has an error.
    """
    return symmetric(b.estimate - a.estimate, math.sqrt(a.variance + b.variance), satterthwaite(a, b))


def symmetric(difference: float, se: float, df: float) -> Contrast:
    """Student's t test of a difference with a standard error. Raises ZeroDivisionError where that is 0."""
    reach = _reach(df) * se
    return _tested(difference, se, df, (difference - reach, difference + reach), None)


def satterthwaite(a: Estimated, b: Estimated) -> float:
    """Degrees of freedom of the sum of two variances (Satterthwaite 1946, Biom. Bull. 2: 110-114)."""
    total = a.variance + b.variance
    below = a.variance**2 / a.degrees + b.variance**2 / b.degrees
    return total**2 / below if below > 0 else a.degrees + b.degrees


def paired(counts_a: FloatArray, counts_b: FloatArray, areas: FloatArray, ground: float) -> tuple[float, float]:
    """Standard error and degrees of freedom of the difference of two counts on the same transects (n,).

    Jolly's method II of d = b - a on `areas` km2 in a stratum of `ground` km2, N = ground / mean area.
    """
    n, difference = len(areas), counts_b - counts_a
    possible = max(ground * n / float(areas.sum()), n)
    residuals = difference - difference.sum() / areas.sum() * areas
    variance = possible * (possible - n) / n * float(np.var(residuals, ddof=1))
    return math.sqrt(max(variance, 0.0)), float(n - 1)


def _reach(df: float) -> float:
    return float(stdtrit(df, 0.975))


def _tested(difference: float, se: float, df: float, limits: Limits, ratio: Limits | None) -> Contrast:
    t = difference / se
    return Contrast(se=se, df=df, t=t, p=float(2 * stdtr(df, -abs(t))), ci95=limits, ratio_ci95=ratio)


def _ratio_limits(a: Estimated, b: Estimated) -> Limits | None:
    """Limits of b / a: roots of (b - ratio a)2 = (b's distance)2 + ratio2 (a's distance)2."""
    if a.ci95 is None or b.ci95 is None or a.ci95[0] <= 0 or b.ci95[0] <= 0:
        return None
    product = a.estimate * b.estimate
    # (2 x - limit) limit = x2 - (limit - x)2; below 0 where a limit is more than twice the estimate.
    low_b, high_b = ((2 * b.estimate - limit) * limit for limit in b.ci95)
    low_a, high_a = ((2 * a.estimate - limit) * limit for limit in a.ci95)
    low = low_b / (product + math.sqrt(max(product**2 - low_b * high_a, 0.0)))
    high = (product + math.sqrt(max(product**2 - high_b * low_a, 0.0))) / low_a
    return low, high
