"""A simulated survey with known truth, in memory and without images: a census's input after the photos are searched.

Parallel lines, each with a forward overlap of its own between 60 and 80%, flown to and fro over herds that walk. Every
animal in the view of a photo is found, at the box that the photo's true pose gives, cut at the photo's edge; the
recorded position and heading are off by normal errors.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from transect.arrays import FloatArray, IntArray
from transect.census.ground.geometry import Grid
from transect.census.ground.placement.frames import Frame, Placement
from transect.census.inputs.photos import LocalPhoto
from transect.census.inputs.survey import SurveySpec
from transect.census.sightings.found import FrameDetections

SPECIES = ("gazelle", "wildebeest", "zebra")
WIDTH, HEIGHT, GSD_M, ABOVE_M = 4000, 3000, 0.024, 80.0
# Of those that are drawn some stand too close to another, and are not kept.
BOXES_A_PHOTO, _KEPT = 10.0, 0.94
LEAST_OVERLAP, MOST_OVERLAP = 0.6, 0.8
GPS_ERROR_M, YAW_ERROR_DEG = 1.0, 2.0
_APART_M, _AIRCRAFT_M_S, _TURN_S = 500.0, 15.0, 30.0
_HERD, _WALK_M_S, _BODY_M = 12.0, 1.0, (2.4, 0.9)
# No closer do two animals of a herd stand; a box cut to less than this share of the animal is no longer found.
_ELBOW_M, _SHOWN = 1.5, 0.3
# Animals stand so far beside and before the photos too, to walk or lean into them.
_MARGIN_M = 12.0
_EPSG, _CORNER, _HEADING_DEG = 32736, (450_000.0, 9_800_000.0), 20.0
_NOON = datetime(2026, 2, 1, 12)  # noqa: DTZ001 - camera clocks have no zone


@dataclass(frozen=True)
class SimulatedSurvey:
    """A survey after the search: `frames`, the detections `found` in each, and `truth`, the animals in the photos."""

    spec: SurveySpec
    frames: tuple[Frame, ...]
    found: list[FrameDetections]
    truth: int

    @property
    def boxes(self) -> int:
        """Detections in all photos."""
        return sum(len(one.scores) for one in self.found)


@dataclass(frozen=True)
class _Lines:
    """The flight plan: `step` (m) and first second of each line, `photos` on each."""

    step: FloatArray
    start_s: FloatArray
    photos: int

    @property
    def length(self) -> FloatArray:
        """Metres from the first to the last photo of each line."""
        return np.asarray(self.step * (self.photos - 1), np.float64)


@dataclass(frozen=True)
class _Herds:
    """Animals, one row each: their line, place (m along and right of it) when flown by, m/s, heading, species."""

    line: IntArray
    place: FloatArray
    walk: FloatArray
    heading: FloatArray
    species: IntArray


def simulate_survey(photos: int, seed: int = 1) -> SimulatedSurvey:
    """A survey of about `photos` photos and ten times as many boxes; more photos give more and longer lines."""
    rng = np.random.default_rng(seed)
    count = max(round(math.sqrt(photos / 10)), 2)
    step = HEIGHT * GSD_M * (1 - rng.uniform(LEAST_OVERLAP, MOST_OVERLAP, count))
    each = max(math.ceil(photos / count), 2)
    took = step * (each - 1) / _AIRCRAFT_M_S + _TURN_S
    lines = _Lines(step, np.concatenate([[0.0], np.cumsum(took)[:-1]]), each)
    herds = _herds(lines, rng)
    # Along and right of the line, and degrees clockwise from it.
    true = np.stack(
        [np.tile(np.arange(each), count) * np.repeat(step, each), np.zeros(count * each)], axis=-1
    ) + rng.normal(0, 1, (count * each, 2))
    turned = rng.normal(0, 1.5, count * each)
    frame, animal, box, middle_shown = _photograph(lines, herds, true, turned)
    frames = _recorded(
        lines, true + rng.normal(0, GPS_ERROR_M, true.shape), turned + rng.normal(0, YAW_ERROR_DEG, len(true))
    )
    found = _found(frame, box, herds.species[animal], len(frames), rng)
    return SimulatedSurvey(_spec(lines), frames, found, len(np.unique(animal[middle_shown])))


def _herds(lines: _Lines, rng: np.random.Generator) -> _Herds:
    width, ahead = WIDTH * GSD_M / 2 + _MARGIN_M, HEIGHT * GSD_M / 2 + _MARGIN_M
    per_m2 = BOXES_A_PHOTO / _KEPT / (WIDTH * HEIGHT * GSD_M**2)
    herds = np.maximum((lines.length + 2 * ahead) * 2 * width * per_m2 / _HERD, 1).astype(np.int64)
    line = np.repeat(np.arange(len(herds)), herds)
    middle = np.stack([rng.uniform(-ahead, lines.length[line] + ahead), rng.uniform(-width, width, len(line))], axis=-1)
    size = 1 + rng.negative_binomial(1, 1 / _HERD, len(line))
    herd = np.repeat(np.arange(len(line)), size)
    place = middle[herd] + rng.normal(0, 1, (len(herd), 2)) * (3 * np.sqrt(size[herd]))[:, None]
    # The lines are kept apart for the search of neighbours alone.
    pairs = cKDTree(place + np.stack([0 * herd, line[herd] * 1e6], axis=-1)).query_pairs(
        _ELBOW_M, output_type="ndarray"
    )
    alone = np.ones(len(herd), bool)
    alone[pairs.max(axis=1, initial=0)] = False
    herd, place = herd[alone], place[alone]
    speed, towards = rng.uniform(0, _WALK_M_S, len(line)), rng.uniform(0, 2 * np.pi, len(line))
    walk = (speed * np.array([np.cos(towards), np.sin(towards)])).T
    species = rng.integers(0, len(SPECIES), len(line))
    return _Herds(line[herd], place, walk[herd], rng.uniform(0, np.pi, len(herd)), species[herd])


def _photograph(
    lines: _Lines, herds: _Herds, true: FloatArray, turned: FloatArray
) -> tuple[IntArray, IntArray, FloatArray, NDArray[np.bool_]]:
    """Frame, animal, box (n, 4) and whether the photo shows the animal's middle, of all boxes by frame."""
    reach = HEIGHT * GSD_M / 2 + _MARGIN_M
    first = np.ceil((herds.place[:, 0] - reach) / lines.step[herds.line]).astype(np.int64)
    most = int(2 * reach / lines.step.min()) + 1
    parts = []
    for number in range(most):
        photo = first + number
        animal = np.flatnonzero((photo >= 0) & (photo < lines.photos))
        frame = herds.line[animal] * lines.photos + photo[animal]
        since = (photo[animal] * lines.step[herds.line[animal]] - herds.place[animal, 0]) / _AIRCRAFT_M_S
        away = herds.place[animal] + herds.walk[animal] * since[:, None] - true[frame]
        turn = np.radians(turned[frame])
        ahead = away[:, 0] * np.cos(turn) + away[:, 1] * np.sin(turn)
        right = away[:, 1] * np.cos(turn) - away[:, 0] * np.sin(turn)
        middle = np.stack([WIDTH / 2 + right / GSD_M, HEIGHT / 2 - ahead / GSD_M], axis=-1)
        # Half the sides of the box around an ellipse that lies across the picture at this angle.
        angle, (long, broad) = herds.heading[animal] - turn, _BODY_M
        half = np.stack(
            [
                np.hypot(long * np.sin(angle), broad * np.cos(angle)),
                np.hypot(long * np.cos(angle), broad * np.sin(angle)),
            ],
            axis=-1,
        ) / (2 * GSD_M)
        box = np.clip(np.concatenate([middle - half, middle + half], axis=-1), 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        shown = np.prod(box[:, 2:] - box[:, :2], axis=1) > _SHOWN * np.prod(2 * half, axis=1)
        inside = np.all((middle >= 0) & (middle <= [WIDTH, HEIGHT]), axis=1)
        parts.append((frame[shown], animal[shown], box[shown], inside[shown]))
    frame, animal, box, inside = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((animal, frame))
    return frame[order], animal[order], box[order], inside[order]


def _recorded(lines: _Lines, place: FloatArray, turned: FloatArray) -> tuple[Frame, ...]:
    """The photos with the recorded metadata, in order of time."""
    grid = Grid(_EPSG)
    line = np.repeat(np.arange(len(lines.step)), lines.photos)
    photo = np.tile(np.arange(lines.photos), len(lines.step))
    # Every other line is flown back.
    forth = line % 2 == 0
    along = np.where(forth, place[:, 0], lines.length[line] - place[:, 0])
    right = np.where(forth, place[:, 1], -place[:, 1]) + line * _APART_M
    lonlat = grid.inverse(_on_grid(along, right))
    convergence, scale = grid.factors(lonlat[:, 0], lonlat[:, 1])
    yaw = _HEADING_DEG + np.where(forth, 0, 180) + turned + convergence
    seconds = lines.start_s[line] + photo * lines.step[line] / _AIRCRAFT_M_S
    return tuple(
        Frame(
            name=(name := f"L{row_line:04d}/{row_photo:05d}.jpg"),
            photo=LocalPhoto(Path(name)),
            transect=f"L{row_line:04d}",
            taken_at=_NOON + timedelta(seconds=round(second, 3)),
            width=WIDTH,
            height=HEIGHT,
            placement=Placement(
                latitude=lat, longitude=lon, height_m=ABOVE_M / local, yaw_deg=degrees % 360, gsd_m=GSD_M / local
            ),
        )
        for row_line, row_photo, second, lon, lat, local, degrees in zip(
            line.tolist(),
            photo.tolist(),
            seconds.tolist(),
            *lonlat.T.tolist(),
            scale.tolist(),
            yaw.tolist(),
            strict=True,
        )
    )


def _on_grid(along: FloatArray, right: FloatArray) -> FloatArray:
    turn = math.radians(_HEADING_DEG)
    east = along * math.sin(turn) + right * math.cos(turn)
    north = along * math.cos(turn) - right * math.sin(turn)
    return np.stack([_CORNER[0] + east, _CORNER[1] + north], axis=-1)


def _found(
    frame: IntArray, box: FloatArray, species: IntArray, frames: int, rng: np.random.Generator
) -> list[FrameDetections]:
    score = rng.uniform(0.3, 1, len(frame))
    ends = np.cumsum(np.bincount(frame, minlength=frames)).tolist()
    names = [SPECIES[number] for number in species.tolist()]
    return [
        FrameDetections(
            sha256="",
            width=WIDTH,
            height=HEIGHT,
            boxes=box[start:end].copy(),
            scores=score[start:end].copy(),
            classes=tuple(names[start:end]),
            tiles=1,
            truncated=False,
        )
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _spec(lines: _Lines) -> SurveySpec:
    """Two strata, whose common border crosses every line."""
    longest, last = float(lines.length.max()), (len(lines.step) - 1) * _APART_M
    border = float(lines.length.min()) / 2
    strata = []
    for name, near, far in (("near", -_APART_M, border), ("far", border, longest + _APART_M)):
        along = np.array([near, far, far, near])
        right = np.array([-_APART_M / 2, -_APART_M / 2, last + _APART_M / 2, last + _APART_M / 2])
        corners = Grid(_EPSG).inverse(_on_grid(along, right))
        strata.append({"name": name, "polygon": [tuple(corner) for corner in corners.tolist()]})
    return SurveySpec.model_validate({"name": "flown", "strata": strata})
