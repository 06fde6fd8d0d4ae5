"""Perfect detections of a planned survey, without rendering its pictures."""

from dataclasses import dataclass

import numpy as np

from transect.arrays import FloatArray, IntArray
from transect.synth.animals.species import SPECIES
from transect.synth.plan import SurveyPlan


@dataclass(frozen=True, kw_only=True)
class PerfectSightings:
    """A row for each animal in each frame that shows its middle at the time of the frame, in order of frames.

    `frame` indexes the plan's `flight.shots`, which have the recorded poses, and `animal` its `scene.animals`.
    """

    frame: IntArray
    animal: IntArray
    species: IntArray
    """Class number, as in SPECIES."""
    middle_px: FloatArray
    """(n, 2) column and row of the animal's middle, where pixel i covers [i, i + 1)."""
    box_px: FloatArray
    """(n, 4) x1, y1, x2, y2 around its body, cut at the border of the picture."""
    seconds: FloatArray
    """When each frame (not each row) was taken, after the first one."""

    def photographed(self) -> IntArray:
        """The animals that are in at least one frame, each once, in their order."""
        return np.unique(self.animal)


def perfect_sightings(plan: SurveyPlan) -> PerfectSightings:
    """All animals of all frames of a plan.

    The box is that of an ellipse of the body's length, width and heading, which is within a few pixels of a rendered
    picture's.
    """
    half_length, half_width, species = _bodies(plan)
    seconds = np.array([plan.seconds(shot) for shot in plan.flight.shots])
    frames, found, middles, halves = [], [], [], []
    camera = plan.flight.camera
    for number, shot in enumerate(plan.flight.shots):
        view = camera.view(shot.true)
        x, y, heading = plan.tracks.at(float(seconds[number]))
        column, row = view.to_pixels(x, y)
        here = np.flatnonzero((column >= 0) & (column < view.width) & (row >= 0) & (row < view.height))
        turn = np.radians(heading[here] - view.yaw_deg)
        long, wide = half_length[here] / view.gsd, half_width[here] / view.gsd
        sin, cos = np.sin(turn), np.cos(turn)
        frames.append(np.full(here.size, number, dtype=np.int64))
        found.append(here.astype(np.int64))
        middles.append(np.stack([column[here], row[here]], axis=1))
        halves.append(np.stack([np.hypot(long * sin, wide * cos), np.hypot(long * cos, wide * sin)], axis=1))
    animal, middle, half = np.concatenate(found), np.concatenate(middles), np.concatenate(halves)
    size = np.array([camera.width, camera.height], dtype=np.float64)
    box = np.hstack([np.maximum(middle - half, 0), np.minimum(middle + half, size)])
    return PerfectSightings(
        frame=np.concatenate(frames),
        animal=animal,
        species=species[animal],
        middle_px=middle,
        box_px=box,
        seconds=seconds,
    )


def boxes_by_photo(plan: SurveyPlan) -> dict[str, tuple[FloatArray, tuple[str, ...]]]:
    """By a photo's name in the survey, the boxes (n, 4) of the animals in it, and their species."""
    found = perfect_sightings(plan)
    order = np.searchsorted(found.frame, np.arange(len(plan.flight.shots) + 1))
    return {
        f"{shot.transect}/{shot.name}.jpg": (
            found.box_px[low:high],
            tuple(SPECIES[number].name for number in found.species[low:high].tolist()),
        )
        for shot, low, high in zip(plan.flight.shots, order[:-1].tolist(), order[1:].tolist(), strict=True)
    }


def _bodies(plan: SurveyPlan) -> tuple[FloatArray, FloatArray, IntArray]:
    """Half length and half width in metres and the class number of each animal."""
    animals = plan.scene.animals
    length = np.array([animal.length_m for animal in animals], dtype=np.float64)
    width = np.array(
        [SPECIES[animal.species].half_width * animal.appearance.width for animal in animals], dtype=np.float64
    )
    return length / 2, length * width, np.array([animal.species for animal in animals], dtype=np.int64)
