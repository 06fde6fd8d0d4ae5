"""Unique animals: which boxes show the same animal, and its position."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.inputs.config import CensusConfig
from transect.census.sightings.components import PlacedBoxes, chunks, components
from transect.census.sightings.matching import Matching, Sightings, matching_reach, unique_animals
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import Observations
from transect.census.sightings.pose_errors import GroundDetections, PoseErrors, pose_errors, sample_rows

# Boxes that are joined at a time, in whole components.
_TASK = 100_000


@dataclass(frozen=True)
class Animals:
    """Unique animals, one row each, in order of first sight.

    `xy` (m, 2) is the mean of the positions at which each was seen, weighted by inverse variance; `sightings` the
    number of photos; `score` the best one; `unit` the sampling unit, -1 for none.
    """

    xy: FloatArray
    species: IntArray
    sightings: IntArray
    score: FloatArray
    unit: IntArray


@dataclass(frozen=True)
class UniqueCount:
    """Each animal once: `animal_of` (n,) is the animal of each box, -1 for a box that does not count.

    The animals' `unit` is -1 until they are assigned. `repeated` animals stood on ground that belongs to another pass
    over it; they are not among the animals. `errors` are the pose errors that the tolerance was derived from.
    """

    animal_of: IntArray
    animals: Animals
    repeated: int
    errors: PoseErrors


def count_unique(observations: Observations, footprints: FootprintIndex, config: CensusConfig) -> UniqueCount:
    """Count each animal once, by `config.counting`.

    matching        boxes of one animal in photos of one pass are joined; ground that was flown over again more than
                    `time_window_s` later is divided between the passes, since animals have moved by then
    division_line   a box counts only in the photo whose middle is nearest: one look at every place; position errors
                    can move an animal across the line
    """
    ground = _Ground(observations, footprints)
    rows = np.flatnonzero(observations.placed & observations.inside)
    matching = Matching(config.match_sigmas, config.time_window_s, config.animal_speed_m_s)
    errors = pose_errors(
        ground.detections(rows[sample_rows(observations.frame[rows])]),
        matching,
        gps_m=config.gps_error_m,
        yaw_deg=config.yaw_error_deg,
        height_m=config.height_error_m,
    )
    if config.counting == "division_line":
        found = _Found.together(ground.looked_at_once(rows, errors), len(observations))
    else:
        found = _Found.together(ground.joined(rows, errors, matching), len(observations))
    kept = np.ones(len(found.animals.species), bool)
    if config.counting == "matching":
        kept = footprints.at(found.animals.xy, found.last_frame).own_pass
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    animal_of = np.full(len(observations), -1, np.int64)
    shown = found.animal_of >= 0
    animal_of[shown] = number[found.animal_of[shown]]
    return UniqueCount(animal_of, _part(found.animals, kept), int((~kept).sum()), errors)


@dataclass(frozen=True)
class _Task:
    """Some boxes: their rows, ascending, where they are, and the animal of each among those of the task."""

    rows: IntArray
    seen: Sightings
    animal: IntArray
    score: FloatArray


@dataclass(frozen=True)
class _Ground:
    """Boxes on the ground, task by task: together, their columns would take as much memory again as they do."""

    observations: Observations
    footprints: FootprintIndex

    def detections(self, rows: IntArray) -> GroundDetections:
        """The boxes of some rows."""
        seen, frame = self.observations, self.observations.frame[rows]
        return GroundDetections(
            xy=seen.xy[rows],
            species=seen.species[rows],
            frame=frame,
            seconds=self.footprints.seconds[frame],
            yaw_arm_m=seen.yaw_arm_m[rows],
            height_arm=seen.height_arm[rows],
            reported_sd_m=seen.reported_sd_m[rows],
            box_sd=seen.box_sd[rows],
        )

    def joined(self, rows: IntArray, errors: PoseErrors, matching: Matching) -> Iterator[_Task]:
        """The boxes of some rows, those of one animal joined, by components."""
        if len(rows) == 0:
            return
        frame = self.observations.frame[rows]
        seconds = self.footprints.seconds[frame]
        # One reach for all components: see matching_reach().
        known = seconds[~np.isnan(seconds)]
        longest_s = float(np.ptp(known)) if len(known) else 0.0
        reach_m = max(
            matching_reach(self.detections(part).sightings(errors), matching, longest_s=longest_s)
            for part in np.array_split(rows, math.ceil(len(rows) / _TASK))
        )
        placed = PlacedBoxes(xy=self.observations.xy[rows], frame=frame, seconds=seconds)
        for part in chunks(components(placed, matching, reach_m), _TASK):
            seen = self.detections(rows[part]).sightings(errors)
            animal = unique_animals(seen, matching, reach_m=reach_m)
            yield _Task(rows[part], seen, animal, self.observations.score[rows[part]])

    def looked_at_once(self, rows: IntArray, errors: PoseErrors) -> Iterator[_Task]:
        """Those boxes of some rows that lie in the photo whose middle is nearest, each as an animal."""
        for start in range(0, len(rows), _TASK):
            part = rows[start : start + _TASK]
            frame = self.observations.frame[part]
            part = part[self.footprints.at(self.observations.xy[part], frame).nearest == frame]
            seen = self.detections(part).sightings(errors)
            yield _Task(part, seen, np.arange(len(part)), self.observations.score[part])


@dataclass(frozen=True)
class _Found:
    """The animals of all tasks in order of first sight: of each box (-1: none), and each animal's last frame."""

    animals: Animals
    animal_of: IntArray
    last_frame: IntArray

    @classmethod
    def together(cls, tasks: Iterable[_Task], boxes: int) -> "_Found":
        animal_of = np.full(boxes, -1, np.int64)
        parts, first, last, count = list[Animals](), [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for task in tasks:
            gathered = _gather(task.seen, task.score, task.animal)
            mine = len(gathered.species)
            parts.append(gathered)
            animal_of[task.rows] = task.animal + count
            # Rows ascend, so that the last write is that of the last box.
            ends = np.zeros((2, mine), np.int64)
            ends[0][task.animal[::-1]] = task.rows[::-1]
            ends[1][task.animal] = task.seen.frame
            first.append(ends[0])
            last.append(ends[1])
            count += mine
        order = np.argsort(np.concatenate(first))
        rank = np.empty(count, np.int64)
        rank[order] = np.arange(count)
        shown = animal_of >= 0
        animal_of[shown] = rank[animal_of[shown]]
        return cls(_in_order(parts, order), animal_of, np.concatenate(last)[order])


def _in_order(parts: Sequence[Animals], order: IntArray) -> Animals:
    """The animals of all parts together, in this order."""
    if not parts:
        return Animals(
            np.empty((0, 2)), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
        )
    columns = {name: np.concatenate([getattr(one, name) for one in parts]) for name in Animals.__dataclass_fields__}
    return Animals(**{name: column[order] for name, column in columns.items()})


def _gather(seen: Sightings, score: FloatArray, animal: IntArray) -> Animals:
    count = int(animal.max(initial=-1)) + 1
    weight = 1.0 / (seen.own_sd**2 + seen.shared_sd**2 + 1e-12)
    total = np.bincount(animal, weight, count)
    place = np.stack([np.bincount(animal, weight * seen.xy[:, axis], count) for axis in (0, 1)], axis=-1)
    best, kind = np.zeros(count), np.zeros(count, np.int64)
    np.maximum.at(best, animal, score)
    kind[animal] = seen.species
    sightings = np.bincount(animal, minlength=count).astype(np.int64)
    return Animals(place / total[:, None], kind, sightings, best, np.full(count, -1, np.int64))


def _part(animals: Animals, kept: BoolArray) -> Animals:
    return Animals(
        animals.xy[kept], animals.species[kept], animals.sightings[kept], animals.score[kept], animals.unit[kept]
    )
