"""Decode raw network outputs to boxes in input pixels."""

import numpy as np
from numpy.typing import NDArray

from transect.engine.boxes.nms import nms
from transect.engine.types import Boxes
from transect.errors import PackageError
from transect.wording import count_of


def check_output(output: NDArray[np.float32], head_kind: str, classes: int) -> None:
    """Raise PackageError unless `output`, of one image, has the shape of its head and finite values.

    Shapes: `anchor-free` (1, 4 + classes, n), `end-to-end` (1, n, 6).
    """
    fits = output.ndim == 3 and output.shape[0] == 1 and output.size > 0
    if head_kind == "anchor-free":
        fits = fits and output.shape[1] == 4 + classes
        expected = f"(1, {4 + classes}, n)"
    else:
        fits = fits and output.shape[2] == 6
        expected = "(1, n, 6)"
    if not fits:
        raise PackageError(
            f"The model's output has shape {tuple(output.shape)} and its package.json says {head_kind} with "
            f"{count_of(classes, 'class', 'classes')}, which is {expected}; build the package again."
        )
    if not np.isfinite(output).all():
        raise PackageError("The model's output holds values that are not finite; train or export it again.")


def decode(
    output: NDArray[np.float32],
    head_kind: str,
    *,
    conf: float,
    iou: float,
    class_ids: NDArray[np.int64] | None,
    max_det: int,
    multi_label: bool,
    score_shift: NDArray[np.float32] | None = None,
) -> Boxes:
    """Boxes in input pixels of one image, best first, at most `max_det`.

    `output` is one image's raw output (see check_output). Scores are above `conf`. `class_ids`
    keeps only these classes. An anchor-free head needs suppression at `iou`; an end-to-end head is
    trained not to need it. `score_shift`, one for each class, is added to the logit of every score
    before all other steps (see Variant.score_shift). `truncated` is set when max_det, or the
    end-to-end head's own number of rows, was reached.
    """
    if head_kind == "end-to-end":
        boxes = _end_to_end(output[0], conf, score_shift)
        full = len(boxes) == output.shape[1]
    else:
        boxes = _anchor_free(output[0], conf, multi_label, score_shift)
        full = False
    if class_ids is not None:
        boxes = boxes.take(np.isin(boxes.class_ids, class_ids))
    if head_kind == "end-to-end":
        keep = np.argsort(-boxes.scores, kind="stable")
    else:
        keep = nms(boxes.xyxy, boxes.scores, boxes.class_ids, iou)
    kept = boxes.take(keep[:max_det])
    return Boxes(kept.xyxy, kept.scores, kept.class_ids, truncated=full or len(keep) >= max_det)


def shift_scores(scores: NDArray[np.float32], shift: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores in 0..1 with `shift` added to their logits; 0 and 1 stay unchanged."""
    yes = scores * np.exp(shift)
    result: NDArray[np.float32] = yes / (yes + (1 - scores))
    return result


def least_score(conf: float, shift: NDArray[np.float32] | None) -> float:
    """The raw score up to which no class is a box at `conf`, with `shift` as decode() takes it."""
    return float(np.min(_floor(conf, shift)))


def _anchor_free(
    output: NDArray[np.float32], conf: float, multi_label: bool, shift: NDArray[np.float32] | None
) -> Boxes:
    """(4 + classes, n): centre x, centre y, width, height, then a score for each class."""
    class_scores = output[4:]
    if multi_label:
        class_ids, anchors = np.nonzero(class_scores > _floor(conf, shift))
        scores = class_scores[class_ids, anchors]
        if shift is not None:
            scores = shift_scores(scores, shift[class_ids])
    else:
        # Without a shift, comparing the best class is enough.
        best = class_scores.max(axis=0) > conf if shift is None else (class_scores > _floor(conf, shift)).any(axis=0)
        anchors = np.flatnonzero(best)
        candidates = class_scores[:, anchors]
        if shift is not None:
            candidates = shift_scores(candidates, shift[:, None])
        class_ids = candidates.argmax(axis=0)
        scores = candidates[class_ids, np.arange(len(anchors))]
    centre, half = output[:2, anchors], output[2:4, anchors] / 2
    xyxy = np.concatenate([centre - half, centre + half]).T
    return Boxes(xyxy, scores, class_ids.astype(np.int64))


def _floor(conf: float, shift: NDArray[np.float32] | None) -> NDArray[np.float32] | float:
    """The raw score that corresponds to `conf`; (classes, 1) with a shift."""
    return conf if shift is None else shift_scores(np.full((len(shift), 1), conf, np.float32), -shift[:, None])


def _end_to_end(output: NDArray[np.float32], conf: float, shift: NDArray[np.float32] | None) -> Boxes:
    """(n, 6): x1, y1, x2, y2, score, class."""
    scores, class_ids = output[:, 4], output[:, 5].astype(np.int64)
    if shift is not None:
        scores = shift_scores(scores, shift[class_ids])
    rows = scores > conf
    return Boxes(output[rows, :4], scores[rows], class_ids[rows])
