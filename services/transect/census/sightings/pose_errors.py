"""How well the photos' positions and headings are known, from the survey itself: animals in two photos say it.

Where two photos show the same animals, their recorded positions differ by a shift and a turn that all animals of the
pair share. Over many pairs, the spread of the shifts is that of the positions, the spread of the turns that of the
headings; what is left over in a pair is the boxes' own error and the animals' walk. A herd that walks as one looks
like a shift, so it is a part of the position's error here, as it must be where boxes are joined.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transect.census.ground.geometry import FloatArray
from transect.census.sightings.matching import Matching, Sightings, unique_animals

IntArray = NDArray[np.int64]

# Where nothing else is known: what plain GPS and a compass do on a bad day. Too wide a tolerance joins too many animals
# only where they stand thick, and there they show the errors themselves; too narrow a one counts each animal twice.
USUAL_GPS_M, USUAL_YAW_DEG = 3.0, 2.0
# The search for pairs starts from errors that few surveys pass.
_WIDE_GPS_M, _WIDE_YAW_DEG = 3.0, 3.0
# A pair of photos says something of its shift from this many animals on; a turn needs animals that lie apart as well.
_LEAST_ANIMALS, _LEAST_SPREAD_M2 = 4, 500.0
# So few pairs give an error that is itself right to a third; the tolerance has room for that.
_LEAST_PAIRS = 8
# More boxes would say no more.
_MOST_BOXES = 30_000
_BLOCKS = 20
# Nothing is known better than this, whatever a small sample says.
_FLOOR_GPS_M, _FLOOR_YAW_DEG = 0.2, 0.2


@dataclass(frozen=True)
class PoseErrors:
    """Standard deviations of one photo's recorded position (m, each axis), heading (degrees) and height (m).

    `gps` and `yaw` say where the first two come from: `given`, `estimated` from `pairs` of photos, or `assumed`.
    """

    gps_m: float
    yaw_deg: float
    height_m: float
    gps: str = "given"
    yaw: str = "given"
    pairs: int = 0


@dataclass(frozen=True)
class Located:
    """Boxes that count where they are; the first four columns are those of unique.Sightings.

    `lever` (n,) is by how many metres a place moves when its photo's heading turns by one radian, `rise` (n,) when the
    camera stands one metre higher; `said_sd` (n,) is what the photo itself says of its position (NaN: nothing),
    `box_sd` (n,) the error of the box's middle, both in metres along each axis.
    """

    xy: FloatArray
    species: IntArray
    frame: IntArray
    seconds: FloatArray
    lever: FloatArray
    rise: FloatArray
    said_sd: FloatArray
    box_sd: FloatArray

    def sightings(self, errors: PoseErrors) -> Sightings:
        """With the standard deviations that follow from the errors of the poses."""
        turning = np.hypot(self.lever * math.radians(errors.yaw_deg), self.rise * errors.height_m)
        shared = np.where(np.isnan(self.said_sd), errors.gps_m, self.said_sd)
        return Sightings(self.xy, self.species, self.frame, shared, np.hypot(turning, self.box_sd), self.seconds)

    def part(self, rows: IntArray) -> "Located":
        """Some of the boxes."""
        return Located(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def pose_errors(
    boxes: Located, matching: Matching, *, gps_m: float | None, yaw_deg: float | None, height_m: float
) -> PoseErrors:
    """The errors as they are given; those that are None as the survey itself shows them, or else as is usual."""
    if gps_m is not None and yaw_deg is not None:
        return PoseErrors(gps_m, yaw_deg, height_m)
    pairs = _pairs(boxes.part(_sample(boxes.frame)), matching, height_m)
    found_yaw = _yaw_sd_deg(pairs)
    used_yaw = yaw_deg if yaw_deg is not None else USUAL_YAW_DEG if found_yaw is None else found_yaw
    found_gps = _gps_sd_m(pairs, used_yaw)
    return PoseErrors(
        gps_m if gps_m is not None else USUAL_GPS_M if found_gps is None else found_gps,
        used_yaw,
        height_m,
        "given" if gps_m is not None else "assumed" if found_gps is None else "estimated",
        "given" if yaw_deg is not None else "assumed" if found_yaw is None else "estimated",
        len(pairs.animals),
    )


def _sample(frame: IntArray) -> IntArray:
    """All boxes, or those of some runs of consecutive frames, spread over the survey."""
    order = np.argsort(frame, kind="stable")
    if len(order) <= _MOST_BOXES:
        return order
    blocks = np.array_split(order, _BLOCKS)
    return np.concatenate([block[: _MOST_BOXES // _BLOCKS] for block in blocks])


@dataclass(frozen=True)
class _PhotoPairs:
    """Pairs of photos with their common animals: `animals` how many, `shift2` the squared length of their shift.

    `levers2` is the sum of the squared distances of the animals' middle from the points below the two cameras; `turn`
    the turn in radians, `spread2` the sum of the animals' squared distances from their middle; `residual2` the variance
    of what is left over, along each axis.
    """

    animals: FloatArray
    shift2: FloatArray
    levers2: FloatArray
    turn: FloatArray
    spread2: FloatArray
    residual2: float


def _pairs(boxes: Located, matching: Matching, height_m: float) -> _PhotoPairs:
    wide = PoseErrors(_WIDE_GPS_M, _WIDE_YAW_DEG, height_m)
    animal = unique_animals(boxes.sightings(wide), matching)
    order = np.lexsort((boxes.frame, animal))
    again = np.flatnonzero(np.diff(animal[order]) == 0)
    one, other = order[again], order[again + 1]
    key, place = np.unique(np.stack([boxes.frame[one], boxes.frame[other]], axis=-1), axis=0, return_inverse=True)
    place = place.reshape(-1)
    count = np.bincount(place, minlength=len(key)).astype(np.float64)
    apart, middle = boxes.xy[other] - boxes.xy[one], (boxes.xy[other] + boxes.xy[one]) / 2
    shift, centre = _means(apart, place, count), _means(middle, place, count)
    arm, rest = middle - centre[place], apart - shift[place]
    spread2 = np.asarray(np.bincount(place, (arm**2).sum(axis=1), len(key)), np.float64)
    # Squared distances from a point are those from the middle and the middle's own.
    levers2 = (
        np.bincount(place, boxes.lever[one] ** 2 + boxes.lever[other] ** 2, len(key)) / count - 2 * spread2 / count
    )
    crossed = np.bincount(place, arm[:, 0] * rest[:, 1] - arm[:, 1] * rest[:, 0], len(key))
    turn = np.divide(crossed, spread2, out=np.zeros(len(key)), where=spread2 > 0)
    rest = rest - turn[place][:, None] * np.stack([-arm[:, 1], arm[:, 0]], axis=-1)
    kept = count >= _LEAST_ANIMALS
    free = 2 * float((count[kept] - 1.5).sum())
    residual2 = float((rest[kept[place]] ** 2).sum()) / free if free > 0 else 0.0
    return _PhotoPairs(count[kept], (shift[kept] ** 2).sum(axis=1), levers2[kept], turn[kept], spread2[kept], residual2)


def _means(values: FloatArray, place: IntArray, count: FloatArray) -> FloatArray:
    return np.stack([np.bincount(place, values[:, axis], len(count)) for axis in (0, 1)], axis=-1) / count[:, None]


def _yaw_sd_deg(pairs: _PhotoPairs) -> float | None:
    """Each turn is that of two photos: twice the variance. The median holds against pairs that were joined wrongly."""
    wide = pairs.spread2 >= _LEAST_SPREAD_M2
    if wide.sum() < _LEAST_PAIRS:
        return None
    total = (1.4826 * float(np.median(np.abs(pairs.turn[wide])))) ** 2
    own = float(np.median(pairs.residual2 / pairs.spread2[wide]))
    return max(math.degrees(math.sqrt(max(total - own, 0.0) / 2)), _FLOOR_YAW_DEG)


def _gps_sd_m(pairs: _PhotoPairs, yaw_deg: float) -> float | None:
    """The squared length of a shift in two dimensions has the median 2 ln 2 times the variance along each axis.

    Of that, the turns of both photos around their own middles and the boxes' own errors are taken off.
    """
    if len(pairs.animals) < _LEAST_PAIRS:
        return None
    turned = math.radians(yaw_deg) ** 2 * pairs.levers2 / 2
    own = turned + pairs.residual2 / pairs.animals
    total = float(np.median(pairs.shift2)) / (2 * math.log(2))
    return max(math.sqrt(max(total - float(np.median(own)), 0.0) / 2), _FLOOR_GPS_M)
