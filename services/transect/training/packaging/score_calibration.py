"""Calibration of a faster variant's scores to fp32's."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.engine import Boxes, DetectOptions, Detector
from transect.engine.boxes.overlaps import iou_matrix
from transect.imagery import decode_image
from transect.progress import progress

# Two boxes of one class with at least this IoU are the same object.
_SAME_IOU = 0.7
# A class with fewer pairs takes the shift of all classes together; with fewer pairs in total there is no shift.
_LEAST_PAIRS = 30


def fit_score_shift(
    reference: Detector, variant: Detector, images: Sequence[Path], *, conf: float, max_pixels: int
) -> tuple[float, ...]:
    """For each class, the shift to add to the logits of `variant`'s scores to match `reference`'s.

    Rounded weights are another network, with scores slightly higher or lower throughout a class.
    The shift is the mean difference over objects that both find in `images` (searched whole), with
    scores around the threshold `conf`, where it decides the count. Empty when too few are found.
    """
    options = DetectOptions(tile="off", conf=conf / 2)

    def search(path: Path) -> tuple[Boxes, Boxes]:
        image = decode_image(path, max_pixels=max_pixels)
        return reference.detect_boxes(image, [options])[0][0], variant.detect_boxes(image, [options])[0][0]

    found = []
    title = f"Comparing {variant.precision} with fp32"
    with ThreadPoolExecutor(reference.parallel) as pool, progress(title, len(images)) as advance:
        for pair in pool.map(search, images):
            found.append(pair)
            advance()
    matched = [match_scores(one, other) for one, other in found]
    class_ids, first, second = (np.concatenate(column) for column in zip(*matched, strict=True))
    return mean_shift(class_ids, first, second, len(reference.manifest.names), conf)


def match_scores(first: Boxes, second: Boxes) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Class ids and both scores, (n,) each, of the objects that both searches of one image found."""
    if not len(first) or not len(second):
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    overlap = iou_matrix(first.xyxy, second.xyxy)
    overlap[first.class_ids[:, None] != second.class_ids[None, :]] = 0
    best, back = overlap.argmax(axis=1), overlap.argmax(axis=0)
    rows = np.flatnonzero((overlap.max(axis=1) > _SAME_IOU) & (back[best] == np.arange(len(first))))
    return (
        first.class_ids[rows],
        first.scores[rows].astype(np.float64),
        second.scores[best[rows]].astype(np.float64),
    )


def mean_shift(
    class_ids: NDArray[np.int64],
    reference: NDArray[np.float64],
    variant: NDArray[np.float64],
    classes: int,
    conf: float,
) -> tuple[float, ...]:
    """Mean logit of `reference` minus that of `variant`, by class, over pairs whose scores lie around `conf`.

    Pairs are selected by the mean of their two scores, so that neither side's noise biases the selection.
    """
    middle = (reference + variant) / 2
    near = (middle > 0.6 * conf) & (middle < (1 + conf) / 2) & (np.maximum(reference, variant) < 1)
    difference = _logit(reference[near]) - _logit(variant[near])
    if len(difference) < _LEAST_PAIRS:
        return ()
    of_class = [difference[class_ids[near] == k] for k in range(classes)]
    return tuple(float((one if len(one) >= _LEAST_PAIRS else difference).mean()) for one in of_class)


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(scores / (1 - scores)), np.float64)
