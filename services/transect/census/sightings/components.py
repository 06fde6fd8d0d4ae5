"""Groups of photos whose animals can be joined without looking at any other photo, so that each group is its own task.

unique_animals() joins a box with animals last seen in the same cell of its grid or in one of the eight around it, and
within the time window. Photos that are connected by such pairs of boxes form a component. Every candidate of a box lies
in its own component, and so does every candidate of those; nothing outside of it can change the result. Components are
therefore exact, whatever their order and number, as long as all of them use one reach.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from transect.arrays import FloatArray, IntArray
from transect.census.sightings.matching import Matching

# Half of the 26 cells around one in place and time: the other half are its neighbours' neighbours.
_AROUND = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
_MOST_CELLS = 2**62


@dataclass(frozen=True, kw_only=True)
class PlacedBoxes:
    """What decides which boxes can be joined: `xy` (n, 2) in metres, `frame` and `seconds` (n,), NaN: not known."""

    xy: FloatArray
    frame: IntArray
    seconds: FloatArray


def components(boxes: PlacedBoxes, matching: Matching, reach_m: float) -> IntArray:
    """The component of each box, (n,): numbers from 0 without gaps, in the order of their first box.

    `reach_m` is the reach with which unique_animals() will be called, at least matching_reach() of all boxes.
    """
    if len(boxes.frame) == 0:
        return np.empty(0, np.int64)
    cells = _Cells.of(boxes, matching, reach_m)
    if cells is None:
        return np.zeros(len(boxes.frame), np.int64)
    photo = np.unique(boxes.frame, return_inverse=True)[1].reshape(-1)
    photos = int(photo.max()) + 1
    ends = [np.stack([photo, photos + cells.of_box]), *(photos + pair for pair in cells.neighbours())]
    one, other = np.concatenate(ends, axis=1)
    count = photos + len(cells.key)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    group = connected_components(graph, directed=False)[1][photo]
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number.reshape(-1)]


def chunks(component: IntArray, boxes: int) -> Iterator[IntArray]:
    """The rows of whole components together, at least so many rows a chunk but for the last one; rows are ascending."""
    order = np.argsort(component, kind="stable")
    ends = np.flatnonzero(np.diff(component[order], append=-1)) + 1
    start = 0
    for end in ends.tolist():
        if end - start >= boxes or end == len(order):
            yield np.sort(order[start:end])
            start = end


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """The cells in which boxes lie, each as one number: sorted by place, then by time.

    `key` (m,) are the cells' numbers, `of_box` (n,) the row of each box's cell, `rows` the cells of a column of the
    grid and `steps` those of a place.
    """

    key: IntArray
    of_box: IntArray
    rows: int
    steps: int

    @classmethod
    def of(cls, boxes: PlacedBoxes, matching: Matching, reach_m: float) -> "_Cells | None":
        """None where there are more cells than numbers for them."""
        # The same division as in unique_animals(), so that rounding gives the same cells.
        east, north = (np.floor(boxes.xy[:, axis] / reach_m) for axis in (0, 1))
        # Around the outermost cells there is one more.
        east, north, step = east - east.min() + 1, north - north.min() + 1, _steps(boxes.seconds, matching.window_s)
        columns, rows, steps = (int(one.max()) + 2 for one in (east, north, step))
        if columns * rows * steps > _MOST_CELLS:
            return None
        place = east.astype(np.int64) * rows + north.astype(np.int64)
        key, of_box = np.unique(place * steps + step, return_inverse=True)
        return cls(key=key, of_box=of_box.reshape(-1), rows=rows, steps=steps)

    def neighbours(self) -> Iterator[IntArray]:
        """Pairs (2, n) of cells of which a box of the one can be joined with a box of the other."""
        timeless = self.key % self.steps == 0
        timed = np.flatnonzero(~timeless)
        for east, north, step in _AROUND:
            wanted = self.key[timed] + (east * self.rows + north) * self.steps + step
            # The step before the first one is that of boxes without a time.
            found = np.searchsorted(self.key, wanted)
            found[found == len(self.key)] = 0
            same = (self.key[found] == wanted) & (wanted % self.steps > 0)
            yield np.stack([timed[same], found[same]])
        mine = np.flatnonzero(timeless)
        # A box without a time can be joined with boxes of any time.
        for east, north in product((-1, 0, 1), repeat=2):
            start = self.key[mine] + (east * self.rows + north) * self.steps
            first, last = np.searchsorted(self.key, start), np.searchsorted(self.key, start + self.steps)
            count = last - first
            offset = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
            yield np.stack([np.repeat(mine, count), np.repeat(first, count) + offset])


def _steps(seconds: FloatArray, window_s: float) -> IntArray:
    """The time step (n,) of each box, from 1; 0 for a box without a time.

    Boxes further apart in time than the window may share a step or have neighbouring ones: a larger component is
    exact too.
    """
    # Rounding must not put two times of one window two steps apart.
    length = window_s * (1 + 1e-9) + 1e-6
    known = ~np.isnan(seconds)
    step = np.zeros(len(seconds), np.int64)
    if known.any():
        step[known] = np.floor((seconds[known] - seconds[known].min()) / length) + 1
    return step
