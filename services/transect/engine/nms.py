"""Non-maximum suppression with no time limit and no cap on boxes."""

import numpy as np
from numpy.typing import NDArray

from transect.engine.overlaps import candidate_pairs, ious

# Boxes looked at together. A crowded cluster is settled by its best boxes in the first rounds,
# so that later rounds compare against few.
_CHUNK = 1024


def nms(
    xyxy: NDArray[np.floating], scores: NDArray[np.floating], class_ids: NDArray[np.integer], iou: float
) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best score first.

    Greedy suppression class by class: a box goes when a kept box of its class with a higher score
    (or the same score and a lower index) has an intersection over union above `iou` with it. `xyxy`
    is (n, 4), `scores` and `class_ids` are (n,). Exact: agrees with torchvision.ops.batched_nms.
    """
    if not len(xyxy):
        return np.empty(0, dtype=np.intp)
    order = np.argsort(-scores, kind="stable")
    boxes = _apart_by_class(xyxy[order], class_ids[order])
    kept: list[NDArray[np.intp]] = []
    kept_boxes = boxes[:0]
    for start in range(0, len(boxes), _CHUNK):
        chunk = boxes[start : start + _CHUNK]
        alive = np.flatnonzero(~_suppressed_by(chunk, kept_boxes, iou))
        alive = alive[_greedy(chunk[alive], iou)]
        kept.append(start + alive)
        kept_boxes = np.concatenate([kept_boxes, chunk[alive]])
    return order[np.concatenate(kept)]


def _apart_by_class(xyxy: NDArray[np.floating], class_ids: NDArray[np.integer]) -> NDArray[np.float64]:
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
    """Which of the boxes, sorted best first, greedy suppression keeps."""
    if len(boxes) < 2:
        return np.ones(len(boxes), dtype=bool)
    better: list[NDArray[np.intp]] = []
    worse: list[NDArray[np.intp]] = []
    for rows, columns in candidate_pairs(boxes, boxes):
        clash = (rows < columns) & (ious(boxes[rows], boxes[columns]) > iou)
        better.append(rows[clash])
        worse.append(columns[clash])
    return _resolve(np.concatenate(better), np.concatenate(worse), len(boxes))


def _resolve(better: NDArray[np.intp], worse: NDArray[np.intp], count: int) -> NDArray[np.bool_]:
    """Settle a graph in which each edge says that `better`, if kept, suppresses `worse`.

    In each round every box without an unsettled better neighbour is kept and its worse neighbours
    go; the outcome equals that of the one-by-one loop.
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
