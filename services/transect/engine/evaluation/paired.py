"""Compare two models on the same labelled images: differences with bootstrap confidence limits.

The images are the sampling units, so whole images are resampled with replacement, and both models are
evaluated on each resample (a paired bootstrap; Efron and Tibshirani 1993, "An Introduction to the
Bootstrap", chapters 6 and 13). The limits are percentiles of the difference over the draws, wider for fewer
images: plain percentiles of few images are too narrow (the expanded percentile
interval of Hesterberg 2015, "What Teachers Should Know About the Bootstrap", The American Statistician 69).
"""

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray
from transect.engine.boxes.overlaps import ratio
from transect.engine.evaluation.evaluate import SearchedSplit
from transect.engine.metrics import IOU_THRESHOLDS, RECALLS, match

MAP50_95, RECALL, COUNT_ERROR = "mAP50_95", "recall", "count_error"
QUANTITIES = (MAP50_95, RECALL, COUNT_ERROR)

_DRAWS = 1000
_SEED = 1993
# Weights of draws by detections that are in memory together, 16 MB of them.
_VALUES_AT_ONCE = 2_000_000
# The weight in the trapezoidal rule of the recalls before each, and of all of them.
_WEIGHT_BELOW = np.concatenate([[0.0], np.convolve(np.diff(RECALLS), [0.5, 0.5]).cumsum()])


@dataclass(frozen=True)
class Gain:
    """One quantity of a candidate and of a reference, and the candidate's gain with bootstrap limits.

    A gain above zero is better, whatever the quantity: the candidate's mAP50-95 or recall less the
    reference's; for the count error, which is signed, the reference's distance from zero less the
    candidate's.
    """

    candidate: float
    reference: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """The candidate's gains by QUANTITIES: overall, and for each class with labelled objects.

    The overall mAP50-95 is the mean of the classes; overall recall and count error, at each model's
    recommended thresholds, are those of all objects together. `confidence` is that of the limits.
    `unlabelled` has, for each class without labelled objects, the numbers of detections of the
    candidate and the reference at those thresholds.
    """

    images: int
    confidence: float
    instances: dict[str, int]
    overall: dict[str, Gain]
    classes: dict[str, dict[str, Gain]]
    unlabelled: dict[str, tuple[int, int]] = field(default_factory=dict)


def compare_splits(
    candidate: SearchedSplit, reference: SearchedSplit, *, confidence: float = 0.95, draws: int = _DRAWS
) -> PairedComparison:
    """Compare the results of two models on the same images.

    Both must be searches of one split with the same classes; the draws use a fixed seed, so that
    a comparison is reproducible. Raises ValueError for splits that differ.
    """
    if candidate.names != reference.names or len(candidate.truths) != len(reference.truths):
        raise ValueError("the two searches are of different splits")
    images = len(candidate.truths)
    generator = np.random.default_rng(_SEED)
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=draws) if images else np.ones((draws, 0))
    # The first row is the split itself.
    weights = np.concatenate([np.ones((1, images)), drawn])
    ours, theirs = (_quantities(searched, weights) for searched in (candidate, reference))
    instances = _labelled(candidate).sum(axis=0)
    tail = _tail(images, confidence)
    gains = {
        quantity: [_gain(quantity, a, b, tail) for a, b in zip(ours[quantity].T, theirs[quantity].T, strict=True)]
        for quantity in QUANTITIES
    }
    present = [(k, name) for k, name in enumerate(candidate.names) if instances[k]]
    called = np.column_stack([_working_counts(searched)[1].sum(axis=0) for searched in (candidate, reference)])
    return PairedComparison(
        images=images,
        confidence=confidence,
        instances={name: int(instances[k]) for k, name in present},
        overall={quantity: gains[quantity][-1] for quantity in QUANTITIES} if present else {},
        classes={name: {quantity: gains[quantity][k] for quantity in QUANTITIES} for k, name in present},
        unlabelled={
            name: (int(called[k, 0]), int(called[k, 1])) for k, name in enumerate(candidate.names) if not instances[k]
        },
    )


def _tail(images: int, confidence: float) -> float:
    """The share of the draws beyond each limit; NaN for a single image, which has no sampling variance.

    Phi(-t sqrt(n / (n - 1))) with Student's t of n - 1 degrees of freedom, by its expansion around the
    normal quantile (Abramowitz and Stegun 1964, 26.7.5).
    """
    if images < 2:
        return math.nan
    freedom = images - 1
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    t = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    return NormalDist().cdf(-t * math.sqrt(images / freedom))


def _gain(quantity: str, candidate: FloatArray, reference: FloatArray, tail: float) -> Gain:
    """From the values of one class over the draws; draws without an object of the class are left out."""
    gains = np.abs(reference) - np.abs(candidate) if quantity == COUNT_ERROR else candidate - reference
    valid = gains[1:][~np.isnan(gains[1:])]
    low, high = np.quantile(valid, [tail, 1 - tail]) if len(valid) and not math.isnan(tail) else (np.nan, np.nan)
    return Gain(float(candidate[0]), float(reference[0]), float(gains[0]), float(low), float(high))


