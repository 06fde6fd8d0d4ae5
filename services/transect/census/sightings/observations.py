"""The ground position of each detection, its standard deviation, and whether it counts there.

An animal belongs to the ground on which its middle lies. A box that the photo's edge cuts shows a part of an
animal, and the part's middle is too far inside; counting all of them would count animals whose middle lies
outside the footprint. So the whole box is reconstructed from the size that its species has in this survey. For
a body of any heading, width2 + height2 of the box around it hardly changes with the heading (exactly so for an
ellipse), so the cut side follows from the whole one. A box whose reconstructed middle is outside the photo does
not count there; where another photo contains that middle, it counts once, there.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.ground.geometry import GroundView
from transect.census.ground.projection import Views
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.survey_detections import PhotoBoxes

# A box that ends this close to the photo's edge may be cut by it.
_EDGE_PX = 4.0
# Standard deviation of a box's middle as a share of the animal's size, for whole and for cut boxes.
_BOX_SD, _CUT_BOX_SD = 0.1, 0.25


# Boxes that are put on the ground at a time: intermediate results of all of them would take more memory than they do.
_CHUNK = 200_000


@dataclass(frozen=True, kw_only=True)
class Observations:
    """All boxes of a survey, one row each, frame by frame.

    `frame` and `species` are numbers, `class_code` an index into `class_names`; `box` (n, 4) xyxy in pixels; `xy`
    (n, 2) in grid metres, NaN where the photo has no position; `placed` is true where it has one; `cut` where the
    photo's edge cuts the box; `inside` where the animal's middle lies in the photo. `yaw_arm_m`, `height_arm`,
    `reported_sd_m`, `box_sd`: see pose_errors.GroundDetections. `visits` is the number of photos that show the place; 0
    for a box that does not count.
    """

    frame: IntArray
    species: IntArray
    class_code: IntArray
    class_names: tuple[str, ...]
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
    def class_name(self) -> list[str]:
        """The class of each box."""
        return [self.class_names[code] for code in self.class_code.tolist()]

    @property
    def weight(self) -> FloatArray:
        """The weight of each box in a single look: 1 / visits, and 0 where it does not count."""
        weight = np.zeros(len(self))
        counts = self.visits > 0
        weight[counts] = 1.0 / self.visits[counts]
        return weight

    def part(self, rows: slice) -> "Observations":
        """Consecutive boxes."""
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "class_names"}
        return Observations(class_names=self.class_names, **{name: one[rows] for name, one in columns.items()})


def observe(
    found: PhotoBoxes | Sequence[FrameDetections],
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
    boxes = (found if isinstance(found, PhotoBoxes) else PhotoBoxes.of(found)).of_classes(species_of)
    # A class that is not reported has no box left.
    species_of_code = np.array([species_of.get(name, -1) for name in boxes.class_names], np.int64)
    frame, species = boxes.frame, species_of_code[boxes.class_code]
    placed = np.array([pose is not None for pose in poses], bool)[frame]
    views, count = Views(poses), len(frame)
    typical = _typical_by_species(boxes, frame, species, views)
    if sizes is not None:
        known = np.full(len(typical), np.nan)
        known[: len(sizes)] = sizes[: len(typical)]
        typical = np.where(np.isnan(known), typical, known)
    columns = _Columns(
        xy=np.empty((count, 2)),
        cut=np.empty(count, bool),
        inside=np.empty(count, bool),
        yaw_arm_m=np.empty(count),
        height_arm=np.empty(count),
        reported_sd_m=np.empty(count),
        box_sd=np.empty(count),
        visits=np.zeros(count, np.int64),
    )
    for rows in _slices(count):
        columns.fill(
            rows,
            _Boxes(boxes.box[rows], boxes.size[frame[rows]], frame[rows], placed[rows]),
            typical[species[rows]],
            views,
            footprints,
        )
    return Observations(
        frame=frame,
        species=species,
        class_code=boxes.class_code,
        class_names=boxes.class_names,
        score=boxes.score,
        box=boxes.box,
        placed=placed,
        **vars(columns),
    )


@dataclass(frozen=True)
class _Boxes:
    """Some boxes (m, 4), with the size (m, 2) and the number of each one's photo, and whether it has a position."""

    box: FloatArray
    size: FloatArray
    frame: IntArray
    placed: BoolArray


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The computed columns of Observations, which are filled chunk by chunk."""

    xy: FloatArray
    cut: BoolArray
    inside: BoolArray
    yaw_arm_m: FloatArray
    height_arm: FloatArray
    reported_sd_m: FloatArray
    box_sd: FloatArray
    visits: IntArray

    def fill(self, rows: slice, boxes: "_Boxes", typical: FloatArray, views: Views, footprints: FootprintIndex) -> None:
        """Compute some rows, which are `boxes`; `typical` (m,) are their species' diagonals in metres."""
        box, size, frame = boxes.box, boxes.size, boxes.frame
        scale = views.scale_at(frame, (box[:, :2] + box[:, 2:]) / 2)
        low, high = _at_edge(box, size)
        cut = np.any(low | high, axis=1)
        # A box that no position gives a size keeps its middle.
        typical = np.where(np.isnan(typical), 0.0, typical)
        middle = _whole_middle(box, low, high, typical / np.where(np.isnan(scale), 1.0, scale))
        inside = np.all((middle >= 0) & (middle <= size), axis=1)
        xy = views.to_ground(frame, middle)
        self.xy[rows], self.cut[rows], self.inside[rows] = xy, cut, inside
        self.yaw_arm_m[rows] = views.pose_error_sd(frame, xy, math.degrees(1), 0)
        self.height_arm[rows] = views.pose_error_sd(frame, xy, 0, 1)
        self.box_sd[rows] = np.where(cut, _CUT_BOX_SD, _BOX_SD) * typical
        self.reported_sd_m[rows] = views.position_sd_m[frame]
        counting = boxes.placed & inside
        visits = np.zeros(len(frame), np.int64)
        visits[counting] = footprints.at(xy[counting], frame[counting]).count
        self.visits[rows] = visits


