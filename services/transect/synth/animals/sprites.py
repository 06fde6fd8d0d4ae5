"""Animals from above, as small pictures with transparency, height and relief."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.synth.animals.species import SPECIES, Animal
from transect.synth.drawing.canvas import Sprite
from transect.synth.drawing.noise import Field, Kind, sample, smoothstep
from transect.synth.drawing.view import View

_DETAIL_PX = 110.0  # animals shorter than this are drawn larger and averaged down


@dataclass(frozen=True)
class _Plane:
    """Coordinates in body lengths: u forward, v to the left; `px` is one pixel in body lengths."""

    u: Field
    v: Field
    px: float
    matrix: NDArray[np.float64]
    """Pixel index to metres along u and v, for textures that stay on the body."""
    animal: Animal

    def texture(self, kind: Kind, texel_m: float, salt: int) -> Field:
        shape = (self.u.shape[0], self.u.shape[1])
        return sample(kind, self.matrix, shape, texel_m, offset=self.animal.seed % 9973 + 31.7 * salt)

    def capsule(
        self, start: tuple[float, float], end: tuple[float, float], r0: float, r1: float
    ) -> tuple[Field, Field]:
        """Signed distance to a segment with radii r0 and r1 at its ends, and the place along it (0..1)."""
        du, dv = end[0] - start[0], end[1] - start[1]
        pu, pv = self.u - np.float32(start[0]), self.v - np.float32(start[1])
        t = np.clip((pu * du + pv * dv) / max(du * du + dv * dv, 1e-9), 0.0, 1.0)
        distance = np.hypot(pu - t * du, pv - t * dv) - (r0 + (r1 - r0) * t)
        return distance.astype(np.float32), t.astype(np.float32)


def draw_sprite(animal: Animal, view: View) -> Sprite:
    """Draw one animal in `view`."""
    length_px = animal.length_m / view.gsd
    scale = int(np.clip(np.ceil(_DETAIL_PX / length_px), 1, 4))
    column, row = view.to_pixels(animal.x, animal.y)
    half = int(np.ceil(0.72 * length_px)) + 2
    left, top = int(np.floor(column)) - half, int(np.floor(row)) - half
    plane = _plane(animal, view, (column - left, row - top), 2 * half, scale)
    alpha, albedo, z, relief = _PAINTERS[animal.species](plane)
    sprite = Sprite(left=left, top=top, alpha=alpha, albedo=albedo, z=z, relief=relief)
    return sprite if scale == 1 else _averaged(sprite, 2 * half)


def _averaged(sprite: Sprite, side: int) -> Sprite:
    """The sprite at `side` pixels a side; colours and heights count as much as their alpha."""
    alpha = sprite.alpha[..., None]
    colours = cv2.resize(sprite.albedo * alpha, (side, side), interpolation=cv2.INTER_AREA)
    heights = np.dstack([sprite.z, sprite.relief, np.ones_like(sprite.z)]) * alpha
    z, relief, share = cv2.split(cv2.resize(heights, (side, side), interpolation=cv2.INTER_AREA))
    weight = np.float32(1.0) / np.maximum(share, np.float32(1e-3))
    return Sprite(
        left=sprite.left,
        top=sprite.top,
        alpha=np.asarray(share, dtype=np.float32),
        albedo=np.asarray(colours * weight[..., None], dtype=np.float32),
        z=np.asarray(z * weight, dtype=np.float32),
        relief=np.asarray(relief * weight, dtype=np.float32),
    )


def _plane(animal: Animal, view: View, centre: tuple[float, float], size: int, scale: int) -> _Plane:
    step = view.gsd / scale
    rows, columns = np.ogrid[0 : size * scale, 0 : size * scale]
    right = (columns + 0.5 - centre[0] * scale).astype(np.float32)
    up = (centre[1] * scale - rows - 0.5).astype(np.float32)
    turn = np.radians(animal.heading_deg - view.yaw_deg)
    sin, cos = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    unit = np.float32(step / animal.length_m)
    u: Field = ((right * sin + up * cos) * unit).astype(np.float32)
    v: Field = ((up * sin - right * cos) * unit).astype(np.float32)
    v -= (np.float32(animal.appearance.bend) * (u * u - 0.05)).astype(np.float32)
    origin = np.array([0.5 - centre[0] * scale, centre[1] * scale - 0.5]) * step
    matrix = np.array(
        [
            [step * sin, -step * cos, origin[0] * sin + origin[1] * cos],
            [-step * cos, -step * sin, origin[1] * sin - origin[0] * cos],
        ]
    )
    return _Plane(u, v, float(unit), matrix.astype(np.float64), animal)


def _trunk(plane: _Plane, centre: float, half_length: float, power: float, taper: float) -> tuple[Field, Field]:
    """Signed distance to an egg-shaped trunk, and its radius coordinate (0 at the spine, 1 at the outline)."""
    appearance = plane.animal.appearance
    half_width = SPECIES[plane.animal.species].half_width * appearance.width
    along = (plane.u - np.float32(centre)) / half_length
    across = plane.v / (half_width * (1.0 - taper * np.clip(along, -1.2, 1.2)))
    radius = (np.abs(along) ** power + np.abs(across) ** power) ** np.float32(1.0 / power)
    return ((radius - 1.0) * half_width).astype(np.float32), radius.astype(np.float32)


def _union(a: Field, b: Field, blend: float) -> Field:
    """Smooth minimum of two distances (the polynomial one of I. Quilez)."""
    h = np.clip(blend - np.abs(a - b), 0.0, None) / blend
    return np.asarray(np.minimum(a, b) - h * h * (blend * 0.25), dtype=np.float32)


def _cover(plane: _Plane, distance: Field) -> Field:
    return np.asarray(np.clip(0.5 - distance / plane.px, 0.0, 1.0), dtype=np.float32)


def _head_end(base: float, reach: float, turn: float) -> tuple[float, float]:
    return base + reach * float(np.cos(turn)), reach * float(np.sin(turn))


def _heights(plane: _Plane, trunk_radius: Field, distance: Field) -> tuple[Field, Field]:
    """Surface height and rounded relief."""
    animal = plane.animal
    kind = SPECIES[animal.species]
    back = kind.height_m * animal.length_m / kind.length_m * (0.6 if animal.appearance.lying else 1.0)
    dome = np.sqrt(np.clip(1.0 - trunk_radius * trunk_radius, 0.0, 1.0))
    inside = np.clip(-distance / 0.06, 0.0, 1.0)
    z = back * (0.35 + 0.65 * np.maximum(dome, 0.4 * inside))
    relief = animal.length_m * (kind.half_width * 0.55 * dome + 0.02 * inside)
    return z.astype(np.float32), relief.astype(np.float32)


def _mix(first: NDArray[np.float32], second: tuple[float, float, float], share: Field) -> NDArray[np.float32]:
    return np.asarray(first + (np.array(second, np.float32) - first) * share[..., None], dtype=np.float32)


def _fill(plane: _Plane, colour: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.broadcast_to(np.array(colour, np.float32), (*plane.u.shape, 3))


_Painted = tuple[Field, NDArray[np.float32], Field, Field]


def _sheep(plane: _Plane) -> _Painted:
    appearance, coat, length = plane.animal.appearance, plane.animal.appearance.coat, plane.animal.length_m
    trunk, radius = _trunk(plane, -0.09, 0.40, 2.35, 0.15)
    wool = plane.texture("mottle", 0.006 * length, 1)
    curls = plane.texture("grain", 0.009 * length, 2)
    trunk += np.float32(coat.shag) * (curls + 0.5 * wool)
    end = _head_end(0.24, 0.24 * appearance.head_reach, appearance.head_turn)
    head, along = plane.capsule((0.24, 0.0), end, 0.092, 0.038)
    ears = _ears(plane, (0.24, 0.0), end, appearance.head_turn, span=0.075, radius=0.017)
    tail, _ = plane.capsule((-0.46, 0.0), (-0.51, 0.01), 0.035, 0.025)
    body = _union(trunk, head, 0.05)
    distance = np.minimum(np.minimum(body, ears), tail)
    z, relief = _heights(plane, radius, distance)
    relief = relief + np.float32(0.004 * length) * curls
    wool_colour = _fill(plane, coat.colour)
    if coat.second_share > 0:
        patches = plane.texture("cloud", 0.012 * length, 3)
        share = smoothstep(-0.15, 0.15, patches + np.float32(4 * coat.second_share - 2))
        wool_colour = _mix(wool_colour, coat.second, share)
    shade = 1.0 + 0.10 * wool + 0.07 * curls - 0.25 * smoothstep(0.55, 1.05, radius)
    albedo = wool_colour * np.clip(shade, 0.35, 1.5)[..., None]
    face = smoothstep(0.30, 0.5, along) * (head < trunk)
    albedo = _mix(albedo, coat.face, np.maximum(face, (ears < body).astype(np.float32)))
    return _cover(plane, distance), albedo, z, relief


def _buffalo(plane: _Plane) -> _Painted:
    appearance, coat, length = plane.animal.appearance, plane.animal.appearance.coat, plane.animal.length_m
    trunk, radius = _trunk(plane, -0.11, 0.38, 2.6, 0.06)
    hide = plane.texture("mottle", 0.010 * length, 1)
    base = 0.22
    end = _head_end(base, 0.26 * appearance.head_reach, appearance.head_turn)
    head, _ = plane.capsule((base, 0.0), end, 0.105, 0.055)
    ears = _ears(plane, (base, 0.0), end, appearance.head_turn, span=0.10, radius=0.018)
    tail, _ = plane.capsule((-0.48, 0.0), (-0.54, 0.02), 0.016, 0.010)
    body = _union(trunk, head, 0.05)
    horns = _horns(plane, end, appearance.head_turn, base)
    distance = np.minimum(np.minimum(body, ears), np.minimum(tail, horns))
    z, relief = _heights(plane, radius, distance)
    dust = smoothstep(0.2, 1.6, plane.texture("cloud", 0.012 * length, 3) + np.float32(3 * coat.second_share - 0.8))
    albedo = _mix(_fill(plane, coat.colour), coat.second, dust * 0.8)
    spine = 1.0 + 0.5 * np.exp(-((plane.v / 0.03) ** 2)) * (radius < 1)
    albedo = albedo * np.clip((1.0 + 0.16 * hide) * spine, 0.4, 2.0)[..., None]
    albedo = _mix(albedo, coat.face, smoothstep(0.0, 0.06, trunk) * 0.8)
    albedo = _mix(albedo, (0.27, 0.24, 0.19), _cover(plane, horns))
    return _cover(plane, distance), albedo, z, relief


def _zebra(plane: _Plane) -> _Painted:
    appearance, coat, length = plane.animal.appearance, plane.animal.appearance.coat, plane.animal.length_m
    trunk, radius = _trunk(plane, -0.14, 0.345, 2.4, -0.02)
    base = 0.14
    poll = _head_end(base, 0.21 * appearance.head_reach, appearance.head_turn)
    nose = (
        poll[0] + 0.15 * float(np.cos(1.3 * appearance.head_turn)),
        poll[1] + 0.15 * float(np.sin(1.3 * appearance.head_turn)),
    )
    neck, along = plane.capsule((base, 0.0), poll, 0.078, 0.052)
    head, face_along = plane.capsule(poll, nose, 0.050, 0.030)
    ears = _ears(plane, poll, nose, appearance.head_turn, span=0.055, radius=0.014)
    tail, _ = plane.capsule((-0.47, 0.0), (-0.56, 0.015), 0.014, 0.016)
    body = _union(_union(trunk, neck, 0.05), head, 0.03)
    distance = np.minimum(np.minimum(body, ears), tail)
    z, relief = _heights(plane, radius, distance)
    # Stripes run across the back, lean backwards on the flanks and merge into the dark line of the spine.
    wobble = plane.texture("mottle", 0.012 * length, 1)
    phase = (plane.u + 0.25 * np.abs(plane.v)) / 0.088 + 0.22 * wobble
    wave = np.sin(2 * np.pi * phase)
    stripes = smoothstep(-0.35, 0.35, wave + np.float32(2.2 * (coat.second_share - 0.5)))
    stripes = np.maximum(stripes, 0.9 * np.exp(-((plane.v / 0.016) ** 2)) * (trunk < 0))
    albedo = _mix(_fill(plane, coat.colour), coat.second, stripes)
    muzzle = smoothstep(0.55, 0.85, face_along) * (head < neck)
    mane = np.exp(-((neck + 0.066) ** 2) / 0.02**2) * (along > 0.05) * (neck < trunk)
    albedo = _mix(albedo, coat.second, np.clip(muzzle + 0.6 * mane, 0, 1).astype(np.float32))
    albedo = _mix(albedo, coat.face, (ears < body).astype(np.float32) * 0.6)
    shade = 1.0 + 0.05 * wobble - 0.2 * smoothstep(0.6, 1.05, radius)
    return _cover(plane, distance), albedo * np.clip(shade, 0.4, 1.3)[..., None], z, relief


def _ears(
    plane: _Plane, poll: tuple[float, float], nose: tuple[float, float], turn: float, *, span: float, radius: float
) -> Field:
    """Distance to both ears, which stand out sideways and a little back, nearer to the poll than to the nose."""
    root = (poll[0] + 0.45 * (nose[0] - poll[0]), poll[1] + 0.45 * (nose[1] - poll[1]))
    sides = []
    for side in (-1.0, 1.0):
        angle = turn + side * (np.pi / 2 + 0.25)
        tip = (root[0] + 1.45 * span * float(np.cos(angle)), root[1] + 1.45 * span * float(np.sin(angle)))
        sides.append(plane.capsule(root, tip, radius, radius * 0.7)[0])
    return np.minimum(*sides)


def _horns(plane: _Plane, end: tuple[float, float], turn: float, base: float) -> Field:
    """Distance to the horns: out from the poll, back, and forward again at the tips."""
    poll = (base + 0.5 * (end[0] - base), 0.5 * end[1])
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    forward = (plane.u - np.float32(poll[0])) * cos + (plane.v - np.float32(poll[1])) * sin
    sideways = np.abs((plane.v - np.float32(poll[1])) * cos - (plane.u - np.float32(poll[0])) * sin)
    span = 0.20
    share = np.clip(sideways / span, 0.0, 1.0)
    curve = 0.02 - 0.075 * np.sin(np.pi * share * 0.8) + 0.085 * share**4
    thickness = 0.036 * (1.0 - 0.6 * share)
    beyond = np.clip(sideways - span, 0.0, None)
    return np.asarray(np.hypot(0.8 * (forward - curve), beyond) - thickness, dtype=np.float32)


_PAINTERS = (_sheep, _buffalo, _zebra)
