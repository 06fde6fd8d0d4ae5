"""From counts on transects to an estimate with limits. Pure: numbers in, numbers out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import stdtrit

Method = Literal["jolly2", "total"]


@dataclass(frozen=True)
class Estimate:
    """One estimate. Areas in km2, density per km2; `variance`, `se` and `ci95` are None where they do not exist.

    `n` is the number of transects, `seen` the animals counted in the sampled `area_km2`, `df` the degrees of
    freedom behind the limits; `note` says in a sentence what a reader must know.
    """

    method: Method
    n: int
    seen: int
    area_km2: float
    density: float | None
    estimate: float | None
    variance: float | None = None
    se: float | None = None
    ci95: tuple[float, float] | None = None
    df: float | None = None
    note: str = ""


def jolly2(
    counts: Sequence[float], areas: Sequence[float], stratum_area: float, transects_possible: float | None = None
) -> Estimate:
    """Jolly's method II, for sampling units of unequal size (Jolly 1969, E. Afr. agric. for. J. 34: 46-49).

    `counts` are animals y_i and `areas` km2 z_i of the n transects; those without an animal count too.
    With R = sum y / sum z and N possible transects (given, else stratum area / mean z, unrounded):
    Y = R Z and Var = N (N - n) / n (s2_y - 2 R s_zy + R2 s2_z). The 95% limits are Y -+ t(0.975, n - 1) SE;
    the lower one is never below the animals seen.

    Raises ValueError where no such survey can exist (negative or zero areas, more sampled than there is).
    """
    y, z = np.asarray(counts, np.float64), np.asarray(areas, np.float64)
    _check(y, z, stratum_area)
    n, seen, sampled = len(y), float(y.sum()), float(z.sum())
    possible = stratum_area * n / sampled if transects_possible is None else transects_possible
    if possible < n * (1 - 1e-9):
        raise ValueError(f"{possible:g} possible transects are fewer than the {n} that were flown")
    ratio = seen / sampled
    point = Estimate("jolly2", n, round(seen), sampled, ratio, ratio * stratum_area)
    if n < 2:
        return replace(point, note="One transect gives no interval: at least two are needed.")
    # s2_y - 2 R s_zy + R2 s2_z is the sample variance of y - R z; so written it cannot come out negative.
    spread = float(np.var(y - ratio * z, ddof=1))
    variance = max(possible * (possible - n) / n * spread, 0.0)
    return _with_limits(replace(point, variance=variance, df=float(n - 1)))


def total_coverage(seen: int, covered_km2: float, stratum_area: float) -> Estimate:
    """A survey that meant to see everything: the count over the covered share of the area, without limits."""
    if not (covered_km2 > 0 and stratum_area > 0):
        raise ValueError("the covered area and the stratum's area must be above zero")
    share = min(covered_km2 / stratum_area, 1.0)
    note = "Total coverage has no sampling error, so no interval."
    if share < 1:
        note = f"{share:.1%} of the area was covered; the rest is taken to hold as many animals per km2."
    return Estimate("total", 0, seen, covered_km2, seen / covered_km2, seen / share, note=note)


def add_strata(parts: Sequence[Estimate]) -> Estimate:
    """Strata are independent: estimates and variances add.

    The degrees of freedom are Satterthwaite's (Cochran 1977, Sampling Techniques, eq. 5.16); for one stratum
    they are its own.
    """
    if len(parts) == 1:
        return parts[0]
    if not parts:
        raise ValueError("no strata to add")
    seen, area = sum(part.seen for part in parts), sum(part.area_km2 for part in parts)
    estimates = [part.estimate for part in parts]
    total = None if any(value is None for value in estimates) else sum(value or 0.0 for value in estimates)
    n = sum(part.n for part in parts)
    density = seen / area if area > 0 else None
    whole = Estimate(parts[0].method, n, seen, area, density, total)
    if total is None or any(part.variance is None or part.df is None for part in parts):
        return replace(whole, note=" ".join(dict.fromkeys(part.note for part in parts if part.note)))
    variances = [part.variance or 0.0 for part in parts]
    below = sum(v * v / (part.df or 1.0) for v, part in zip(variances, parts, strict=True))
    df = sum(variances) ** 2 / below if below > 0 else float(sum((part.df or 0.0) for part in parts))
    return _with_limits(replace(whole, variance=sum(variances), df=df))


def _with_limits(estimate: Estimate) -> Estimate:
    value, variance, df = estimate.estimate, estimate.variance, estimate.df
    if value is None or variance is None or df is None:
        raise ValueError("limits need an estimate, a variance and its degrees of freedom")
    se = math.sqrt(variance)
    limits: tuple[float, float] | None = None
    note = "None was seen; that gives no interval."
    if estimate.seen > 0:
        reach = float(stdtrit(df, 0.975)) * se
        limits, note = (max(value - reach, float(estimate.seen)), value + reach), ""
    return replace(estimate, se=se, ci95=limits, note=note)


def _check(y: np.ndarray, z: np.ndarray, stratum_area: float) -> None:
    if y.ndim != 1 or y.shape != z.shape or len(y) == 0:
        raise ValueError("counts and areas must be two lists of the same length, at least one transect long")
    if not (np.isfinite(y).all() and np.isfinite(z).all() and math.isfinite(stratum_area)):
        raise ValueError("counts and areas must be finite numbers")
    if (y < 0).any() or (z <= 0).any() or stratum_area <= 0:
        raise ValueError("counts cannot be below zero, and areas must be above zero")
    if z.sum() > stratum_area * (1 + 1e-9):
        raise ValueError(f"the transects cover {z.sum():.4g} km2, more than the stratum's {stratum_area:.4g} km2")
