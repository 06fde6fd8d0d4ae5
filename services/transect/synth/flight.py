"""The sample survey's camera and flight: where each frame was taken, and what the drone wrote down."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from .view import View


@dataclass(frozen=True)
class Camera:
    """A camera that looks straight down."""

    make: str = "Transect"
    model: str = "Synthetic 20"
    sensor_width_mm: float = 13.2
    focal_mm: float = 8.8
    width: int = 1920
    height: int = 1440

    def gsd(self, height_m: float) -> float:
        """Ground sample distance, metres a pixel."""
        return self.sensor_width_mm * height_m / (self.focal_mm * self.width)

    def view(self, pose: "Pose") -> View:
        """What the camera sees from a pose."""
        return View(pose.x, pose.y, self.gsd(pose.height_m), pose.yaw_deg, self.width, self.height)


@dataclass(frozen=True)
class Pose:
    """Metres east and north, metres above ground, degrees clockwise from north."""

    x: float
    y: float
    height_m: float
    yaw_deg: float


@dataclass(frozen=True)
class PositionNoise:
    """Standard deviations of what the drone writes down against the truth."""

    gps_m: float = 0.5
    yaw_deg: float = 0.7
    height_m: float = 0.3


@dataclass(frozen=True)
class Shot:
    """One frame of the flight."""

    name: str
    transect: str
    true: Pose
    recorded: Pose
    taken_at: datetime


@dataclass(frozen=True)
class Flight:
    """Parallel transects across a stratum that reaches from (0, 0) to (width_m east, height_m north)."""

    camera: Camera
    shots: tuple[Shot, ...]
    width_m: float
    height_m: float


_SPACING_M = 375.0
_MARGIN_M = 4.0
_SPEED_M_S = 12.0
_TURN_S = 40.0
_START = datetime(2025, 7, 15, 10, 0, 0)  # noqa: DTZ001  # cameras write local time without a zone


def plan_flight(
    frames: int,
    seed: int,
    *,
    camera: Camera,
    height_m: float,
    overlap: float,
    transects: int | None = None,
    noise: PositionNoise | None = None,
) -> Flight:
    """Lay `frames` frames along parallel transects, flown back and forth.

    overlap: share of a frame that the next one of its transect shows again. transects: how many;
    by default eight for 96 frames and as the square root of their number otherwise, at least two.
    """
    noise = noise or PositionNoise()
    count = transects or max(2, round(8 * np.sqrt(frames / 96)))
    sizes = [frames // count + (1 if i < frames % count else 0) for i in range(count)]
    along = camera.gsd(height_m) * camera.height
    step = along * (1 - overlap)
    tall = (max(sizes) - 1) * step + along + 2 * _MARGIN_M
    rng = np.random.default_rng((seed, 41))
    clock, shots = _START, []
    for line, size in enumerate(sizes):
        transect = f"T{line + 1:02d}"
        x = (line + 0.5) * _SPACING_M
        length = (size - 1) * step
        for i in range(size):
            along_line = (tall - length) / 2 + i * step
            north_bound = line % 2 == 0
            plan = Pose(x, along_line if north_bound else tall - along_line, height_m, 0.0 if north_bound else 180.0)
            true = _shaken(rng, plan, PositionNoise(1.0, 1.5, 0.5))
            shots.append(Shot(f"{transect}_{i + 1:04d}", transect, true, _shaken(rng, true, noise), clock))
            clock += timedelta(seconds=round(step / _SPEED_M_S, 1))
        clock += timedelta(seconds=_TURN_S)
    return Flight(camera, tuple(shots), count * _SPACING_M, tall)


def _shaken(rng: np.random.Generator, pose: Pose, noise: PositionNoise) -> Pose:
    """A pose off by wind or by the errors of instruments; gusts beyond 2.5 deviations do not happen."""
    east, north, up, turn = (float(v) for v in np.clip(rng.standard_normal(4), -2.5, 2.5))
    return replace(
        pose,
        x=pose.x + noise.gps_m * east,
        y=pose.y + noise.gps_m * north,
        height_m=pose.height_m + noise.height_m * up,
        yaw_deg=(pose.yaw_deg + noise.yaw_deg * turn) % 360.0,
    )
