"""The sample survey's camera and flight: the true and the recorded pose of each frame."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from transect.synth.drawing.view import View


@dataclass(frozen=True)
class Camera:
    """A nadir camera."""

    make: str = "Transect"
    model: str = "Synthetic 20"
    sensor_width_mm: float = 13.2
    focal_mm: float = 8.8
    width: int = 1920
    height: int = 1440

    def gsd(self, height_m: float) -> float:
        """Ground sample distance, metres a pixel."""
        return self.sensor_width_mm * height_m / (self.focal_mm * self.width)

    def view(self, pose: "AircraftPose") -> View:
        """The view from a pose."""
        return View(
            x=pose.x, y=pose.y, gsd=self.gsd(pose.height_m), yaw_deg=pose.yaw_deg, width=self.width, height=self.height
        )


@dataclass(frozen=True)
class AircraftPose:
    """Metres east and north, metres above ground, degrees clockwise from north."""

    x: float
    y: float
    height_m: float
    yaw_deg: float


@dataclass(frozen=True)
class PositionNoise:
    """Standard deviations of the recorded poses."""

    gps_m: float = 0.5
    yaw_deg: float = 0.7
    height_m: float = 0.3


_WIND = PositionNoise(gps_m=1.0, yaw_deg=1.5, height_m=0.5)
"""Standard deviations of the aircraft's pose from its plan."""


@dataclass(frozen=True)
class Shot:
    """One frame of the flight."""

    name: str
    transect: str
    true: AircraftPose
    recorded: AircraftPose
    taken_at: datetime


@dataclass(frozen=True)
class Flight:
    """Parallel transects across a stratum from (0, 0) to (width_m east, height_m north)."""

    camera: Camera
    shots: tuple[Shot, ...]
    width_m: float
    height_m: float


SPEED_M_S = 12.0
BREAK_S = 1200.0

_SPACING_M = 375.0
_MARGIN_M = 4.0
_TURN_S = 40.0
_TICK_S = 0.1
_START = datetime(2025, 7, 15, 10, 0, 0)  # noqa: DTZ001  # cameras write local time without a zone


@dataclass(frozen=True)
class Route:
    """The parameters of the lines.

    overlap: share of a frame that the next one of its line shows again. side_overlap: share that the next line
    shows again, where lines then cover all of the stratum; without it they are 375 m apart, a sample. transects:
    lines; by default eight for 96 frames and as the square root of their number otherwise, at least two.
    speed_m_s: the aircraft's. passes: how often all lines are flown, with `break_s` seconds on the ground between.
    """

    height_m: float
    overlap: float
    side_overlap: float | None = None
    transects: int | None = None
    speed_m_s: float = SPEED_M_S
    passes: int = 1
    break_s: float = BREAK_S


def plan_flight(frames: int, seed: int, route: Route, *, camera: Camera, noise: PositionNoise | None = None) -> Flight:
    """Place `frames` frames along parallel lines, flown back and forth, and the same again for each further pass.

    The first pass of a line is the transect `T01`, its second `T01-2`. Photos are a tenth of a second apart or more.
    """
    noise = noise or PositionNoise()
    count = route.transects or max(2, round(8 * np.sqrt(frames / 96)))
    sizes = [frames // count + (1 if i < frames % count else 0) for i in range(count)]
    along, across = (camera.gsd(route.height_m) * side for side in (camera.height, camera.width))
    step = along * (1 - route.overlap)
    tall = (max(sizes) - 1) * step + along + 2 * _MARGIN_M
    first, spacing, wide = _lines(count, across, route.side_overlap)
    pause = timedelta(seconds=max(_TICK_S, round(step / route.speed_m_s, 1)))
    rng = np.random.default_rng((seed, 41))
    clock, shots = _START, []
    for number in range(1, route.passes + 1):
        for line, size in enumerate(sizes):
            transect = f"T{line + 1:02d}" + (f"-{number}" if number > 1 else "")
            for i in range(size):
                along_line = (tall - (size - 1) * step) / 2 + i * step
                north_bound = line % 2 == 0
                y, yaw = (along_line, 0.0) if north_bound else (tall - along_line, 180.0)
                true = _perturbed(rng, AircraftPose(first + line * spacing, y, route.height_m, yaw), _WIND)
                shots.append(Shot(f"{transect}_{i + 1:04d}", transect, true, _perturbed(rng, true, noise), clock))
                clock += pause
            clock += timedelta(seconds=_TURN_S)
        clock += timedelta(seconds=route.break_s)
    return Flight(camera, tuple(shots), wide, tall)


def _lines(count: int, across: float, side_overlap: float | None) -> tuple[float, float, float]:
    """The first line's place, the lines' spacing and the stratum's width, metres from its western border."""
    if side_overlap is None:
        return 0.5 * _SPACING_M, _SPACING_M, count * _SPACING_M
    spacing = across * (1 - side_overlap)
    return across / 2 + _MARGIN_M, spacing, (count - 1) * spacing + across + 2 * _MARGIN_M


def _perturbed(rng: np.random.Generator, pose: AircraftPose, noise: PositionNoise) -> AircraftPose:
    """A pose with normal errors by wind or instruments, clipped at 2.5 standard deviations."""
    east, north, up, turn = (float(v) for v in np.clip(rng.standard_normal(4), -2.5, 2.5))
    return replace(
        pose,
        x=pose.x + noise.gps_m * east,
        y=pose.y + noise.gps_m * north,
        height_m=pose.height_m + noise.height_m * up,
        yaw_deg=(pose.yaw_deg + noise.yaw_deg * turn) % 360.0,
    )
