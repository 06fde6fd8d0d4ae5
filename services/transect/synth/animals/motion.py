"""Motion of animals: each straight at its own speed, reflected at the border of the stratum."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from transect.arrays import FloatArray
from transect.synth.animals.species import Animal

_GRAZING_HERDS = 0.25
"""Share of the herds that stand."""
_STRAY_DEG = 15.0
_STRAY_SPEED = 0.15


def with_velocities(rng: np.random.Generator, herd: Sequence[Animal], fastest_m_s: float) -> list[Animal]:
    """The herd with velocities: a common heading and speed (0 to `fastest_m_s`), and a deviation for each animal.

    A quarter of the herds stand, and so does every lying animal. Walking animals face ahead.
    """
    ahead, speed = rng.uniform(0, 360), rng.uniform(0, fastest_m_s)
    if rng.random() < _GRAZING_HERDS:
        return list(herd)
    return [
        animal if animal.appearance.lying else _with_velocity(rng, animal, ahead, speed, fastest_m_s) for animal in herd
    ]


def _with_velocity(rng: np.random.Generator, animal: Animal, ahead: float, speed: float, fastest_m_s: float) -> Animal:
    heading = float((ahead + rng.normal(0, _STRAY_DEG)) % 360.0)
    own = float(np.clip(speed * rng.normal(1, _STRAY_SPEED), 0, fastest_m_s))
    velocity = (own * float(np.sin(np.radians(heading))), own * float(np.cos(np.radians(heading))))
    return replace(animal, heading_deg=heading, velocity=velocity)


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """The animals' trajectories in a stratum; the arrays have a value for each animal."""

    x: FloatArray
    """Metres east at second 0; `y` is metres north."""
    y: FloatArray
    heading_deg: FloatArray
    vx: FloatArray
    """Metres a second east at second 0; `vy` is north."""
    vy: FloatArray
    room: tuple[float, float]
    """The stratum's width and height, metres."""
    edge: FloatArray
    """Metres that an animal's middle keeps from the border: half of its length."""

    @classmethod
    def of(cls, animals: Sequence[Animal], width_m: float, height_m: float) -> "Tracks":
        """The tracks of animals that start inside the rectangle from (0, 0) to (width_m, height_m)."""
        rows = [(a.x, a.y, a.heading_deg, *a.velocity, a.length_m / 2) for a in animals]
        x, y, heading, vx, vy, edge = np.array(rows, dtype=np.float64).reshape(-1, 6).T.copy()
        return cls(x=x, y=y, heading_deg=heading, vx=vx, vy=vy, room=(width_m, height_m), edge=edge)

    def at(self, seconds: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """East and north in metres and the heading in degrees; a standing animal's values are bit-equal."""
        x, vx = _reflected(self.x, self.vx, seconds, self.edge, self.room[0])
        y, vy = _reflected(self.y, self.vy, seconds, self.edge, self.room[1])
        turned = (vx != self.vx) | (vy != self.vy)
        heading = np.where(turned, np.degrees(np.arctan2(vx, vy)) % 360.0, self.heading_deg)
        return x, y, heading


def animals_at(animals: Sequence[Animal], tracks: Tracks, seconds: float) -> tuple[Animal, ...]:
    """The animals of `tracks` at their positions at a time; a standing animal is the same object."""
    x, y, heading = (values.tolist() for values in tracks.at(seconds))
    return tuple(
        replace(animal, x=x[i], y=y[i], heading_deg=heading[i]) if animal.velocity != (0.0, 0.0) else animal
        for i, animal in enumerate(animals)
    )


def _reflected(
    start: FloatArray, speed: FloatArray, seconds: float, edge: FloatArray, room: float
) -> tuple[FloatArray, FloatArray]:
    """Coordinate and speed of a straight motion that is reflected at `edge` and at `room - edge`.

    The path is unfolded: every second of its mirror images runs backwards.
    """
    free = room - 2 * edge
    along = (start - edge + speed * seconds) % (2 * free)
    back = along > free
    place = edge + np.where(back, 2 * free - along, along)
    still = speed == 0
    return np.where(still, start, place), np.where(back & ~still, -speed, speed)
