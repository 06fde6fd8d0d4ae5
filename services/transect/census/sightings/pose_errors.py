"""Errors of the photos' recorded positions and headings, estimated from animals that two photos share.

Where two photos show the same animals, their recorded positions differ by a shift and a turn that all animals of the
pair share. Over many pairs, the spread of the shifts estimates the position error, and the spread of the turns the
heading error. The residual of a pair is the boxes' own error and the animals' walk. A herd that walks as one is
indistinguishable from a shift, so it is a part of the position error here, as it must be where boxes are joined.
"""

import math
from dataclasses import dataclass

import numpy as np

from transect.arrays import FloatArray, IntArray
from transect.census.sightings.matching import Matching, Sightings, unique_animals

# Defaults: plain GPS and a compass on a bad day. Too wide a tolerance joins too many animals only where they stand
# dense, and there the errors can be estimated; too narrow a one counts each animal twice.
USUAL_GPS_M, USUAL_YAW_DEG = 3.0, 2.0
# The search for pairs starts from errors that few surveys exceed.
_WIDE_GPS_M, _WIDE_YAW_DEG = 3.0, 3.0
# Least animals of a pair to estimate its shift; a turn also needs animals that lie apart.
_LEAST_ANIMALS, _LEAST_SPREAD_M2 = 4, 500.0
# From this many pairs the estimate is right to a third; the tolerance has room for that.
_LEAST_PAIRS = 8
# More boxes would not sharpen the estimate.
_MOST_BOXES = 30_000
_BLOCKS = 20
# Lower limits of the estimates: a small sample may show none.
_FLOOR_GPS_M, _FLOOR_YAW_DEG = 0.2, 0.2


@dataclass(frozen=True, kw_only=True)
class PoseErrors:
    """Standard deviations of one photo's recorded position (m, each axis), heading (degrees) and height (m).

    `gps` and `yaw` are the sources of the first two: `given`, `estimated` from `pairs` of photos, or `assumed`.
    """

    gps_m: float
    yaw_deg: float
    height_m: float
    gps: str = "given"
    yaw: str = "given"
    pairs: int = 0


@dataclass(frozen=True, kw_only=True)
class GroundDetections:
    """Boxes on the ground, with what their position errors depend on; the first four columns are Sightings'.

    `yaw_arm_m` (n,) is the metres that a position moves by one radian of its photo's heading, `height_arm` (n,) by one
    metre of the camera's height. `reported_sd_m` (n,) is the standard deviation that the photo itself reports of its
    position (NaN: none), `box_sd` (n,) that of the box's middle, both in metres along each axis.
    """

    xy: FloatArray
    species: IntArray
    frame: IntArray
    seconds: FloatArray
    yaw_arm_m: FloatArray
    height_arm: FloatArray
    reported_sd_m: FloatArray
    box_sd: FloatArray

    def sightings(self, errors: PoseErrors) -> Sightings:
        """The boxes with the standard deviations that follow from the errors of the poses."""
        turning = np.hypot(self.yaw_arm_m * math.radians(errors.yaw_deg), self.height_arm * errors.height_m)
        shared = np.where(np.isnan(self.reported_sd_m), errors.gps_m, self.reported_sd_m)
        return Sightings(
            xy=self.xy,
            species=self.species,
            frame=self.frame,
            shared_sd=shared,
            own_sd=np.hypot(turning, self.box_sd),
            seconds=self.seconds,
        )


def pose_errors(
    boxes: GroundDetections, matching: Matching, *, gps_m: float | None, yaw_deg: float | None, height_m: float
) -> PoseErrors:
    """The errors as configured; those that are None estimated from the boxes, or else the defaults.

    `boxes` are those of sample_rows(): more would take longer and not sharpen the estimate.
    """
    if gps_m is not None and yaw_deg is not None:
        return PoseErrors(gps_m=gps_m, yaw_deg=yaw_deg, height_m=height_m)
    pairs = _pairs(boxes, matching, height_m)
    found_yaw = _yaw_sd_deg(pairs)
    used_yaw = yaw_deg if yaw_deg is not None else USUAL_YAW_DEG if found_yaw is None else found_yaw
    found_gps = _gps_sd_m(pairs, used_yaw)
    return PoseErrors(
        gps_m=gps_m if gps_m is not None else USUAL_GPS_M if found_gps is None else found_gps,
        yaw_deg=used_yaw,
        height_m=height_m,
        gps="given" if gps_m is not None else "assumed" if found_gps is None else "estimated",
        yaw="given" if yaw_deg is not None else "assumed" if found_yaw is None else "estimated",
        pairs=len(pairs.animals),
    )


