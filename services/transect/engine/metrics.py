"""Detection metrics: average precision, and precision, recall and counts at a working threshold.

Average precision follows the COCO protocol (Lin et al. 2014, "Microsoft COCO: Common Objects in
Context"): ten IoU thresholds from 0.50 to 0.95, precision made monotone and sampled at 101 recalls.
Matching, integration (trapezoids) and the choice of the threshold of best F1 agree with what
Ultralytics' validation reports, so that our numbers and those of a training run can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transect.engine.boxes.overlaps import iou_matrix, ratio
from transect.engine.types import Boxes

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
_CONFIDENCES = np.linspace(0, 1, 1000)
_SMOOTHING = 101  # points of _CONFIDENCES, a tenth of them


@dataclass(frozen=True)
class Truth:
    """Labels of one image: `xyxy` (n, 4) in pixels, `class_ids` (n,)."""

    xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation:
    """Metrics of one class; None if the denominator is zero: no labelled object, or no detection.

    `precision` and `recall` are at the confidence of best mean F1; those `at_conf` and
    `detections` are at the package's recommended threshold. `count_error` is
    (detections - instances) / instances.
    """

    instances: int
    detections: int
    map50: float | None
    map50_95: float | None
    precision: float | None
    recall: float | None
    precision_at_conf: float | None
    recall_at_conf: float | None
    count_error: float | None

    def metrics(self) -> dict[str, float]:
        """The known values by name, for a package or a tracking server."""
        named = {
            "instances": self.instances,
            "detections": self.detections,
            "mAP50": self.map50,
            "mAP50_95": self.map50_95,
            "precision": self.precision,
            "recall": self.recall,
            "precision_at_conf": self.precision_at_conf,
            "recall_at_conf": self.recall_at_conf,
            "count_error": self.count_error,
        }
        return {name: float(value) for name, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of a whole split. Averages are over the classes with labelled objects in it.

    `best_conf` is the confidence of best mean F1, where `precision` and `recall` are taken;
    `conf` is the package's recommended threshold. `truncated` counts images in which the
    model reached its limit of detections.
    """

    images: int
    instances: int
    map50: float
    map50_95: float
    precision: float
    recall: float
    best_conf: float
    conf: float
    precision_at_conf: float | None
    recall_at_conf: float | None
    count_error: float | None
    per_class: dict[str, ClassEvaluation]
    truncated: int = 0

    def metrics(self) -> dict[str, float]:
        """The known values by name, for a package or a tracking server."""
        named = {
            "images": self.images,
            "instances": self.instances,
            "mAP50": self.map50,
            "mAP50_95": self.map50_95,
            "precision": self.precision,
            "recall": self.recall,
            "best_conf": self.best_conf,
            "conf": self.conf,
            "precision_at_conf": self.precision_at_conf,
            "recall_at_conf": self.recall_at_conf,
            "count_error": self.count_error,
        }
        return {name: float(value) for name, value in named.items() if value is not None}

    def class_metrics(self) -> dict[str, dict[str, float]]:
        """The known values of each class by name."""
        return {name: result.metrics() for name, result in self.per_class.items()}


@dataclass(frozen=True)
class _Curve:
    """One class: average precision at each IoU threshold, precision and recall over _CONFIDENCES."""

    ap: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def evaluate_detections(
    predictions: Sequence[Boxes],
    operating: Sequence[Boxes],
    truths: Sequence[Truth],
    names: Sequence[str],
    conf: float,
) -> Evaluation:
    """Compare detections with labels, image by image; the three sequences are aligned.

    `predictions` are detections down to a very low confidence, best first in each image, for the
    curves; `operating` those at the recommended threshold `conf`. Class ids index `names`; an
    operating id outside them is ignored.
    """
    classes = len(names)
    correct = np.concatenate([match(p, t) for p, t in zip(predictions, truths, strict=True)] or [_no_matches()])
    scores = np.concatenate([p.scores for p in predictions] or [np.empty(0, np.float32)])
    class_ids = np.concatenate([p.class_ids for p in predictions] or [np.empty(0, np.int64)])
    instances = _counts([truth.class_ids for truth in truths], classes)
    present = np.flatnonzero(instances)
    order = np.argsort(-scores, kind="stable")
    correct, scores, class_ids = correct[order], scores[order], class_ids[order]
    curves = {int(k): _curve(correct[class_ids == k], scores[class_ids == k], int(instances[k])) for k in present}
    best = _best_confidence(list(curves.values()))
    found = _counts([boxes.class_ids for boxes in operating], classes)
    hits = _hits(operating, truths, classes)
    per_class = {
        name: _class_evaluation(curves.get(k), best, int(instances[k]), int(found[k]), int(hits[k]))
        for k, name in enumerate(names)
    }
    total, detected, hit = int(instances.sum()), int(found.sum()), int(hits.sum())
    return Evaluation(
        images=len(truths),
        instances=total,
        map50=_mean([curve.ap[0] for curve in curves.values()]),
        map50_95=_mean([curve.ap.mean() for curve in curves.values()]),
        precision=_mean([curve.precision[best] for curve in curves.values()]),
        recall=_mean([curve.recall[best] for curve in curves.values()]),
        best_conf=float(_CONFIDENCES[best]),
        conf=conf,
        precision_at_conf=_quotient(hit, detected),
        recall_at_conf=_quotient(hit, total),
        count_error=_quotient(detected - total, total),
        per_class=per_class,
        truncated=sum(boxes.truncated for boxes in operating),
    )


