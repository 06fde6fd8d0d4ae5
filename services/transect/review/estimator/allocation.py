"""How many boxes of each bin and photos of each group to review next: optimum allocation by cost. Pure.

Cochran 1977, Sampling Techniques, sections 5.5 (cost) and 5.8 (more than there is: take all, and allot the rest again).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from transect.arrays import BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A bin or a group: its number of items, the standard deviation of one item, and the cost of one in seconds.

    `least` is what is reviewed already, or what a pilot needs.
    """

    population: int
    sd: float
    cost: float
    least: int = 0


def allocate_for_cv(cells: Sequence[PlannedCell], total: float, cv: float) -> FloatArray:
    """The items to review of each cell (k,), unrounded, for this coefficient of variation of `total` at least cost."""
    wanted = (cv * total) ** 2

    def share(free: BoolArray, numbers: FloatArray) -> float:
        """The factor on N S / sqrt(c)."""
        n, sd, cost = _columns(cells)
        left = wanted - float(_variances(n, sd, numbers)[~free].sum()) + float((n * sd**2)[free].sum())
        return float((n * sd * np.sqrt(cost))[free].sum()) / left if left > 0 else math.inf

    return _allocate(cells, share)


def allocate_for_seconds(cells: Sequence[PlannedCell], seconds: float) -> FloatArray:
    """The items to review of each cell (k,), unrounded, that give the least variance for a time in all.

    What is reviewed already is part of that time; where it alone takes longer, nothing is added.
    """

    def share(free: BoolArray, numbers: FloatArray) -> float:
        n, sd, cost = _columns(cells)
        whole = float((n * sd * np.sqrt(cost))[free].sum())
        left = seconds - float((numbers * cost)[~free].sum())
        return max(left, 0.0) / whole if whole > 0 else 0.0

    return _allocate(cells, share)


def expected_cv(cells: Sequence[PlannedCell], numbers: FloatArray, total: float) -> float:
    """The coefficient of variation of `total` with so many items (k,) reviewed; infinite where a cell has none."""
    n, sd, _ = _columns(cells)
    return math.sqrt(float(_variances(n, sd, numbers).sum())) / total if total > 0 else math.inf


def seconds_of(cells: Sequence[PlannedCell], numbers: FloatArray) -> float:
    """The cost of reviewing so many items (k,)."""
    return float(sum(cell.cost * number for cell, number in zip(cells, numbers.tolist(), strict=True)))


def _allocate(cells: Sequence[PlannedCell], share: Callable[[BoolArray, FloatArray], float]) -> FloatArray:
    """N S / sqrt(c) times a common factor, between what is reviewed already and all there is."""
    n, sd, cost = _columns(cells)
    least = np.minimum(np.array([cell.least for cell in cells], np.float64), n)
    numbers, free = least.copy(), sd * n > 0
    while free.any():
        factor = share(free, numbers)
        wanted = n * sd / np.sqrt(cost) * factor if math.isfinite(factor) else n
        over, under = free & (wanted >= n), free & (wanted < least)
        # One side at a time: cells that are full change what the others need.
        fixed = over if over.any() else under
        numbers[free] = np.clip(wanted, least, n)[free]
        if not fixed.any():
            break
        free &= ~fixed
    return numbers


def _columns(cells: Sequence[PlannedCell]) -> tuple[FloatArray, FloatArray, FloatArray]:
    rows = np.array([(cell.population, cell.sd, cell.cost) for cell in cells], np.float64).reshape(-1, 3)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def _variances(population: FloatArray, sd: FloatArray, numbers: FloatArray) -> FloatArray:
    spread = population * sd**2
    with np.errstate(divide="ignore", invalid="ignore"):
        found = spread * (population - numbers) / numbers
    return np.where(spread * (population - numbers) > 0, found, 0.0)