def sample_rows(frame: IntArray) -> IntArray:
    """The rows of boxes, by the frame of each (n,), that are enough: all, or some runs of consecutive frames.

    The runs are spread over the survey.
    """
    order = np.argsort(frame, kind="stable")
    if len(order) <= _MOST_BOXES:
        return order
    blocks = np.array_split(order, _BLOCKS)
    return np.concatenate([block[: _MOST_BOXES // _BLOCKS] for block in blocks])


@dataclass(frozen=True, kw_only=True)
class _PhotoPairs:
    """Pairs of photos (n,) with common animals: `animals` their number, `shift2` the squared length of the shift.

    `yaw_arms2` is the sum of the squared distances of the animals' middle from the points below the two cameras; `turn`
    the turn in radians; `spread2` the sum of the animals' squared distances from their middle; `residual2` the residual
    variance along each axis, of all pairs.
    """

    animals: FloatArray
    shift2: FloatArray
    yaw_arms2: FloatArray
    turn: FloatArray
    spread2: FloatArray
    residual2: float


def _pairs(boxes: GroundDetections, matching: Matching, height_m: float) -> _PhotoPairs:
    wide = PoseErrors(gps_m=_WIDE_GPS_M, yaw_deg=_WIDE_YAW_DEG, height_m=height_m)
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
    # A squared distance from a point is that from the middle plus the middle's own.
    yaw_arms2 = (
        np.bincount(place, boxes.yaw_arm_m[one] ** 2 + boxes.yaw_arm_m[other] ** 2, len(key)) / count
        - 2 * spread2 / count
    )
    crossed = np.bincount(place, arm[:, 0] * rest[:, 1] - arm[:, 1] * rest[:, 0], len(key))
    turn = np.divide(crossed, spread2, out=np.zeros(len(key)), where=spread2 > 0)
    rest = rest - turn[place][:, None] * np.stack([-arm[:, 1], arm[:, 0]], axis=-1)
    kept = count >= _LEAST_ANIMALS
    free = 2 * float((count[kept] - 1.5).sum())
    residual2 = float((rest[kept[place]] ** 2).sum()) / free if free > 0 else 0.0
    return _PhotoPairs(
        animals=count[kept],
        shift2=(shift[kept] ** 2).sum(axis=1),
        yaw_arms2=yaw_arms2[kept],
        turn=turn[kept],
        spread2=spread2[kept],
        residual2=residual2,
    )


def _means(values: FloatArray, place: IntArray, count: FloatArray) -> FloatArray:
    return np.stack([np.bincount(place, values[:, axis], len(count)) for axis in (0, 1)], axis=-1) / count[:, None]


def _yaw_sd_deg(pairs: _PhotoPairs) -> float | None:
    """Each turn is that of two photos: twice the variance. The median is robust to pairs that were joined wrongly."""
    wide = pairs.spread2 >= _LEAST_SPREAD_M2
    if wide.sum() < _LEAST_PAIRS:
        return None
    total = (1.4826 * float(np.median(np.abs(pairs.turn[wide])))) ** 2
    own = float(np.median(pairs.residual2 / pairs.spread2[wide]))
    return max(math.degrees(math.sqrt(max(total - own, 0.0) / 2)), _FLOOR_YAW_DEG)


def _gps_sd_m(pairs: _PhotoPairs, yaw_deg: float) -> float | None:
    """The squared length of a shift in two dimensions has the median 2 ln 2 times the variance along each axis.

    From that, the turns of both photos around their own middles and the boxes' own errors are subtracted.
    """
    if len(pairs.animals) < _LEAST_PAIRS:
        return None
    turned = math.radians(yaw_deg) ** 2 * pairs.yaw_arms2 / 2
    own = turned + pairs.residual2 / pairs.animals
    total = float(np.median(pairs.shift2)) / (2 * math.log(2))
    return max(math.sqrt(max(total - float(np.median(own)), 0.0) / 2), _FLOOR_GPS_M)