def _quantities(searched: SearchedSplit, weights: FloatArray) -> dict[str, FloatArray]:
    """Each quantity for each row of `weights` (draws, images): (draws, classes + 1), the last one overall.

    NaN where a class has no labelled object in the draw.
    """
    names = searched.names
    labelled = weights @ _labelled(searched)
    hits, called = (weights @ counts for counts in _working_counts(searched))
    average = _average_precisions(searched, weights, labelled)
    missing = labelled == 0
    average[missing] = np.nan
    known = (~missing).sum(axis=1)
    mean = np.where(known > 0, np.nansum(average, axis=1) / np.maximum(known, 1), np.nan)
    quantities = {MAP50_95: np.column_stack([average, mean])}
    objects, found, boxes = (np.column_stack([part, part.sum(axis=1)]) for part in (labelled, hits, called))
    nothing = np.where(objects == 0, np.nan, 0.0)
    quantities[RECALL] = ratio(found, objects) + nothing
    quantities[COUNT_ERROR] = ratio(boxes - objects, objects) + nothing
    assert all(values.shape == (len(weights), len(names) + 1) for values in quantities.values())  # noqa: S101
    return quantities


def _labelled(searched: SearchedSplit) -> NDArray[np.intp]:
    """Labelled objects, (images, classes)."""
    return _per_image([truth.class_ids for truth in searched.truths], len(searched.names))


def _working_counts(searched: SearchedSplit) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Right boxes (at box IoU 0.5) and all boxes at the working threshold, each (images, classes)."""
    classes = len(searched.names)
    right = [
        boxes.class_ids[match(boxes, truth)[:, 0]]
        for boxes, truth in zip(searched.operating, searched.truths, strict=True)
    ]
    return _per_image(right, classes), _per_image([boxes.class_ids for boxes in searched.operating], classes)


def _per_image(class_ids: list[NDArray[np.int64]], classes: int) -> NDArray[np.intp]:
    rows = [np.bincount(ids, minlength=classes) for ids in class_ids]
    return np.array(rows, dtype=np.intp).reshape(len(rows), classes)


def _average_precisions(searched: SearchedSplit, weights: FloatArray, labelled: FloatArray) -> FloatArray:
    """AP averaged over IOU_THRESHOLDS for each draw and class, (draws, classes); see weighted_average_precision."""
    pairs = zip(searched.curve, searched.truths, strict=True)
    correct = np.concatenate([match(boxes, truth) for boxes, truth in pairs] or [np.empty((0, 10), bool)])
    scores = np.concatenate([boxes.scores for boxes in searched.curve] or [np.empty(0, np.float32)])
    class_ids = np.concatenate([boxes.class_ids for boxes in searched.curve] or [np.empty(0, np.int64)])
    image = np.repeat(np.arange(len(searched.curve)), [len(boxes) for boxes in searched.curve])
    order = np.argsort(-scores, kind="stable")
    average = np.zeros((len(weights), len(searched.names)))
    for k in range(len(searched.names)):
        rows = order[class_ids[order] == k]
        hits = correct[rows]
        # Detections after the last true positive have no effect.
        right = np.flatnonzero(hits.any(axis=1))
        end = int(right[-1]) + 1 if len(right) else 0
        places = [np.flatnonzero(hits[:end, t]) for t in range(len(IOU_THRESHOLDS))]
        of_image = image[rows[:end]]
        # In parts, so that a hundred thousand detections take megabytes.
        at_once = max(1, _VALUES_AT_ONCE // max(1, end))
        for first in range(0, len(weights), at_once):
            part = slice(first, first + at_once)
            average[part, k] = _weighted_average_precisions(weights[part][:, of_image], places, labelled[part, k])
    return average


def _weighted_average_precisions(
    weights: FloatArray, places: list[NDArray[np.intp]], labelled: FloatArray
) -> FloatArray:
    """The mean over IoU thresholds of the AP of metrics.average_precision, each detection counted by its weight.

    `weights` are (draws, detections), best score first, and `labelled` the labelled objects of each draw; returns
    (draws,), 0 for a draw without labelled objects. `places` are the positions of the right detections for each
    threshold. Precision rises at each right detection and falls in between, so that the monotone curve is a step
    function of the right ones alone: each step counts by the weight of the recalls that it covers.
    """
    boxes = weights.cumsum(axis=1)
    objects = np.where(labelled == 0, np.inf, labelled)[:, None]
    total = np.zeros(len(weights))
    for right in places:
        found = weights[:, right].cumsum(axis=1)
        monotone = np.maximum.accumulate(ratio(found, boxes[:, right])[:, ::-1], axis=1)[:, ::-1]
        covered = _WEIGHT_BELOW[np.searchsorted(RECALLS, found / objects, side="left")]
        total += (monotone * np.diff(covered, axis=1, prepend=0.0)).sum(axis=1)
    return total / len(places)
