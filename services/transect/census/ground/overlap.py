"""Overlap: the shares of a photo's ground that other photos show too."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from shapely import STRtree, area, centroid, get_coordinates, intersection, union_all

from transect.arrays import FloatArray
from transect.census.ground.coverage import Coverage
from transect.census.ground.geometry import Grid
from transect.census.ground.placement.frames import Frame

# The overlap is estimated from so many photos, evenly chosen; more would not change it.
_MOST_SAMPLED = 1000


@dataclass(frozen=True)
class Overlap:
    """Overlap as shares of a photo's ground.

    `forward` is the median share that the next photo of the same transect shows (None without transects);
    `across` the mean share that photos of other transects show, `shared` that any other photo shows. `looks` is the
    mean number of photos of a place.
    """

    forward: float | None
    across: float
    shared: float
    looks: float


def ground_areas_m2(coverage: Coverage, grid: Grid) -> FloatArray:
    """The ground area of each footprint in m2 (n,)."""
    grounds = np.array(list(coverage.footprints.values()), object)
    return np.asarray(area(grounds) / grid.scale_at(get_coordinates(centroid(grounds))) ** 2, np.float64)


def measure_overlap(frames: Sequence[Frame], coverage: Coverage, grid: Grid) -> Overlap | None:
    """The overlap of the photos in `coverage.footprints`, which are numbers of `frames`; None for fewer than two."""
    shown = coverage.footprints
    numbers = list(shown)
    if len(numbers) < 2:
        return None
    grounds = np.array(list(shown.values()), object)
    areas = area(grounds)
    tree = STRtree(grounds)
    across, shared = [], []
    for index in range(0, len(numbers), -(-len(numbers) // _MOST_SAMPLED)):
        own, transect = grounds[index], frames[numbers[index]].transect
        others = np.setdiff1d(tree.query(own, predicate="intersects"), [index])
        elsewhere = [other for other in others if frames[numbers[other]].transect != transect]
        shared.append(own.intersection(union_all(grounds[others])).area / areas[index])
        across.append(own.intersection(union_all(grounds[elsewhere])).area / areas[index])
    looks = float(ground_areas_m2(coverage, grid).sum()) / 1e6 / coverage.area_km2
    return Overlap(_forward(frames, numbers, grounds), float(np.mean(across)), float(np.mean(shared)), looks)


def _forward(frames: Sequence[Frame], numbers: Sequence[int], grounds: Any) -> float | None:
    """The median share of a photo's ground that the next one of its transect shows; frames are in order of time."""
    by_transect: dict[str, list[int]] = {}
    for index, number in enumerate(numbers):
        transect = frames[number].transect
        if transect is not None:
            by_transect.setdefault(transect, []).append(index)
    pairs = np.array([pair for members in by_transect.values() for pair in pairwise(members)], np.int64).reshape(-1, 2)
    if len(pairs) == 0:
        return None
    one, other = grounds[pairs[:, 0]], grounds[pairs[:, 1]]
    return float(np.median(area(intersection(one, other)) / area(one)))
