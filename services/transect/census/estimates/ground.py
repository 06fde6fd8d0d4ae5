"""False alarms by ground: the boxes expected of empty ground, and a count less them. Pure.

False alarms are proportional to ground and not to animals, so that in a survey with few animals most boxes are rocks.
With C boxes of one look at M megapixels and a rate of alarms measured on ground without animals, C - rate M are the
boxes of animals, whatever the density of animals is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transect.census.estimates.estimate import Estimate
from transect.census.estimates.intervals import Limits
from transect.census.estimates.rates import rate, rate_design_effect
from transect.engine.validation import BackgroundCounts

_Z = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class GroundAlarms:
    """False alarms of one species a searched megapixel, with standard error and 95% limits.

    `effect` is the ratio of their variance by image to that of a Poisson process. `alarms` were found in `images` of
    `mpx` megapixels in all, without any animal.
    """

    rate: float
    se: float
    ci95: Limits
    effect: float
    alarms: int
    images: int
    mpx: float


@dataclass(frozen=True)
class SearchEffort:
    """Megapixels of one look: at the `sampled` ground, and at the whole `area` at the same resolution."""

    sampled: float
    area: float


@dataclass(frozen=True, kw_only=True)
class Net:
    """Boxes less those expected of empty ground: `seen` in the sampled ground, `value` in the whole area.

    `seen` and `value` are never below zero; `surplus` is the unclipped value. `variance` is of `value`, `limits` are
    its 95% limits (None where the count has none), and `sure` is the lower limit of the sampled ground's boxes that are
    animals, at the 2.5% level.
    """

    seen: float
    value: float
    surplus: float
    variance: float
    limits: Limits | None
    sure: float


def ground_alarms(classes: Sequence[str], counts: BackgroundCounts) -> GroundAlarms:
    """The rate of alarms of `classes` taken together, with errors that allow for clusters by image (`rate`)."""
    alarms, mpx = counts.alarms(classes), np.array(counts.mpx)
    known, spread = rate(alarms, mpx), rate_design_effect(alarms, mpx)
    return GroundAlarms(
        rate=float(known.value),
        se=float(known.se),
        ci95=(float(known.low), float(known.high)),
        effect=float(spread.effect),
        alarms=round(float(alarms.sum())),
        images=counts.images,
        mpx=counts.area_mpx,
    )


def less_ground(estimate: Estimate, ground: GroundAlarms, searched: SearchEffort, own_share: float) -> Net:
    """Subtract the expected alarms from the boxes of `estimate`.

    The error of the rate is common to the whole area. The survey's own alarms scatter as those of the empty ground do;
    the variance between transects contains that already, except for `own_share` of it, the sampled share of the ground.

    Limits: the difference of two independent values, side by side (MOVER: Donner and Zou 2012, Stat. Methods Med. Res.
    21: 347-359). Where there are fewer boxes than expected alarms, the value is zero, and the upper limit lies as far
    above it as it would above an equal number; it is never above that of the boxes.
    """
    boxes = estimate.estimate or 0.0
    expected, times = ground.rate * searched.area, searched.area / searched.sampled if searched.sampled > 0 else 0.0
    own = own_share * times**2 * ground.effect * ground.rate * searched.sampled
    surplus, seen = boxes - expected, estimate.seen - ground.rate * searched.sampled
    variance = (estimate.variance or 0.0) + (searched.area * ground.se) ** 2 + own
    value, limits = max(surplus, 0.0), _box_limits(estimate)
    if limits is not None:
        more, fewer = (searched.area * abs(limit - ground.rate) for limit in reversed(ground.ci95))
        chance = _Z * math.sqrt(own)
        down = math.hypot(boxes - limits[0], more, chance)
        up = math.hypot(limits[1] - boxes, fewer, min(chance, expected))
        low = max(surplus - down, 0.0)
        limits = low, max(min(value + up, limits[1]), value)
    doubt = math.hypot(
        searched.sampled * (ground.ci95[1] - ground.rate),
        _Z * math.sqrt(ground.effect * ground.rate * searched.sampled),
    )
    return Net(
        seen=max(seen, 0.0), value=value, surplus=surplus, variance=variance, limits=limits, sure=max(seen - doubt, 0.0)
    )


def _box_limits(estimate: Estimate) -> Limits | None:
    """The sampling limits of the boxes; the count itself where everything was searched."""
    if estimate.method == "total" and estimate.estimate is not None:
        return estimate.estimate, estimate.estimate
    return estimate.ci95
