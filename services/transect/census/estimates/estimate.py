"""Population estimates with limits from counts on transects. Pure: numbers in, numbers out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from transect.census.estimates.intervals import Limits, StripSample, lognormal, percentile, student, studentised

StripMethod = Literal["bootstrap", "jolly2", "lognormal", "percentile"]
Method = Literal["bootstrap", "jolly2", "lognormal", "percentile", "total"]

STRIP_METHODS: tuple[StripMethod, ...] = get_args(StripMethod)
METHODS: tuple[Method, ...] = get_args(Method)
# Its coverage was nearest to 95% in simulated surveys of herding animals: benchmarks/intervals.py.
DEFAULT_METHOD: StripMethod = "bootstrap"

_ONE_TRANSECT = "One transect gives no interval: at least two are needed."
_NONE_SEEN = "None was seen; that gives no interval."
_SAME_DENSITY = "all transects happen to have one density, so the error of the estimate is unknown."


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One estimate. Areas in km2, density per km2; `variance`, `se` and `ci95` are None where they do not exist.

    `n` is the number of transects, `seen` the animals counted in the sampled `area_km2` of `stratum_km2` (a fraction
    where boxes were weighted), `df` the degrees of freedom of the variance; `note` is a remark for the reader.
    """

    method: Method
    n: int
    seen: float
    area_km2: float
    density: float | None
    estimate: float | None
    variance: float | None = None
    se: float | None = None
    ci95: Limits | None = None
    df: float | None = None
    note: str = ""
    stratum_km2: float | None = None

    @property
    def sampled_share(self) -> float | None:
        """The sampling fraction: sampled area over the stratum's."""
        return None if self.stratum_km2 is None else self.area_km2 / self.stratum_km2


def estimate_strip(samples: Sequence[StripSample], method: StripMethod = DEFAULT_METHOD) -> Estimate:
    """The total of one stratum, or of several independent ones, with 95% limits.

    Point estimate, variance and SE are those of Jolly's method II (1969) for every method; the methods differ in
    their limits alone. (The usual ratio estimator, Cochran 1977 ch. 6, is the same one: with N given, or
    N = Z / mean z, its variance is Jolly's.)

    bootstrap   studentised bootstrap, or log-normal limits where these are wider or resampling gives none
    jolly2      estimate -+ t SE
    lognormal   estimate / C and estimate C
    percentile  percentiles of the bootstrap
    The lower limit is never below the animals seen. Raises ValueError for no samples.
    """
    if not samples:
        raise ValueError("no strata to add")
    whole = _sum_of([_point(sample, method) for sample in samples])
    if whole.variance is None:
        return whole
    if whole.seen == 0:
        return replace(whole, note=_none_note(samples))
    if whole.variance == 0:
        return _without_spread(whole, samples)
    limits, note = _limits(whole, samples, method)
    chance = sum(sample.variance == 0 and sample.seen > 0 and sample.unsampled > 0 for sample in samples)
    if chance:
        note = f"{note} In {chance} of {len(samples)} strata {_SAME_DENSITY}".strip()
    return replace(whole, ci95=_extended_limits(whole, limits), note=note)


def sampling_limits(samples: Sequence[StripSample], method: StripMethod = DEFAULT_METHOD) -> Limits:
    """The 95% limits of `estimate_strip` without its floor, the animals seen, for counts that are estimates themselves.

    Each stratum has two transects at least, and the whole a variance above zero: see `estimate_strip` for the methods.
    """
    return _limits(_sum_of([_point(sample, method) for sample in samples]), samples, method)[0]


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
    return estimate_strip([StripSample.of(counts, areas, stratum_area, transects_possible)], "jolly2")


def total_coverage(seen: float, covered_km2: float, stratum_area: float) -> Estimate:
    """Total coverage: the count over the covered share of the area, without limits."""
    if not (covered_km2 > 0 and stratum_area > 0):
        raise ValueError("the covered area and the stratum's area must be above zero")
    share = min(covered_km2 / stratum_area, 1.0)
    note = "Total coverage has no sampling error, so no interval."
    if share < 1:
        note = f"{share:.1%} of the area was covered; the rest is taken to hold as many animals per km2."
    return Estimate(
        method="total",
        n=0,
        seen=seen,
        area_km2=covered_km2,
        density=seen / covered_km2,
        estimate=seen / share,
        note=note,
        stratum_km2=stratum_area,
    )


