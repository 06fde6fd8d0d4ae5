"""Each animal once: boxes of one animal in several photos are found and joined.

Photos are taken in the order in which they were flown. Each is laid over the animals known so far: a shift of
the whole photo (its GPS error) is looked for that explains most boxes at once, then boxes and animals are joined
one to one within a tolerance that follows from the errors that remain. So two boxes of one photo are never one
animal, whatever the chain of photos between them, and the work grows with the number of boxes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Fewer boxes that agree on a shift could do so by chance.
_LEAST_AGREEING = 3
# Boxes tried for the shift of one photo; a herd of thousands says no more than some hundred of it.
_MOST_TRIED = 200


@dataclass(frozen=True)
class Sightings:
    """Boxes on the ground, photo by photo. All arrays have one row a box.

    `xy` (n, 2) is in metres; `species` and `frame` are numbers, `frame` in the order of flight; `shared_sd` is
    the standard deviation (m, each axis) of the error that all boxes of a photo share (GPS), `own_sd` of the
    error that grows with the distance from the photo's centre (yaw, height) and of the box itself.
    """

    xy: FloatArray
    species: IntArray
    frame: IntArray
    shared_sd: FloatArray
    own_sd: FloatArray


def unique_animals(sightings: Sightings, *, sigmas: float = 3.0) -> IntArray:
    """The animal of each box: numbers from 0 without gaps, (n,), in order of first sight.

    Two boxes can be one animal only if they are of one species, in different photos, and closer than `sigmas`
    standard deviations of the difference of their positions.
    """
    animal = np.full(len(sightings.frame), -1, np.int64)
    if len(animal) == 0:
        return animal
    known = _Known(cell=2 * sigmas * float(np.hypot(sightings.shared_sd, sightings.own_sd).max()) + 1e-9)
    for rows in _by_frame(sightings.frame):
        near = known.near(sightings.xy[rows])
        joined, shift = _join(sightings, rows, known, near, sigmas)
        known.update(sightings, rows, joined, sightings.xy[rows] - shift)
        animal[rows] = joined
    return animal


def _by_frame(frame: IntArray) -> Iterator[IntArray]:
    order = np.argsort(frame, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(frame[order])) + 1)


@dataclass
class _Known:
    """The animals so far, with a grid of square cells to find those near a photo's boxes."""

    cell: float
    size: int = 0
    total: FloatArray = field(default_factory=lambda: np.empty((256, 2)))
    sights: FloatArray = field(default_factory=lambda: np.empty(256))
    species: IntArray = field(default_factory=lambda: np.empty(256, np.int64))
    shared_sd: FloatArray = field(default_factory=lambda: np.empty(256))
    own_sd: FloatArray = field(default_factory=lambda: np.empty(256))
    cells: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def near(self, xy: FloatArray) -> IntArray:
        """Animals in the cells of these positions and in the eight around each."""
        own = {(int(i), int(j)) for i, j in np.floor(xy / self.cell)}
        around = {(i + di, j + dj) for i, j in own for di in (-1, 0, 1) for dj in (-1, 0, 1)}
        found = [animal for key in around for animal in self.cells.get(key, ())]
        return np.array(sorted(found), np.int64)

    def position(self, animals: IntArray) -> FloatArray:
        """Mean of the positions at which each was seen, every photo shifted onto those before it."""
        return self.total[animals] / self.sights[animals, None]

    def update(self, seen: Sightings, rows: IntArray, joined: IntArray, xy: FloatArray) -> None:
        """Take in a photo's boxes at `xy`; those joined to no animal (-1) become new ones, numbered in `joined`."""
        old = joined >= 0
        self.total[joined[old]] += xy[old]
        self.sights[joined[old]] += 1
        self.own_sd[joined[old]] = np.maximum(self.own_sd[joined[old]], seen.own_sd[rows[old]])
        fresh = rows[~old]
        numbers = np.arange(self.size, self.size + len(fresh))
        joined[~old] = numbers
        self._grow(len(fresh))
        self.total[numbers], self.sights[numbers] = xy[~old], 1
        self.species[numbers] = seen.species[fresh]
        self.shared_sd[numbers], self.own_sd[numbers] = seen.shared_sd[fresh], seen.own_sd[fresh]
        for number, (i, j) in zip(numbers.tolist(), np.floor(xy[~old] / self.cell), strict=True):
            self.cells.setdefault((int(i), int(j)), []).append(number)

    def _grow(self, more: int) -> None:
        self.size += more
        if self.size <= len(self.sights):
            return
        room = max(self.size, 2 * len(self.sights)) - len(self.sights)
        self.total = np.concatenate([self.total, np.empty((room, 2))])
        self.species = np.concatenate([self.species, np.empty(room, np.int64)])
        for name in ("sights", "shared_sd", "own_sd"):
            setattr(self, name, np.concatenate([getattr(self, name), np.empty(room)]))


def _join(seen: Sightings, rows: IntArray, known: _Known, near: IntArray, sigmas: float) -> tuple[IntArray, FloatArray]:
    """For each box of one photo the animal that it shows (-1: none known), and the photo's shift (2,) in metres."""
    joined, shift = np.full(len(rows), -1, np.int64), np.zeros(2)
    if len(near) == 0:
        return joined, shift
    apart = seen.xy[rows][:, None] - known.position(near)[None]
    same = seen.species[rows][:, None] == known.species[near][None]
    own = np.hypot(seen.own_sd[rows][:, None], known.own_sd[near][None])
    shared = np.hypot(seen.shared_sd[rows][:, None], known.shared_sd[near][None])
    possible = same & (_length(apart) <= sigmas * np.hypot(own, shared))
    found = _common_shift(apart, possible, own)
    if found is not None:
        shift, apart = found, apart - found
        possible = same & (_length(apart) <= sigmas * own)
    boxes, animals = _assign(_length(apart), possible)
    joined[boxes] = near[animals]
    return joined, shift


def _common_shift(apart: FloatArray, possible: NDArray[np.bool_], own: FloatArray) -> FloatArray | None:
    """The shift (2,) of a photo that brings most of its boxes onto an animal, or None when too few agree."""
    boxes, animals = np.nonzero(possible)
    if len(set(boxes.tolist())) < _LEAST_AGREEING:
        return None
    shifts, reach = apart[boxes, animals], own[boxes, animals]
    order = np.argsort(_length(shifts), kind="stable")[:_MOST_TRIED]
    close = _length(shifts[order][:, None] - shifts[None]) <= reach[None]
    # A box that several animals would fit agrees once.
    agreeing = np.zeros((len(order), apart.shape[0]), bool)
    tried, pair = np.nonzero(close)
    agreeing[tried, boxes[pair]] = True
    votes = agreeing.sum(axis=1)
    best = int(np.argmax(votes))
    if votes[best] < _LEAST_AGREEING:
        return None
    return np.asarray(np.median(shifts[close[best]], axis=0), np.float64)


def _assign(distance: FloatArray, possible: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """One-to-one pairs: as many as possible, and of those the closest in all."""
    rows, columns = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
    inside = possible[np.ix_(rows, columns)]
    # An impossible pair costs more than all possible ones together.
    cost = np.where(inside, distance[np.ix_(rows, columns)] ** 2, 0.0)
    forbidden = float(cost.max(initial=0.0)) * (min(cost.shape) + 1) + 1.0
    chosen_rows, chosen_columns = linear_sum_assignment(np.where(inside, cost, forbidden))
    kept = inside[chosen_rows, chosen_columns]
    return rows[chosen_rows[kept]], columns[chosen_columns[kept]]


def _length(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]), np.float64)