def match(boxes: Boxes, truth: Truth) -> NDArray[np.bool_]:
    """Whether each detection is a true positive, (n, 10) for the IOU_THRESHOLDS.

    In order of falling score, a detection takes the free labelled object of its class with the largest
    IoU, if that is at least the threshold.
    """
    right = np.zeros((len(boxes), len(IOU_THRESHOLDS)), dtype=bool)
    if not len(boxes) or not len(truth.class_ids):
        return right
    overlap = iou_matrix(boxes.xyxy.astype(np.float64), truth.xyxy.astype(np.float64))
    overlap *= boxes.class_ids[:, None] == truth.class_ids
    thresholds = np.arange(len(IOU_THRESHOLDS))
    taken = np.zeros((len(IOU_THRESHOLDS), len(truth.class_ids)), dtype=bool)
    for row in np.flatnonzero(overlap.max(axis=1) >= IOU_THRESHOLDS[0]):
        free = np.where(taken, 0.0, overlap[row])
        choice = free.argmax(axis=1)
        right[row] = free[thresholds, choice] >= IOU_THRESHOLDS
        taken[thresholds, choice] |= right[row]
    return right


def average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Area under a precision-recall curve that is ordered by falling confidence.

    Precision becomes its maximum at that recall or any higher one, runs from 1 at recall 0, and is
    0 beyond the highest recall reached.
    """
    reached = recall[-1] if len(recall) else 0.0
    recalls = np.concatenate([[0.0], recall, [reached, 1.0]])
    precisions = np.concatenate([[1.0], precision, [0.0, 0.0]])
    monotone = np.maximum.accumulate(precisions[::-1])[::-1]
    return float(np.trapezoid(np.interp(RECALLS, recalls, monotone), RECALLS))


def _curve(correct: NDArray[np.bool_], scores: NDArray[np.floating], instances: int) -> _Curve:
    if not len(scores):
        nothing = np.zeros(len(_CONFIDENCES))
        return _Curve(np.zeros(len(IOU_THRESHOLDS)), nothing, nothing)
    hits = correct.cumsum(axis=0)
    recall = hits / instances
    precision = hits / np.arange(1, len(scores) + 1)[:, None]
    ap = np.array([average_precision(recall[:, t], precision[:, t]) for t in range(len(IOU_THRESHOLDS))])
    # np.interp needs ascending positions, and scores descend.
    at_conf = -_CONFIDENCES
    return _Curve(
        ap,
        np.interp(at_conf, -scores, precision[:, 0], left=1.0),
        np.interp(at_conf, -scores, recall[:, 0], left=0.0),
    )


def _best_confidence(curves: Sequence[_Curve]) -> int:
    """Index into _CONFIDENCES of the highest mean F1, smoothed against the noise of single objects."""
    if not curves:
        return 0
    f1 = np.mean([ratio(2 * c.precision * c.recall, c.precision + c.recall) for c in curves], axis=0)
    padded = np.pad(f1, _SMOOTHING // 2, mode="edge")
    return int(np.convolve(padded, np.full(_SMOOTHING, 1 / _SMOOTHING), mode="valid").argmax())


def _hits(operating: Sequence[Boxes], truths: Sequence[Truth], classes: int) -> NDArray[np.intp]:
    right = [boxes.class_ids[match(boxes, truth)[:, 0]] for boxes, truth in zip(operating, truths, strict=True)]
    return _counts(right, classes)


def _counts(class_ids: Sequence[NDArray[np.int64]], classes: int) -> NDArray[np.intp]:
    joined = np.concatenate(class_ids) if class_ids else np.empty(0, np.int64)
    return np.bincount(joined[(joined >= 0) & (joined < classes)], minlength=classes)


def _class_evaluation(curve: _Curve | None, best: int, instances: int, found: int, hits: int) -> ClassEvaluation:
    return ClassEvaluation(
        instances=instances,
        detections=found,
        map50=float(curve.ap[0]) if curve else None,
        map50_95=float(curve.ap.mean()) if curve else None,
        precision=float(curve.precision[best]) if curve else None,
        recall=float(curve.recall[best]) if curve else None,
        precision_at_conf=_quotient(hits, found),
        recall_at_conf=_quotient(hits, instances),
        count_error=_quotient(found - instances, instances),
    )


def _quotient(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _no_matches() -> NDArray[np.bool_]:
    return np.empty((0, len(IOU_THRESHOLDS)), dtype=bool)
