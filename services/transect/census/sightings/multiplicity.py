"""The multiplicity of each place (the photos that show it), and the photo in which it counts.

Two uses. A box weighted by 1 / k for k photos counts each animal once on average without knowing which boxes are one
animal (the multiplicity estimator: Sirken 1970, J. Am. Stat. Assoc. 65: 257-266); precision and recall, which are of
one look, correct that count. And ground that was flown over again much later, when its animals stood elsewhere, is
divided between the passes: each place belongs to the photo whose middle is nearest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from shapely import STRtree, points
from shapely.geometry.base import BaseGeometry

from transect.arrays import BoolArray, FloatArray, IntArray

_CHUNK = 100_000


@dataclass(frozen=True)
class Visits:
    """For each place: `count` (n,) photos that show it, and `nearest` (n,) the one whose middle is nearest (-1: none).

    `own_pass` (n,) is true where the nearest photo is of the same pass over this ground as the photo of the query.
    """

    count: IntArray
    nearest: IntArray
    own_pass: BoolArray


class FootprintIndex:
    """A spatial index of the footprints: which photos show a place, and in which pass.

    `middles` (m, 2) in grid metres and `seconds` (m,) of each frame; a frame without a footprint is None, one without
    a time NaN. Photos of one place that are more than `window_s` apart in time, with none in between, are of different
    passes; a photo without a time is of every pass.

    Usage::

        visits = FootprintIndex(footprints, middles, seconds, window_s=60).at(xy, frame)
    """

    def __init__(
        self, footprints: Sequence[BaseGeometry | None], middles: FloatArray, seconds: FloatArray, *, window_s: float
    ) -> None:
        self._numbers = np.array([n for n, shape in enumerate(footprints) if shape is not None], np.int64)
        self._tree = STRtree([shape for shape in footprints if shape is not None])
        self.seconds = seconds
        self._middles, self._window_s = middles, window_s

    def at(self, xy: FloatArray, frame: IntArray) -> Visits:
        """The visits of places (n, 2) detected in frames (n,). The own photo always shows its place."""
        parts = [
            self._at(xy[start : start + _CHUNK], frame[start : start + _CHUNK]) for start in range(0, len(xy), _CHUNK)
        ]
        if not parts:
            return Visits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool))
        return Visits(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _at(self, xy: FloatArray, frame: IntArray) -> tuple[IntArray, IntArray, BoolArray]:
        place, shape = self._tree.query(points(xy), predicate="intersects")
        photo = self._numbers[shape]
        # Rounding at a footprint's border must not drop the photo of the detection itself.
        other = photo != frame[place]
        place = np.concatenate([place[other], np.arange(len(xy))])
        photo = np.concatenate([photo[other], frame])
        when = np.nan_to_num(self.seconds[photo], nan=-np.inf)
        order = np.lexsort((photo, when, place))
        place, photo, when = place[order], photo[order], when[order]
        count = np.bincount(place, minlength=len(xy)).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        with np.errstate(invalid="ignore"):
            later = np.diff(when, prepend=when[:1]) > self._window_s
        later &= np.isfinite(np.roll(when, 1))
        later[first] = False
        passage = np.cumsum(later)
        apart = np.hypot(*(self._middles[photo] - xy[place]).T)
        nearest = np.lexsort((photo, apart, place))[first]
        mine = np.empty(len(xy), np.int64)
        own = photo == frame[place]
        mine[place[own]] = np.flatnonzero(own)
        timeless = ~np.isfinite(when)
        same = (passage[nearest] == passage[mine]) | timeless[nearest] | timeless[mine]
        return count, photo[nearest], same
