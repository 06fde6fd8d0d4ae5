"""Matching: boxes of one animal in several photos are joined.

Photos are processed in the order of flight. Each is matched with the animals known so far, grouped by the photo in
which these were last seen. First a common shift of the two photos (their GPS errors, the herd's walk) is estimated
that explains most boxes at once; then boxes and animals are assigned one to one within a tolerance, which follows from
the remaining errors and from how far an animal walks in between. So two boxes of one photo are never one animal,
whatever the chain of photos between them; errors do not add up along the chain; and the work is linear in the number
of boxes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from transect.arrays import BoolArray, FloatArray, IntArray

# Fewer boxes that agree on a shift could do so by chance.
_LEAST_AGREEING = 3
# Boxes tried for the shift of one photo; a herd of thousands determines it no better than some hundred of it.
_MOST_TRIED = 200
# Speeds spread evenly from 0 to v, in any direction, have this share of v as standard deviation along each axis.
_SPEED_SD = math.sqrt(1 / 6)
# In tolerances, how far apart two boxes may lie that are joined. A shift is the median along each axis of shifts within
# the tolerance, so up to sqrt(2) of it; once it is taken out, the two lie within one tolerance.
_REACH = 1 + math.sqrt(2)


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """Boxes on the ground, photo by photo. All arrays have one row a box.

    `xy` (n, 2) is in metres; `species` and `frame` are numbers, `frame` in the order of flight; `shared_sd` is
    the standard deviation (m, each axis) of the error that all boxes of a photo share (GPS), `own_sd` of the
    error that grows with the distance from the photo's centre (yaw, height) and of the box itself; `seconds` is the
    time of the photo (NaN: not known, which matches any time).
    """

    xy: FloatArray
    species: IntArray
    frame: IntArray
    shared_sd: FloatArray
    own_sd: FloatArray
    seconds: FloatArray


@dataclass(frozen=True)
class Matching:
    """The condition for two boxes to be one animal.

    They are closer than `sigmas` standard deviations of the difference of their positions, in photos at most `window_s`
    seconds apart, where an animal moves at up to `speed_m_s`.
    """

    sigmas: float = 4.0
    window_s: float = 20.0
    speed_m_s: float = 1.0

    def walked_sd(self, seconds: FloatArray) -> FloatArray:
        """Standard deviation in metres along each axis of an animal's walk in so many seconds."""
        return np.asarray(_SPEED_SD * self.speed_m_s * np.abs(seconds), np.float64)


def unique_animals(sightings: Sightings, matching: Matching, *, reach_m: float | None = None) -> IntArray:
    """The animal of each box: numbers from 0 without gaps, (n,), in order of first sight.

    Two boxes can be one animal only if they are of one species, in different photos, and meet `matching`. Candidates
    are searched up to `reach_m` metres away, by default matching_reach(). A greater reach, such as that of the whole
    survey for a part of it, gives the same animals. Raises ValueError for a smaller one, which would miss some.
    """
    animal = np.empty(len(sightings.frame), np.int64)
    if len(animal) == 0:
        return animal
    least = matching_reach(sightings, matching)
    if reach_m is not None and reach_m < least:
        raise ValueError(f"a reach of {reach_m} m misses animals of these boxes, which lie up to {least} m apart")
    known = _AnimalIndex(cell=least if reach_m is None else reach_m)
    for rows in _by_frame(sightings.frame):
        joined = _join(sightings, rows, known, matching)
        known.update(sightings, rows, joined)
        animal[rows] = joined
    return animal


def matching_reach(sightings: Sightings, matching: Matching, *, longest_s: float | None = None) -> float:
    """The greatest distance in metres of two boxes that unique_animals() can join; 0 without boxes.

    `longest_s` is the longest time between two photos of the survey where `sightings` are a part of its boxes: the
    greatest reach of all parts is then the survey's.
    """
    if len(sightings.frame) == 0:
        return 0.0
    placed = math.sqrt(2) * float(np.hypot(sightings.shared_sd, sightings.own_sd).max())
    if longest_s is None:
        known = sightings.seconds[~np.isnan(sightings.seconds)]
        longest_s = float(np.ptp(known)) if len(known) else 0.0
    longest = min(matching.window_s, longest_s)
    tolerance = matching.sigmas * math.hypot(placed, float(matching.walked_sd(np.array(longest))))
    return _REACH * tolerance + 1e-9


