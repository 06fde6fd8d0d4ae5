"""The ground position of each detection, its standard deviation, and whether it counts there.

An animal belongs to the ground on which its middle lies. A box that the photo's edge cuts shows a part of an
animal, and the part's middle is too far inside; counting all of them would count animals whose middle lies
outside the footprint. So the whole box is reconstructed from the size that its species has in this survey. For
a body of any heading, width2 + height2 of the box around it hardly changes with the heading (exactly so for an
ellipse), so the cut side follows from the whole one. A box whose reconstructed middle is outside the photo does
not count there; where another photo contains that middle, it counts once, there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.ground.geometry import GroundView
from transect.census.ground.projection import Views
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.multiplicity import FootprintIndex

# A box that ends this close to the photo's edge may be cut by it.
_EDGE_PX = 4.0
# Standard deviation of a box's middle as a share of the animal's size, for whole and for cut boxes.
_BOX_SD, _CUT_BOX_SD = 0.1, 0.25


@dataclass(frozen=True, kw_only=True)
class Observations:
    """All boxes of a survey, one row each, frame by frame.

    `frame` and `species` are numbers; `box` (n, 4) xyxy in pixels; `xy` (n, 2) in grid metres, NaN where the
    photo has no position; `placed` is true where it has one; `cut` where the photo's edge cuts the box; `inside` where
    the animal's middle lies in the photo. `yaw_arm_m`, `height_arm`, `reported_sd_m`, `box_sd`: see
    pose_errors.GroundDetections. `visits` is the number of photos that show the place; 0 for a box that does not count.
    """

    frame: IntArray
    species: IntArray
    class_name: tuple[str, ...]
    score: FloatArray
    box: FloatArray
    xy: FloatArray
    placed: BoolArray
    cut: BoolArray
    inside: BoolArray
    yaw_arm_m: FloatArray
    height_arm: FloatArray
    reported_sd_m: FloatArray
    box_sd: FloatArray
    visits: IntArray

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def weight(self) -> FloatArray:
        """The weight of each box in a single look: 1 / visits, and 0 where it does not count."""
        weight = np.zeros(len(self))
        counts = self.visits > 0
        weight[counts] = 1.0 / self.visits[counts]
        return weight


def observe(
    found: Sequence[FrameDetections],
    poses: Sequence[GroundView | None],
    species_of: Mapping[str, int],
    footprints: FootprintIndex,
    sizes: FloatArray | None = None,
) -> Observations:
    """Put every box of a reported species on the ground.

    `found` and `poses` (None: no position) are aligned, one a photo; `species_of` numbers the classes that are
    reported: boxes of other classes are left out. `footprints` are those of the same photos. `sizes` are
    typical_sizes() of other boxes, for boxes that say less of their species' size than those do; without them, and
    where one is NaN, the boxes' own are used.
    """
    kept = [np.array([name in species_of for name in one.classes], bool) for one in found]
    counts = [int(mask.sum()) for mask in kept]
    frame = np.repeat(np.arange(len(found)), counts).astype(np.int64)
    box = np.concatenate([one.boxes[mask] for one, mask in zip(found, kept, strict=True)] or [np.empty((0, 4))])
    score = np.concatenate([one.scores[mask] for one, mask in zip(found, kept, strict=True)] or [np.empty(0)])
    names = tuple(name for one in found for name in one.classes if name in species_of)
    species = np.array([species_of[name] for name in names], np.int64)

    placed = np.array([pose is not None for pose in poses], bool)[frame]
    size = np.array([[one.width, one.height] for one in found], np.float64).reshape(-1, 2)[frame]
    views = Views(poses)
    scale = views.scale_at(frame, (box[:, :2] + box[:, 2:]) / 2)
    low, high = box[:, :2] <= _EDGE_PX, box[:, 2:] >= size - _EDGE_PX
    cut: BoolArray = np.any(low | high, axis=1)
    typical = _typical_diagonal(box, scale, species, cut)
    if sizes is not None:
        typical = np.where(np.isnan(sizes[species]), typical, sizes[species])
    middle = _whole_middle(box, low, high, typical / np.where(np.isnan(scale), 1.0, scale))
    inside: BoolArray = np.all((middle >= 0) & (middle <= size), axis=1)

    xy = views.to_ground(frame, middle)
    yaw_arm_m, height_arm = views.pose_error_sd(frame, xy, math.degrees(1), 0), views.pose_error_sd(frame, xy, 0, 1)
    box_sd = np.where(cut, _CUT_BOX_SD, _BOX_SD) * typical
    said = views.position_sd_m[frame]
    visits = np.zeros(len(frame), np.int64)
    counting = placed & inside
    visits[counting] = footprints.at(xy[counting], frame[counting]).count
    return Observations(
        frame=frame,
        species=species,
        class_name=names,
        score=score,
        box=box,
        xy=xy,
        placed=placed,
        cut=cut,
        inside=inside,
        yaw_arm_m=yaw_arm_m,
        height_arm=height_arm,
        reported_sd_m=said,
        box_sd=box_sd,
        visits=visits,
    )


def typical_sizes(observations: Observations, poses: Sequence[GroundView | None], species: int) -> FloatArray:
    """For each of so many species the median box diagonal in metres, as observe() uses it; NaN without a placed box."""
    box, kind = observations.box, observations.species
    scale = Views(poses).scale_at(observations.frame, (box[:, :2] + box[:, 2:]) / 2)
    sizes = np.full(species, np.nan)
    known = ~np.isnan(scale)
    sizes[kind[known]] = _typical_diagonal(box, scale, kind, observations.cut)[known]
    return sizes


def _typical_diagonal(box: FloatArray, scale: FloatArray, species: IntArray, cut: BoolArray) -> FloatArray:
    """For each row its species' median box diagonal in metres, from whole boxes where there are any."""
    diagonal = np.hypot(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]) * scale
    typical = np.where(np.isnan(diagonal), 0.0, diagonal)
    for one in np.unique(species):
        usable = (species == one) & ~np.isnan(scale)
        whole = usable & ~cut
        if usable.any():
            typical[species == one] = float(np.median(diagonal[whole if whole.any() else usable]))
    return typical


def _whole_middle(box: FloatArray, low: BoolArray, high: BoolArray, diagonal_px: FloatArray) -> FloatArray:
    """The middle (n, 2) in pixels of the whole animal of each box; `low`, `high` (n, 2) are the edges that cut it."""
    side = box[:, 2:] - box[:, :2]
    other, other_cut = side[:, ::-1], (low | high)[:, ::-1]
    # In a corner both sides are cut: the animal is taken to lie at 45 degrees.
    known = np.where(other_cut, diagonal_px[:, None] / math.sqrt(2), np.minimum(other, diagonal_px[:, None]))
    whole = np.maximum(side, np.sqrt(np.maximum(diagonal_px[:, None] ** 2 - known**2, 0.0)))
    middle = (box[:, :2] + box[:, 2:]) / 2
    middle = np.where(low & ~high, box[:, 2:] - whole / 2, middle)
    return np.asarray(np.where(high & ~low, box[:, :2] + whole / 2, middle), np.float64)
