"""Overlapping pairs of boxes by a sweep, in near-linear time for sparse boxes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Pairs per block; bounds memory at about 100 MB however dense the boxes are.
_BLOCK = 1_000_000


_Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]


def candidate_pairs(first: NDArray[np.floating], second: NDArray[np.floating]) -> Iterator[_Pairs]:
    """Yield blocks of index pairs (i, j) such that first[i] and second[j] meet; touching counts.

    Both are (n, 4) xyxy. Every pair of boxes that intersect is among them, once.
    """
    if not len(first) or not len(second):
        return
    order = np.argsort(second[:, 0], kind="stable")
    starts = second[order, 0]
    widest = float((second[:, 2] - second[:, 0]).max())
    low = np.searchsorted(starts, first[:, 0] - widest, side="left")
    high = np.searchsorted(starts, first[:, 2], side="right")
    for rows, places in _ranges(low, high):
        partners = order[places]
        meets = second[partners, 2] >= first[rows, 0]
        meets &= second[partners, 3] >= first[rows, 1]
        meets &= second[partners, 1] <= first[rows, 3]
        yield rows[meets], partners[meets]


def pairs_among(boxes: NDArray[np.floating]) -> Iterator[_Pairs]:
    """Yield blocks of index pairs (i, j), i < j, of boxes (n, 4) xyxy that meet; touching counts.

    Every pair of boxes that intersect is among them, once.
    """
    if len(boxes) < 2:
        return
    order = np.argsort(boxes[:, 0], kind="stable")
    swept = boxes[order]
    # A box meets those that start, along x, after it and before its end.
    high = np.searchsorted(swept[:, 0], swept[:, 2], side="right")
    top, bottom = np.ascontiguousarray(swept[:, 1]), np.ascontiguousarray(swept[:, 3])
    for here, there in _ranges(np.arange(1, len(boxes) + 1), high):
        meets = (top[here] <= bottom[there]) & (top[there] <= bottom[here])
        one, other = order[here[meets]], order[there[meets]]
        yield np.minimum(one, other), np.maximum(one, other)


def _ranges(low: NDArray[np.intp], high: NDArray[np.intp]) -> Iterator[_Pairs]:
    """Yield (i, j) for each i and each j in low[i] .. high[i] - 1, in blocks of bounded size."""
    counts = np.maximum(high - low, 0)
    ends = np.cumsum(counts)
    row = 0
    while row < len(counts):
        done = ends[row - 1] if row else 0
        stop = max(int(np.searchsorted(ends, done + _BLOCK, side="right")), row + 1)
        many = counts[row:stop]
        rows = np.repeat(np.arange(row, stop), many)
        offset = low[row:stop] - (ends[row:stop] - many - done)
        yield rows, np.arange(len(rows)) + np.repeat(offset, many)
        row = stop


def areas(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Areas of (n, 4) xyxy boxes; 0 for an inverted one."""
    area: NDArray[np.floating] = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return area


def intersections(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Areas that first[k] and second[k] share; both (n, 4) xyxy."""
    width = np.minimum(first[:, 2], second[:, 2]) - np.maximum(first[:, 0], second[:, 0])
    height = np.minimum(first[:, 3], second[:, 3]) - np.maximum(first[:, 1], second[:, 1])
    shared: NDArray[np.floating] = np.maximum(width, 0) * np.maximum(height, 0)
    return shared


def ious(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union of first[k] and second[k]; 0 where both are empty."""
    shared = intersections(first, second)
    return ratio(shared, areas(first) + areas(second) - shared)


def ratio(numerator: NDArray[np.floating], denominator: NDArray[np.floating]) -> NDArray[np.floating]:
    """Quotient, and 0 where the denominator is not positive."""
    quotient: NDArray[np.floating] = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def best_pairs(overlap: NDArray[np.floating], least: float) -> Iterator[tuple[int, int]]:
    """Yield pairs (row, column) of an (n, m) matrix with at least so much overlap, the best first, each index once.

    Of equal ones the first row and column comes first.
    """
    rows, columns = np.nonzero(overlap >= least)
    free_rows, free_columns = np.ones(overlap.shape[0], bool), np.ones(overlap.shape[1], bool)
    for at in np.argsort(-overlap[rows, columns], kind="stable").tolist():
        row, column = int(rows[at]), int(columns[at])
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            yield row, column


def iou_matrix(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """(n, m) intersection over union of every pair of (n, 4) and (m, 4) xyxy boxes."""
    rows, columns = np.indices((len(first), len(second))).reshape(2, -1)
    return ious(first[rows], second[columns]).reshape(len(first), len(second))