def _by_frame(frame: IntArray) -> Iterator[IntArray]:
    order = np.argsort(frame, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(frame[order])) + 1)


class _AnimalIndex:
    """The animals so far, each as its last box, in a grid of square cells for neighbour queries."""

    def __init__(self, cell: float) -> None:
        self.cell = cell
        self.last = np.empty(256, np.int64)
        self.size = 0
        self.cells: dict[tuple[int, int], set[int]] = {}
        self.place: list[tuple[int, int]] = []

    def near(self, xy: FloatArray) -> IntArray:
        """Animals in the cells of these positions and in the eight around each."""
        own = set(self._cells(xy))
        around = {(i + di, j + dj) for i, j in own for di in (-1, 0, 1) for dj in (-1, 0, 1)}
        found = [animal for key in around for animal in self.cells.get(key, ())]
        return np.array(sorted(found), np.int64)

    def update(self, seen: Sightings, rows: IntArray, joined: IntArray) -> None:
        """Add a photo's boxes; those joined to no animal (-1) become new animals, numbered in place in `joined`."""
        fresh = joined < 0
        joined[fresh] = np.arange(self.size, self.size + int(fresh.sum()))
        self.size += int(fresh.sum())
        if self.size > len(self.last):
            self.last = np.concatenate([self.last, np.empty(self.size, np.int64)])
        self.last[joined] = rows
        for animal, cell in zip(joined.tolist(), self._cells(seen.xy[rows]), strict=True):
            if animal < len(self.place):
                self.cells[self.place[animal]].discard(animal)
                self.place[animal] = cell
            else:
                self.place.append(cell)
            self.cells.setdefault(cell, set()).add(animal)

    def _cells(self, xy: FloatArray) -> list[tuple[int, int]]:
        return [(int(i), int(j)) for i, j in np.floor(xy / self.cell).tolist()]