def typical_sizes(observations: Observations, poses: Sequence[GroundView | None], species: int) -> FloatArray:
    """For each of so many species the median box diagonal in metres, as observe() uses it; NaN without a placed box."""
    views, count = Views(poses), len(observations)
    diagonal = np.empty(count)
    for rows in _slices(count):
        diagonal[rows] = _diagonal(observations.box[rows], observations.frame[rows], views)
    return _medians(diagonal, observations.species, observations.cut, species)


def _typical_by_species(boxes: PhotoBoxes, frame: IntArray, species: IntArray, views: Views) -> FloatArray:
    diagonal, cut = np.empty(len(frame)), np.empty(len(frame), bool)
    for rows in _slices(len(frame)):
        box = boxes.box[rows]
        diagonal[rows] = _diagonal(box, frame[rows], views)
        cut[rows] = np.any(np.hstack(_at_edge(box, boxes.size[frame[rows]])), axis=1)
    return _medians(diagonal, species, cut, int(species.max(initial=-1)) + 1)


def _medians(diagonal: FloatArray, species: IntArray, cut: BoolArray, count: int) -> FloatArray:
    """The median diagonal of so many species, from whole boxes where there are any; NaN without a placed box."""
    sizes = np.full(count, np.nan)
    for one in range(count):
        usable = (species == one) & ~np.isnan(diagonal)
        whole = usable & ~cut
        if usable.any():
            sizes[one] = float(np.median(diagonal[whole if whole.any() else usable]))
    return sizes


def _diagonal(box: FloatArray, frame: IntArray, views: Views) -> FloatArray:
    """The diagonal of each box in metres; NaN where its photo has no position."""
    scale = views.scale_at(frame, (box[:, :2] + box[:, 2:]) / 2)
    return np.asarray(np.hypot(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]) * scale, np.float64)


def _at_edge(box: FloatArray, size: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Whether the left and the upper, and the right and the lower edge of the photo cut each box: (n, 2) each."""
    return box[:, :2] <= _EDGE_PX, box[:, 2:] >= size - _EDGE_PX


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


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
