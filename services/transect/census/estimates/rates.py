"""Shares and rates with errors and limits that are valid at no event and at nothing but events. Pure.

Events are counted by image, because those of one image come together: the animals of a herd are missed together, and
one kind of ground makes many false alarms. The effective number of animals, or the effective exposure, is the number
counted over the design effect, which is how many times larger the variance is than that of independent events (Kish
1965, Survey Sampling, ch. 8; Rao and Scott 1992, Biometrics 48: 577-585). The limits are those of Jeffreys' prior on
the effective numbers (Brown, Cai and DasGupta 2001, Stat. Sci. 16: 101-133; on effective numbers with degrees of
freedom: Korn and Graubard 1998, Surv. Methodol. 24: 193-201), so that no event gives an upper limit above 0.

Every function takes arrays (..., images) and reduces the last axis, so one call does one model or thousands of
simulated ones. An image without events and without trials counts as an image.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, gammaincinv, stdtrit

from transect.arrays import FloatArray

# Priors of the design effect, and their weight in events. Chosen by simulation (benchmarks/factor.py): on average the
# interval of the factor is right for correlations between 0 and 0.2.
PRIOR_CORRELATION = 0.05
PRIOR_DISPERSION = 1.0
PRIOR_EVENTS = 4.0
_Z = 1.959963984540054
_TAIL = 0.025
_TINY = 1e-12


@dataclass(frozen=True)
class DesignEffect:
    """The design effect of clustered events.

    `effect` is above 0; `widening` is a further factor on the variance for the limits, since the effect was itself
    estimated from few images (1: none).
    """

    effect: FloatArray
    widening: FloatArray


@dataclass(frozen=True)
class IntervalEstimate:
    """A value with its standard error and 95% limits, each an array (...).

    `se` is the root mean square distance of the Jeffreys distribution from `value`, so it is above 0 at no event too.
    `cv` is that distribution's standard deviation over its mean: finite at no event, and se / value where there are
    many.
    """

    value: FloatArray
    se: FloatArray
    low: FloatArray
    high: FloatArray
    cv: FloatArray


def share(events: FloatArray, trials: FloatArray) -> IntervalEstimate:
    """The share of `trials` (..., images) that were `events`, with events of one image alike (`share_design_effect`).

    With x events of n trials, n* = n / effect and x* = x / effect: limits are the 2.5% and 97.5% points of
    Beta(x* + 1/2, n* - x* + 1/2), where the effect includes the widening; the lower one is 0 at x = 0 and the upper
    one 1 at x = n. Raises ValueError where there is no trial.
    """
    _check(events, trials)
    if np.any(events > trials):
        raise ValueError("more events than trials")
    spread, count, number = share_design_effect(events, trials), events.sum(axis=-1), trials.sum(axis=-1)
    value = count / number

    def beta(effect: FloatArray) -> tuple[FloatArray, FloatArray]:
        # However correlated, the trials are worth at least one.
        effective = np.maximum(number / effect, 1.0)
        return value * effective + 0.5, (1 - value) * effective + 0.5

    a, b = beta(spread.effect)
    mean, variance = a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))
    wide = beta(spread.effect * spread.widening)
    return IntervalEstimate(
        value,
        np.sqrt(variance + (mean - value) ** 2),
        np.where(count == 0, 0.0, np.minimum(betaincinv(*wide, _TAIL), value)),
        np.where(count == number, 1.0, np.maximum(betaincinv(*wide, 1 - _TAIL), value)),
        np.sqrt(variance) / mean,
    )


def rate(events: FloatArray, exposure: FloatArray, *, random_exposure: bool = False) -> IntervalEstimate:
    """Events per unit of `exposure` (..., images), such as false alarms per km2 searched, over-dispersed by image.

    With x events, x* = x / effect and t* = exposure / effect: limits are the 2.5% and 97.5% points of Gamma(x* + 1/2)
    over t*, where the effect includes the widening; the lower one is 0 at x = 0. `random_exposure`: see
    `rate_design_effect`.
    Raises ValueError where nothing was exposed.
    """
    _check(events, exposure)
    spread = rate_design_effect(events, exposure, random_exposure=random_exposure)
    count, total = events.sum(axis=-1), exposure.sum(axis=-1)
    value = count / total
    shape, effective = count / spread.effect + 0.5, total / spread.effect
    mean, variance = shape / effective, shape / effective**2
    wide = spread.effect * spread.widening
    return IntervalEstimate(
        value,
        np.sqrt(variance + (mean - value) ** 2),
        np.where(count == 0, 0.0, np.minimum(gammaincinv(count / wide + 0.5, _TAIL) / (total / wide), value)),
        np.maximum(gammaincinv(count / wide + 0.5, 1 - _TAIL) / (total / wide), value),
        1 / np.sqrt(shape),
    )


def share_design_effect(events: FloatArray, trials: FloatArray) -> DesignEffect:
    """The design effect of a share whose events are alike within an image: 1 + rho (sum n2 / sum n - 1) (Kish 1965).

    rho is the correlation of two trials of one image. With residuals d = x - p n of the ratio estimator, of which
    E(sum d2) = p (1 - p) sum n (1 - sum n2 / (sum n)2) where rho = 0, the moment estimate is the excess of sum d2 over
    that, over p (1 - p) sum n (n - 1). It has the weight of the lesser of events and non-events, and
    `PRIOR_CORRELATION` that of `PRIOR_EVENTS`, so that a species without an error gets the prior. The estimated part is
    widened by (t / z)2 with as many degrees of freedom as there are effective images, (sum n)2 / sum n2, less one.
    """
    count, number = events.sum(axis=-1), trials.sum(axis=-1)
    value, squares = count / number, (trials**2).sum(axis=-1)
    scale, pairs = value * (1 - value), squares - number
    free = 1 - squares / number**2
    residuals = ((events - value[..., None] * trials) ** 2).sum(axis=-1)
    possible = (scale > 0) & (pairs > 0) & (free > _TINY)
    excess = residuals / _positive(free * scale) - number
    found = np.where(possible, np.clip(excess / _positive(pairs), 0.0, 1.0), 0.0)
    weight = np.where(possible, np.minimum(count, number - count) * free, 0.0)
    data_weight = weight / (weight + PRIOR_EVENTS)
    correlation = data_weight * found + (1 - data_weight) * PRIOR_CORRELATION
    return DesignEffect(1 + correlation * pairs / number, _widening(data_weight, number**2 / squares - 1))


def rate_design_effect(events: FloatArray, exposure: FloatArray, *, random_exposure: bool = False) -> DesignEffect:
    """The design effect of a rate: the ratio estimator's variance over that of independent events; at least 1.

    From the images it is m / (m - 1) sum d2 / sum y, with residuals d = y - R t of y events on exposure t in m images
    (Cochran 1977, Sampling Techniques, ch. 6). It has the weight of the number of events. The prior, of weight
    `PRIOR_EVENTS`, is that of negative binomial events with the variance mean + `PRIOR_DISPERSION` mean2:
    1 + `PRIOR_DISPERSION` sum y / m. `random_exposure` is for exposures that are drawn with the images, as animals
    are, and not set, as areas are: it adds sum y CV2(sum t), which is 1 for one image.
    """
    images = events.shape[-1]
    count, total = events.sum(axis=-1), exposure.sum(axis=-1)
    value, rest = count / total, max(images - 1, 1) / images
    residuals = ((events - value[..., None] * exposure) ** 2).sum(axis=-1) / rest
    varying = np.ones_like(total)
    if images > 1:
        varying = np.maximum((exposure**2).sum(axis=-1) / total**2 - 1 / images, 0.0) / rest
    prior = 1 + PRIOR_DISPERSION * count / images + (count * varying if random_exposure else 0.0)
    weight = count if images > 1 else np.zeros_like(count)
    data_weight = weight / (weight + PRIOR_EVENTS)
    effect = np.maximum(data_weight * residuals / np.maximum(count, 1.0) + (1 - data_weight) * prior, 1.0)
    return DesignEffect(effect, _widening(data_weight, np.full_like(total, images - 1)))


def _widening(data_weight: FloatArray, degrees: FloatArray) -> FloatArray:
    """The factor that makes a normal quantile Student's, for the part of the effect that is estimated from images."""
    return 1 + data_weight * ((stdtrit(np.maximum(degrees, 1.0), 1 - _TAIL) / _Z) ** 2 - 1)


def _positive(values: FloatArray) -> FloatArray:
    return np.maximum(values, _TINY)


def _check(events: FloatArray, exposure: FloatArray) -> None:
    if events.shape != exposure.shape or not events.shape:
        raise ValueError(f"events and exposure by image have the shapes {events.shape} and {exposure.shape}")
    if np.any(events < 0) or np.any(exposure < 0) or np.any(exposure.sum(axis=-1) <= 0):
        raise ValueError("events and exposures must not be negative, and something must have been exposed")
