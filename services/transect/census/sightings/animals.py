"""Unique animals: which boxes show the same animal, and its position."""

from dataclasses import dataclass

import numpy as np

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.inputs.config import CensusConfig
from transect.census.sightings.matching import Matching, Sightings, unique_animals
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import Observations
from transect.census.sightings.pose_errors import GroundDetections, PoseErrors, pose_errors


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
    rows = np.flatnonzero(observations.placed & observations.inside)
    boxes = _ground_detections(observations, footprints, rows)
    matching = Matching(config.match_sigmas, config.time_window_s, config.animal_speed_m_s)
    errors = pose_errors(
        boxes, matching, gps_m=config.gps_error_m, yaw_deg=config.yaw_error_deg, height_m=config.height_error_m
    )
    seen = boxes.sightings(errors)
    if config.counting == "division_line":
        own = footprints.at(boxes.xy, boxes.frame).nearest == boxes.frame
        rows, seen = rows[own], boxes.part(np.flatnonzero(own)).sightings(errors)
        animal = np.arange(len(rows))
    else:
        animal = unique_animals(seen, matching)
    animals = _gather(seen, observations.score[rows], animal)
    kept = np.ones(len(animals.species), bool)
    if config.counting == "matching":
        last = np.zeros(len(kept), np.int64)
        last[animal] = seen.frame
        kept = footprints.at(animals.xy, last).own_pass
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    animal_of = np.full(len(observations), -1, np.int64)
    animal_of[rows] = number[animal]
    return UniqueCount(animal_of, _part(animals, kept), int((~kept).sum()), errors)


def _ground_detections(seen: Observations, footprints: FootprintIndex, rows: IntArray) -> GroundDetections:
    frame = seen.frame[rows]
    return GroundDetections(
        xy=seen.xy[rows],
        species=seen.species[rows],
        frame=frame,
        seconds=footprints.seconds[frame],
        yaw_arm_m=seen.yaw_arm_m[rows],
        height_arm=seen.height_arm[rows],
        reported_sd_m=seen.reported_sd_m[rows],
        box_sd=seen.box_sd[rows],
    )


def _gather(seen: Sightings, score: FloatArray, animal: IntArray) -> Animals:
    count = int(animal.max(initial=-1)) + 1
    weight = 1.0 / (seen.own_sd**2 + seen.shared_sd**2 + 1e-12)
    total = np.bincount(animal, weight, count)
    place = np.stack([np.bincount(animal, weight * seen.xy[:, axis], count) for axis in (0, 1)], axis=-1)
    best, kind = np.zeros(count), np.zeros(count, np.int64)
    np.maximum.at(best, animal, score)
    kind[animal] = seen.species
    sightings = np.bincount(animal, minlength=count).astype(np.int64)
    # An empty survey has no weights to divide by.
    middle = place / total[:, None] if count else np.empty((0, 2))
    return Animals(middle, kind, sightings, best, np.full(count, -1, np.int64))


def _part(animals: Animals, kept: BoolArray) -> Animals:
    return Animals(
        animals.xy[kept], animals.species[kept], animals.sightings[kept], animals.score[kept], animals.unit[kept]
    )