def _join(seen: Sightings, rows: IntArray, known: _AnimalIndex, matching: Matching) -> IntArray:
    """For each box of one photo the known animal that it shows, -1 for none."""
    joined = np.full(len(rows), -1, np.int64)
    animals = known.near(seen.xy[rows])
    since = seen.seconds[rows[0]] - seen.seconds[known.last[animals]]
    animals = animals[~(np.abs(since) > matching.window_s)]
    if len(animals) == 0:
        return joined
    pairs = _Pairs.of(seen, rows, known.last[animals], matching)
    last_photo = seen.frame[known.last[animals]]
    shifts, taken = np.zeros((len(animals), 2)), np.zeros(len(animals), bool)
    for photo in np.unique(last_photo)[::-1]:
        group = np.flatnonzero(last_photo == photo)
        free = np.flatnonzero(joined < 0)
        # The number of candidates in the cells must not affect the result: see _common_shift().
        if min(len(free), len(group)) < _LEAST_AGREEING:
            continue
        shift = _common_shift(*pairs.part(free, group))
        if shift is not None:
            boxes, columns = pairs.assign(free, group, shift)
            joined[boxes] = animals[columns]
            taken[columns] = True
            shifts[group] = shift
    free, left = np.flatnonzero(joined < 0), np.flatnonzero(~taken)
    if len(free) and len(left):
        boxes, columns = pairs.rest(free, left, shifts)
        joined[boxes] = animals[columns]
    return joined


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Boxes of a photo (rows) against known animals (columns).

    `apart` (b, a, 2) is their distance in metres; `same` (b, a) is true for one species; `limit` (b, a) is the whole
    tolerance in metres, and `near` true for those of one species within it; `own` (b, a) is the standard deviation
    that remains without the photos' common shift.
    """

    apart: FloatArray
    same: BoolArray
    near: BoolArray
    limit: FloatArray
    own: FloatArray
    sigmas: float

    @classmethod
    def of(cls, seen: Sightings, rows: IntArray, last: IntArray, matching: Matching) -> "_Pairs":
        apart = seen.xy[rows][:, None] - seen.xy[last][None]
        same = seen.species[rows][:, None] == seen.species[last][None]
        walked = matching.walked_sd(np.nan_to_num(seen.seconds[rows[0]] - seen.seconds[last]))
        own = np.hypot(seen.own_sd[rows][:, None], np.hypot(seen.own_sd[last], walked)[None])
        shared = np.hypot(seen.shared_sd[rows][:, None], seen.shared_sd[last][None])
        limit = matching.sigmas * np.hypot(own, shared)
        return cls(
            apart=apart, same=same, near=same & (_length(apart) <= limit), limit=limit, own=own, sigmas=matching.sigmas
        )

    def part(self, boxes: IntArray, animals: IntArray) -> tuple[FloatArray, BoolArray, FloatArray]:
        """`apart`, `near` and `own` of these boxes and animals."""
        chosen = boxes[:, None], animals
        return self.apart[chosen], self.near[chosen], self.own[chosen]

    def assign(self, boxes: IntArray, animals: IntArray, shift: FloatArray) -> tuple[IntArray, IntArray]:
        """One-to-one pairs of these boxes and animals, without the shift between the photos."""
        chosen = boxes[:, None], animals
        distance = _length(self.apart[chosen] - shift)
        rows, columns = _assign(distance, self.same[chosen] & (distance <= self.sigmas * self.own[chosen]))
        return boxes[rows], animals[columns]

    def rest(self, boxes: IntArray, animals: IntArray, shifts: FloatArray) -> tuple[IntArray, IntArray]:
        """One-to-one pairs of the remaining ones, within the whole tolerance; `shifts` (a, 2) is by animal."""
        chosen = boxes[:, None], animals
        distance = _length(self.apart[chosen] - shifts[animals])
        rows, columns = _assign(distance, self.same[chosen] & (distance <= self.limit[chosen]))
        return boxes[rows], animals[columns]


def _common_shift(apart: FloatArray, possible: BoolArray, own: FloatArray) -> FloatArray | None:
    """The shift (2,) of a photo that brings most of its boxes onto an animal, or None when too few agree."""
    # Animals that fit no box are ignored: which of them are candidates depends on the reach.
    if min(np.count_nonzero(possible.any(axis=axis)) for axis in (0, 1)) < _LEAST_AGREEING:
        return None
    boxes, animals = np.nonzero(possible)
    shifts, reach = apart[boxes, animals], own[boxes, animals]
    order = np.argsort(_length(shifts), kind="stable")[:_MOST_TRIED]
    close = _length(shifts[order][:, None] - shifts[None]) <= reach[None]
    # A box that fits several animals votes once.
    agreeing = np.zeros((len(order), apart.shape[0]), bool)
    tried, pair = np.nonzero(close)
    agreeing[tried, boxes[pair]] = True
    votes = agreeing.sum(axis=1)
    best = int(np.argmax(votes))
    if votes[best] < _LEAST_AGREEING:
        return None
    return np.asarray(np.median(shifts[close[best]], axis=0), np.float64)


def _assign(distance: FloatArray, possible: BoolArray) -> tuple[IntArray, IntArray]:
    """One-to-one pairs: as many as possible, with the least sum of squared distances."""
    by_row, by_column = possible.sum(axis=1), possible.sum(axis=0)
    if by_row.max() <= 1 and by_column.max() <= 1:
        # No box and no animal has a choice.
        alone = np.nonzero(possible)
        return alone[0], alone[1]
    rows, columns = np.flatnonzero(by_row), np.flatnonzero(by_column)
    chosen = rows[:, None], columns
    inside = possible[chosen]
    # An impossible pair costs more than all possible ones together.
    cost = np.where(inside, distance[chosen] ** 2, 0.0)
    forbidden = float(cost.max(initial=0.0)) * (min(cost.shape) + 1) + 1.0
    chosen_rows, chosen_columns = linear_sum_assignment(np.where(inside, cost, forbidden))
    kept = inside[chosen_rows, chosen_columns]
    return rows[chosen_rows[kept]], columns[chosen_columns[kept]]


def _length(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]), np.float64)
