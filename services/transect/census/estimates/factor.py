"""Precision, recall and the factor between detections and animals, from right and wrong detections by image. Pure."""

from dataclasses import dataclass

import numpy as np

from transect.arrays import FloatArray
from transect.census.estimates.rates import PRIOR_EVENTS, IntervalEstimate, rate, share

_TINY = 1e-12


@dataclass(frozen=True)
class FactorEstimate:
    """Precision, recall, and factor = precision / recall = labelled animals / detections; each with its errors."""

    precision: IntervalEstimate
    recall: IntervalEstimate
    factor: IntervalEstimate


def estimate_factor(right: FloatArray, wrong: FloatArray, missed: FloatArray) -> FactorEstimate:
    """A detector's precision, recall and factor from its `right` and `wrong` detections and the animals it `missed`.

    Each is an array (..., images) of all images, with and without animals, drawn like those of the survey. With
    q = missed / labelled (a share) and a = wrong / labelled (a rate), 1 / factor is D = 1 - q + a. Its limits follow
    from those of q and a by the method of variance estimates recovery (Zou and Donner 2008, Stat. Med. 27:
    1693-1702): the limits of D lie sqrt(u2 + l2 - 2 r u l) below and above it, where u and l are the distances of the
    limits of q and a that face that side. r is the correlation of q and a over the images: a box that lies beside its
    animal is wrong and misses it, which changes no count. It is shrunk towards 0 as the design effects are to theirs.
    Raises ValueError without a right detection.
    """
    if np.any(right.sum(axis=-1) <= 0):
        raise ValueError("no true positive, so neither precision nor recall is known")
    labelled = right + missed
    misses_share, alarms = share(missed, labelled), rate(wrong, labelled, random_exposure=True)
    false = share(wrong, right + wrong)
    together = _correlation(missed, wrong, labelled)
    inverse = 1 - misses_share.value + alarms.value

    def reach(of_misses: FloatArray, of_alarms: FloatArray) -> FloatArray:
        one, other = np.abs(of_misses - misses_share.value), np.abs(of_alarms - alarms.value)
        squares: FloatArray = np.maximum(one**2 + other**2 - 2 * together * one * other, 0.0)
        return np.sqrt(squares)

    cv = reach(misses_share.value + misses_share.se, alarms.value + alarms.se) / inverse
    high = 1 / np.maximum(inverse - reach(misses_share.high, alarms.low), _TINY)
    found, called, animals = right.sum(axis=-1), (right + wrong).sum(axis=-1), labelled.sum(axis=-1)
    value = animals / called
    factor = IntervalEstimate(value, cv * value, 1 / (inverse + reach(misses_share.low, alarms.high)), high, cv)
    return FactorEstimate(_complement(false, found / called), _complement(misses_share, found / animals), factor)


def _complement(known: IntervalEstimate, value: FloatArray) -> IntervalEstimate:
    """The share of non-events: `value` is 1 less its share, without the rounding of a difference."""
    return IntervalEstimate(value, known.se, 1 - known.high, 1 - known.low, known.se / value)


def _correlation(missed: FloatArray, wrong: FloatArray, labelled: FloatArray) -> FloatArray:
    """The shrunk correlation of the residuals of both ratios by image, weighted by the fewest of errors and images."""
    total = labelled.sum(axis=-1)
    misses, alarms = missed.sum(axis=-1), wrong.sum(axis=-1)
    one = missed - (misses / total)[..., None] * labelled
    other = wrong - (alarms / total)[..., None] * labelled
    scale = np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    found = np.where(scale > _TINY, (one * other).sum(axis=-1) / np.maximum(scale, _TINY), 0.0)
    images = total**2 / (labelled**2).sum(axis=-1)
    weight = np.maximum(np.minimum(np.minimum(misses, alarms), images - 1), 0.0)
    shrunk: FloatArray = np.clip(found, -1.0, 1.0) * weight / (weight + PRIOR_EVENTS)
    return shrunk
