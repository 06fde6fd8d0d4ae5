"""Which tiles of a photo may be training images: those in which people decided everything. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transect.arrays import FloatArray, IntArray

Window = tuple[int, int, int, int]
"""x, y, width, height in pixels of the photo."""

# A box of which less lies in a tile is a fragment that nobody could name.
LEAST_SHOWN = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled:
    """The animals (n, 4) xyxy in one photo with their classes (n,), and the boxes (m, 4) of which nobody can say."""

    boxes: FloatArray
    classes: IntArray
    open_boxes: FloatArray


def grid_windows(width: int, height: int, side: int) -> Iterator[Window]:
    """Windows of `side` pixels that cover a photo; the last of a row and of a column begin earlier, to end with it."""
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield x, y, min(side, width), min(side, height)


def window_around(box: Sequence[float], width: int, height: int, side: int) -> Window:
    """The window of `side` pixels around a box, moved into the photo."""
    wide, high = min(side, width), min(side, height)
    x = min(max(round((box[0] + box[2]) / 2 - wide / 2), 0), width - wide)
    y = min(max(round((box[1] + box[3]) / 2 - high / 2), 0), height - high)
    return x, y, wide, high


def labels_in(window: Window, labelled: Labelled) -> list[tuple[int, float, float, float, float]] | None:
    """YOLO's rows (class, middle and size as shares) of a window; None where it shows a box of which nobody can say.

    A box is cut at the window's edge. One of which less than LEAST_SHOWN is inside makes the window unusable, since it
    is neither an animal to learn nor ground.
    """
    x, y, width, height = window
    shown, _ = _shown(labelled.open_boxes, window)
    if (shown > 0).any():
        return None
    share, cut = _shown(labelled.boxes, window)
    if ((share > 0) & (share < LEAST_SHOWN)).any():
        return None
    rows = []
    for at in np.flatnonzero(share > 0).tolist():
        x1, y1, x2, y2 = cut[at].tolist()
        middle = ((x1 + x2) / 2 - x) / width, ((y1 + y2) / 2 - y) / height
        rows.append((int(labelled.classes[at]), *middle, (x2 - x1) / width, (y2 - y1) / height))
    return rows


def _shown(boxes: FloatArray, window: Window) -> tuple[FloatArray, FloatArray]:
    """The share of each box (n,) that a window shows, and what it shows of it (n, 4)."""
    x, y, width, height = window
    low, high = np.array([x, y]), np.array([x + width, y + height])
    cut = np.concatenate([np.maximum(boxes[:, :2], low), np.minimum(boxes[:, 2:], high)], axis=1)
    area = np.prod(np.clip(cut[:, 2:] - cut[:, :2], 0, None), axis=1)
    whole = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-9)
    return area / whole, cut


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    many = math.ceil(length / side)
    return [round(number * (length - side) / (many - 1)) for number in range(many)]