def add_strata(parts: Sequence[Estimate]) -> Estimate:
    """Strata are independent: estimates and variances add.

    The degrees of freedom are Satterthwaite's (Cochran 1977, Sampling Techniques, section 5.4); for one stratum
    they are its own. Limits are given for `jolly2` and `lognormal`, which follow from the sums; a bootstrap needs
    the transects: `estimate_strip`.
    """
    if len(parts) == 1:
        return parts[0]
    if not parts:
        raise ValueError("no strata to add")
    whole = _sum_of(parts)
    if whole.variance is None or whole.df is None or whole.method not in ("jolly2", "lognormal"):
        return whole
    if whole.seen == 0:
        return replace(whole, note=_NONE_SEEN)
    formula = student if whole.method == "jolly2" else lognormal
    return replace(whole, ci95=_extended_limits(whole, formula(whole.estimate or 0.0, whole.variance, whole.df)))


def _point(sample: StripSample, method: Method) -> Estimate:
    point = Estimate(
        method=method,
        n=sample.n,
        seen=int(sample.seen) if sample.seen.is_integer() else sample.seen,
        area_km2=sample.sampled,
        density=sample.ratio,
        estimate=sample.estimate,
        note=_ONE_TRANSECT,
        stratum_km2=sample.stratum_area,
    )
    if sample.variance is None:
        return point
    return replace(point, variance=sample.variance, se=math.sqrt(sample.variance), df=float(sample.n - 1), note="")


def _sum_of(parts: Sequence[Estimate]) -> Estimate:
    """Estimates, variances and areas add; a value missing in one part is missing in the sum, with its note."""
    if len(parts) == 1:
        return parts[0]
    seen, area = sum(part.seen for part in parts), sum(part.area_km2 for part in parts)
    estimates = [part.estimate for part in parts if part.estimate is not None]
    total = sum(estimates) if len(estimates) == len(parts) else None
    grounds = [part.stratum_km2 for part in parts if part.stratum_km2 is not None]
    ground = sum(grounds) if len(grounds) == len(parts) else None
    density = seen / area if area > 0 else None
    if total is not None and ground is not None:
        density = total / ground
    whole = Estimate(
        method=parts[0].method,
        n=sum(part.n for part in parts),
        seen=seen,
        area_km2=area,
        density=density,
        estimate=total,
        stratum_km2=ground,
    )
    known = [(part.variance, part.df) for part in parts if part.variance is not None and part.df is not None]
    if total is None or len(known) < len(parts):
        return replace(whole, note=" ".join(dict.fromkeys(part.note for part in parts if part.note)))
    variance = sum(one for one, _ in known)
    below = sum(one * one / df for one, df in known)
    degrees = variance**2 / below if below > 0 else sum(df for _, df in known)
    return replace(whole, variance=variance, se=math.sqrt(variance), df=degrees)


def _limits(whole: Estimate, samples: Sequence[StripSample], method: StripMethod) -> tuple[Limits, str]:
    estimate, variance, df = whole.estimate or 0.0, whole.variance or 0.0, whole.df or 1.0
    if method == "jolly2":
        return student(estimate, variance, df), ""
    if method == "percentile":
        return percentile(samples), ""
    by_formula = lognormal(estimate, variance, df)
    if method == "lognormal":
        return by_formula, ""
    low, high = studentised(samples)
    note = ""
    if low is None or high is None:
        hit = sum(int((sample.counts > 0).sum()) for sample in samples)
        note = (
            f"Animals were on {hit} of {whole.n} transects: too few to resample, so the limits are log-normal ones, "
            "and rough."
        )
    low = by_formula[0] if low is None else min(low, by_formula[0])
    high = by_formula[1] if high is None else max(high, by_formula[1])
    return (low, high), note


def _extended_limits(whole: Estimate, limits: Limits) -> Limits:
    """Limits extended to contain the estimate, and never below the animals seen."""
    estimate, seen = whole.estimate or 0.0, float(whole.seen)
    return max(min(limits[0], estimate), seen), max(limits[1], estimate, seen)


def _without_spread(whole: Estimate, samples: Sequence[StripSample]) -> Estimate:
    point = _extended_limits(whole, (whole.estimate or 0.0, whole.estimate or 0.0))
    if all(sample.unsampled == 0 for sample in samples):
        return replace(whole, ci95=point, note="Everything was flown: no sampling error.")
    note = _SAME_DENSITY[:1].upper() + _SAME_DENSITY[1:]
    # Jolly's formula gives a single point here; the method's result stays, and the note qualifies it.
    return replace(whole, ci95=point if whole.method == "jolly2" else None, note=note)


def _none_note(samples: Sequence[StripSample]) -> str:
    share = max(sample.unsampled for sample in samples)
    if share == 0:
        return "None was seen, and everything was flown."
    missed = math.floor(math.log(0.05) / math.log(share))
    if missed < 1:
        return _NONE_SEEN
    return (
        f"{_NONE_SEEN} It does not show that there are none: a survey like this one would miss all of {missed} groups, "
        "each on a transect of its own, one time in twenty."
    )
