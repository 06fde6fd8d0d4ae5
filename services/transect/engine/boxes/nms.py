"""Non-maximum suppression with no time limit and no cap on boxes."""

import numpy as np
from numpy.typing import NDArray

from transect.engine.boxes.overlaps import candidate_pairs, ious, pairs_among

# Boxes per round: few at first, since the best boxes of a crowd suppress nearly all others, then more,
# so that boxes without overlaps need few rounds.
_FIRST_ROUND, _LARGEST_ROUND = 128, 4096


def nms(
    xyxy: NDArray[np.floating], scores: NDArray[np.floating], class_ids: NDArray[np.integer], iou: float
) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best score first.

    Greedy suppression by class: a box is removed if a kept box of its class with a higher score
    (or the same score and a lower index) has an intersection over union above `iou` with it. `xyxy`
    is (n, 4), `scores` and `class_ids` are (n,). Exact: agrees with torchvision.ops.batched_nms.
    """
    if not len(xyxy):
        return np.empty(0, dtype=np.intp)
    order = np.argsort(-scores, kind="stable")
    boxes = _offset_by_class(xyxy[order], class_ids[order])
    open_boxes = np.arange(len(boxes))
    kept: list[NDArray[np.intp]] = []
    round_size = _FIRST_ROUND
    while len(open_boxes):
        best, others = open_boxes[:round_size], open_boxes[round_size:]
        best = best[_greedy(boxes[best], iou)]
        kept.append(best)
        open_boxes = others[~_suppressed_by(boxes[others], boxes[best], iou)]
        round_size = min(2 * round_size, _LARGEST_ROUND)
    return order[np.concatenate(kept)]


def _offset_by_class(xyxy: NDArray[np.floating], class_ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Shift each class along x by more than all boxes span, so that classes never meet."""
    boxes = xyxy.astype(np.float64)
    span = float(boxes.max() - boxes.min()) + 1.0
    boxes[:, 0::2] += class_ids[:, None] * span
    return boxes


def _suppressed_by(boxes: NDArray[np.float64], kept: NDArray[np.float64], iou: float) -> NDArray[np.bool_]:
    suppressed = np.zeros(len(boxes), dtype=bool)
    for rows, columns in candidate_pairs(boxes, kept):
        suppressed[rows[ious(boxes[rows], kept[columns]) > iou]] = True
    return suppressed


def _greedy(boxes: NDArray[np.float64], iou: float) -> NDArray[np.bool_]:
    """Mask of the boxes, sorted best first, that greedy suppression keeps."""
    better: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
    worse: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
    for rows, columns in pairs_among(boxes):
        clash = ious(boxes[rows], boxes[columns]) > iou
        better.append(rows[clash])
        worse.append(columns[clash])
    return _resolve(np.concatenate(better), np.concatenate(worse), len(boxes))


def _resolve(better: NDArray[np.intp], worse: NDArray[np.intp], count: int) -> NDArray[np.bool_]:
    """Resolve a graph in which each edge means that `better`, if kept, suppresses `worse`.

    In each round every box without an unresolved better neighbour is kept and its worse neighbours
    are removed; the result equals that of the sequential loop.
    """
    keep = np.ones(count, dtype=bool)
    while len(better):
        waiting = np.zeros(count, dtype=bool)
        waiting[worse] = True
        final = ~waiting[better]
        keep[worse[final]] = False
        open_edges = keep[better] & keep[worse] & ~final
        better, worse = better[open_edges], worse[open_edges]
    return keep
