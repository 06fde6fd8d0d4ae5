"""Point in polygon for many points and polygons, by a grid of square cells. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely import bounds, distance, dwithin, intersects_xy, points, prepare

from transect.arrays import FloatArray, IntArray

Shapes = NDArray[np.object_]


def nearest_polygon(xy: FloatArray, polygons: Shapes, parts: Shapes, owner: IntArray, reach_m: float) -> IntArray:
    """For each place (n, 2) the first polygon that contains it, else the nearest within `reach_m`, else -1.

    `parts` are small shapes whose boxes cover the polygons, and `owner` is the polygon of each: a photo strip has a
    large box, its photos have small ones.
    """
    found = np.full(len(xy), -1, np.int64)
    if len(polygons) == 0 or len(xy) == 0:
        return found
    prepare(polygons)
    near = _CandidatePairs.of(xy, bounds(parts), owner, reach_m)
    for polygon, rows in near.by_polygon(found < 0):
        held = rows[intersects_xy(polygons[polygon], xy[rows, 0], xy[rows, 1])]
        found[held] = np.where(found[held] < 0, polygon, found[held])
    apart = np.full(len(xy), np.inf)
    for polygon, rows in near.by_polygon(found < 0):
        places = points(xy[rows])
        # A prepared polygon speeds up `dwithin`, but not `distance`.
        within = dwithin(polygons[polygon], places, reach_m)
        metres, rows_within = distance(polygons[polygon], places[within]), rows[within]
        closer = metres < apart[rows_within]
        apart[rows_within[closer]], found[rows_within[closer]] = metres[closer], polygon
    return found


@dataclass(frozen=True)
class _CandidatePairs:
    """Candidate pairs of a place and a polygon, which share a cell, in order of polygon, then place.

    Cells and not an STRtree of the parts: overlapping photos repeat their polygon in each answer of a tree. At 100,000
    photos with a million boxes (benchmarks/scale.py) `nearest_polygon` takes 0.8 s of processor with these cells, 4.9 s
    with a tree of the parts' boxes and twice that with its predicate `dwithin`; the whole benchmark takes 28 s.
    """

    place: IntArray
    polygon: IntArray

    @classmethod
    def of(cls, xy: FloatArray, boxes: FloatArray, owner: IntArray, reach_m: float) -> "_CandidatePairs":
        """`boxes` (m, 4) are least x, least y, most x, most y of parts of the polygons `owner` (m,)."""
        side = float(np.median(boxes[:, 2:] - boxes[:, :2])) + 2 * reach_m + 1e-9
        low = np.floor((boxes[:, :2] - reach_m) / side).astype(np.int64)
        high = np.floor((boxes[:, 2:] + reach_m) / side).astype(np.int64)
        first, span = low.min(axis=0), high.max(axis=0) - low.min(axis=0) + 1
        many = int(owner.max()) + 1
        wide, box = high - low + 1, np.repeat(np.arange(len(boxes)), np.prod(high - low + 1, axis=1))
        step = _ranges(np.prod(wide, axis=1))
        cell = low[box] - first + np.stack([step % wide[box, 0], step // wide[box, 0]], axis=-1)
        held = np.unique((cell[:, 0] * span[1] + cell[:, 1]) * many + owner[box])
        own = np.floor(xy / side)
        inside = np.flatnonzero(np.all((own >= first) & (own < first + span), axis=1))
        cell = own[inside].astype(np.int64) - first
        key = (cell[:, 0] * span[1] + cell[:, 1]) * many
        start, end = np.searchsorted(held, key), np.searchsorted(held, key + many)
        place, polygon = (
            np.repeat(inside, end - start),
            held[np.repeat(start, end - start) + _ranges(end - start)] % many,
        )
        order = np.argsort(polygon, kind="stable")
        return cls(place[order], polygon[order])

    def by_polygon(self, selected: NDArray[np.bool_]) -> list[tuple[int, IntArray]]:
        """Each polygon with those of its candidate places that are `selected` (n,)."""
        kept = selected[self.place]
        place, polygon = self.place[kept], self.polygon[kept]
        starts = np.flatnonzero(np.diff(polygon, prepend=-1))
        return list(zip(polygon[starts].tolist(), np.split(place, starts[1:]), strict=True)) if len(starts) else []


def _ranges(lengths: IntArray) -> IntArray:
    """Concatenated ranges 0, 1, ... of the given lengths."""
    return np.asarray(np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths), np.int64)
