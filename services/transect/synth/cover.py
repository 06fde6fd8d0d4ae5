"""What stands and lies on the ground besides animals: bushes, trees, rocks, dead wood, dark patches."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .ground import Colour
from .noise import Field, sample, smoothstep, texel_for
from .view import View

_CELL_M = 16.0


@dataclass(frozen=True)
class Cover:
    """A recipe; densities are objects a hectare, lengths metres, colours linear RGB."""

    bushes: float = 0.0
    bush_radius: tuple[float, float] = (0.5, 1.6)
    bush_height: float = 1.0
    """Height of a plant over its radius."""
    clumped: float = 0.5
    """0: plants are spread evenly; 1: in thickets and clearings."""
    leaf: Colour = (0.06, 0.08, 0.04)
    leaf_other: Colour = (0.10, 0.11, 0.06)
    gloss: float = 0.3
    """How strongly single leaves shine."""
    leaf_m: float = 0.02
    """Texel of the leaves."""
    open_leaf: float = 0.3
    """0: closed crowns; 1: one sees through."""
    rocks: float = 0.0
    rock_length: tuple[float, float] = (0.3, 1.6)
    rock: Colour = (0.35, 0.33, 0.31)
    logs: float = 0.0
    log: Colour = (0.45, 0.42, 0.38)
    patches: float = 0.0
    """Dung, mud, bare or burnt soil, tussocks: flat."""
    patch_length: tuple[float, float] = (0.3, 1.8)
    patch: Colour = (0.05, 0.04, 0.03)


Thing = Literal["bush", "rock", "log", "patch"]
_KINDS: tuple[Thing, ...] = ("bush", "rock", "log", "patch")


@dataclass(frozen=True)
class Placed:
    """One object: centre, half length and a few random numbers of its own in 0..1."""

    kind: Thing
    x: float
    y: float
    size: float
    dice: tuple[float, float, float, float]


def place_cover(cover: Cover, view: View, seed: int, margin_m: float) -> list[Placed]:
    """All objects near `view`; the same ground gives the same objects whatever the view."""
    reach = view.radius_m + margin_m
    first_x, last_x = int(np.floor((view.x - reach) / _CELL_M)), int(np.floor((view.x + reach) / _CELL_M))
    first_y, last_y = int(np.floor((view.y - reach) / _CELL_M)), int(np.floor((view.y + reach) / _CELL_M))
    out: list[Placed] = []
    half_w, half_h = view.width / 2 * view.gsd + margin_m, view.height / 2 * view.gsd + margin_m
    for cell_x in range(first_x, last_x + 1):
        for cell_y in range(first_y, last_y + 1):
            for thing in _cell(cover, cell_x, cell_y, seed):
                east, north = thing.x - view.x, thing.y - view.y
                across = east * view.right[0] + north * view.right[1]
                along = east * view.up[0] + north * view.up[1]
                if abs(across) < half_w + thing.size and abs(along) < half_h + thing.size:
                    out.append(thing)
    return out


def _cell(cover: Cover, cell_x: int, cell_y: int, seed: int) -> list[Placed]:
    rng = np.random.default_rng((seed, cell_x + (1 << 20), cell_y + (1 << 20)))
    hectares = _CELL_M * _CELL_M / 1e4
    thick = float(np.exp(rng.normal(0, cover.clumped) - cover.clumped**2 / 2))
    plan: tuple[tuple[Thing, float, tuple[float, float]], ...] = (
        ("bush", cover.bushes * thick, cover.bush_radius),
        ("rock", cover.rocks, (cover.rock_length[0] / 2, cover.rock_length[1] / 2)),
        ("log", cover.logs, (0.4, 2.6)),
        ("patch", cover.patches, (cover.patch_length[0] / 2, cover.patch_length[1] / 2)),
    )
    out: list[Placed] = []
    for kind, density, (small, large) in plan:
        count = int(rng.poisson(density * hectares))
        places = (np.array([cell_x, cell_y]) + rng.random((count, 2))) * _CELL_M
        sizes = small * (large / small) ** (rng.random(count) ** 1.3)
        dice = rng.random((count, 4))
        out += [
            Placed(kind, float(p[0]), float(p[1]), float(s), (float(d[0]), float(d[1]), float(d[2]), float(d[3])))
            for p, s, d in zip(places, sizes, dice, strict=True)
        ]
    return out


@dataclass
class Canvas:
    """The picture while it is painted, one value (albedo: three) a pixel."""

    albedo: NDArray[np.float32]
    z: Field
    """Height of the surface above the ground, metres."""
    relief: Field
    """Rounded heights without cliffs, metres."""

    def lay(
        self, left: int, top: int, alpha: Field, albedo: NDArray[np.float32], z: Field, relief: Field
    ) -> Field | None:
        """Lay a patch over the canvas; return its alpha where it meets the canvas, or None outside."""
        rows, columns = self.z.shape
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + alpha.shape[0], rows), min(left + alpha.shape[1], columns)
        if y0 >= y1 or x0 >= x1:
            return None
        inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        outer = (slice(y0, y1), slice(x0, x1))
        a = alpha[inner]
        self.albedo[outer] += (albedo[inner] - self.albedo[outer]) * a[..., None]
        self.z[outer] += (z[inner] - self.z[outer]) * a
        self.relief[outer] += (relief[inner] - self.relief[outer]) * a
        return a


def lay_low(cover: Cover, things: list[Placed], canvas: Canvas, view: View) -> None:
    """Paint rocks, dead wood and patches: what animals stand on."""
    for kind in ("patch", "log", "rock"):
        for thing in things:
            if thing.kind == kind:
                _LOW[kind](cover, thing, canvas, view)


def _outline(
    thing: Placed, view: View, points: int, rough: float, slim: float
) -> tuple[Field, int, int, NDArray[np.float64]]:
    """Soft mask of an irregular polygon, its top left pixel, and a matrix from its pixels to metres."""
    rng = np.random.default_rng(int(thing.dice[0] * 1e9))
    column, row = view.to_pixels(thing.x, thing.y)
    radius = thing.size / view.gsd
    half = int(np.ceil(1.35 * radius)) + 2
    left, top = int(np.floor(column)) - half, int(np.floor(row)) - half
    around = np.sort(rng.random(points)) * 2 * np.pi
    spread = 1.0 + rough * rng.uniform(-1, 1, points)
    shape = np.stack([np.cos(around) * spread, np.sin(around) * spread * slim], 1) * radius
    turn = thing.dice[1] * 2 * np.pi - np.radians(view.yaw_deg)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    polygon = (shape @ spin + (column - left, row - top)) * 16
    mask = np.zeros((2 * half, 2 * half), np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32)], 255, cv2.LINE_AA, 4)
    matrix = view.matrix() @ np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1]])
    return mask.astype(np.float32) / 255, left, top, matrix


def _rock(cover: Cover, thing: Placed, canvas: Canvas, view: View) -> None:
    mask, left, top, matrix = _outline(thing, view, 11, 0.22, 0.45 + 0.5 * thing.dice[2])
    worn = cv2.GaussianBlur(mask, (0, 0), max(thing.size / view.gsd * (0.04 + 0.12 * thing.dice[1]), 0.5))
    ragged = sample("mottle", matrix, mask.shape, texel_for(0.5 * view.gsd, thing.size * 0.02), thing.dice[3] * 733)
    mask = smoothstep(0.3, 0.7, worn + 0.06 * ragged)
    inside = cv2.GaussianBlur(mask, (0, 0), max(thing.size / view.gsd * 0.16, 0.5))
    facets = sample("cloud", matrix, mask.shape, thing.size * 0.02, thing.dice[3] * 997)
    lichen = sample("mottle", matrix, mask.shape, texel_for(view.gsd, 0.008), thing.dice[3] * 499)
    colour = np.array(cover.rock, np.float32) * np.float32(0.55 + 0.8 * thing.dice[3])
    shade = np.clip(1 + 0.22 * lichen + 0.22 * facets, 0.25, 1.7)
    z = thing.size * (0.35 + 0.5 * thing.dice[2]) * inside
    relief = thing.size * 0.45 * (inside + 0.14 * facets + 0.05 * lichen)
    canvas.lay(left, top, mask, (colour * shade[..., None]).astype(np.float32), z, relief.astype(np.float32))


def _patch(cover: Cover, thing: Placed, canvas: Canvas, view: View) -> None:
    mask, left, top, matrix = _outline(thing, view, 8, 0.4, 0.35 + 0.6 * thing.dice[2])
    soft = cv2.GaussianBlur(mask, (0, 0), max(thing.size / view.gsd * 0.22, 0.5))
    ragged = sample("mottle", matrix, mask.shape, texel_for(view.gsd, 0.02), thing.dice[3] * 997)
    alpha = smoothstep(0.35, 0.7, soft + 0.14 * ragged) * np.float32(0.5 + 0.5 * thing.dice[1])
    colour = np.array(cover.patch, np.float32) * np.float32(0.5 + thing.dice[3])
    shade = np.clip(1 + 0.25 * ragged, 0.3, 1.8)
    flat = np.zeros_like(mask)
    canvas.lay(left, top, alpha, (colour * shade[..., None]).astype(np.float32), flat, 0.02 * ragged)


def _log(cover: Cover, thing: Placed, canvas: Canvas, view: View) -> None:
    rng = np.random.default_rng(int(thing.dice[0] * 1e9))
    column, row = view.to_pixels(thing.x, thing.y)
    radius = thing.size / view.gsd
    half = int(np.ceil(1.1 * radius)) + 3
    left, top = int(np.floor(column)) - half, int(np.floor(row)) - half
    mask = np.zeros((2 * half, 2 * half), np.uint8)
    turn = thing.dice[1] * np.pi - np.radians(view.yaw_deg)
    along = np.linspace(-1, 1, 6)
    bow = rng.normal(0, 0.06, 6).cumsum()
    spine = np.stack([along * np.cos(turn) - bow * np.sin(turn), along * np.sin(turn) + bow * np.cos(turn)], 1) * radius
    spine = spine + (column - left, row - top)
    girth = (0.05 + 0.13 * thing.dice[2]) / view.gsd
    for i in range(5):
        thick = max(1, round(girth * (1.25 - 0.22 * i)))
        cv2.line(mask, _fixed(spine[i]), _fixed(spine[i + 1]), 255, thick, cv2.LINE_AA, 4)
    for _ in range(int(thing.dice[3] * 4)):  # branches
        foot = spine[rng.integers(1, 5)]
        angle = turn + rng.choice((-1, 1)) * rng.uniform(0.4, 1.2)
        tip = foot + np.array([np.cos(angle), np.sin(angle)]) * radius * rng.uniform(0.2, 0.45)
        cv2.line(mask, _fixed(foot), _fixed(tip), 220, max(1, round(girth * 0.35)), cv2.LINE_AA, 4)
    alpha = mask.astype(np.float32) / 255
    matrix = view.matrix() @ np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1]])
    bark = sample("mottle", matrix, mask.shape, texel_for(view.gsd, 0.01), thing.dice[3] * 997)
    colour = np.array(cover.log, np.float32) * np.float32(0.4 + 0.9 * thing.dice[3])
    round_ = cv2.GaussianBlur(alpha, (0, 0), max(girth * 0.3, 0.5))
    albedo = colour * np.clip(1 + 0.25 * bark, 0.3, 1.6)[..., None]
    canvas.lay(left, top, alpha, albedo.astype(np.float32), 0.22 * alpha, 0.12 * round_)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    return int(point[0] * 16), int(point[1] * 16)


_LOW = {"rock": _rock, "patch": _patch, "log": _log}


def lay_canopy(cover: Cover, things: list[Placed], canvas: Canvas, view: View, seed: int) -> Field:
    """Paint bushes and trees over everything; return how much of the view they hide, 0..1 a pixel."""
    bushes = [thing for thing in things if thing.kind == "bush"]
    shape = canvas.z.shape
    if not bushes:
        return np.zeros(shape, np.float32)
    matrix = view.matrix()
    mean = float(np.sqrt(cover.bush_radius[0] * cover.bush_radius[1]))
    lobes = sample("cloud", matrix, shape, texel_for(view.gsd * 0.2, mean * 0.03), seed + 0.11)
    clumps = sample("grain", matrix, shape, texel_for(view.gsd * 0.5, mean * 0.025), seed + 0.12)
    dome, depth, tint = _domes(bushes, cover, view, shape, 0.6 * lobes + 0.5 * clumps)
    leaf_texel = texel_for(view.gsd * 0.3, cover.leaf_m)
    leaves = sample("grain", matrix, shape, leaf_texel, seed + 0.13)
    twigs = sample("fleck", matrix, shape, texel_for(view.gsd * 0.7, leaf_texel * 0.8), seed + 0.14)
    texture = 0.55 * leaves + 0.40 * clumps + 0.35 * twigs
    alpha = smoothstep(-0.12, 0.12, depth - np.float32(0.06) + np.float32(0.10 + 0.20 * cover.open_leaf) * texture)
    alpha = alpha * (depth > 0)
    leaf, other = np.array(cover.leaf, np.float32), np.array(cover.leaf_other, np.float32)
    colour = leaf + (other - leaf) * np.clip(tint + 0.25 * lobes, 0, 1)[..., None]
    # Between the leaves one looks into the dark of the crown.
    hollow = 0.35 + 0.95 * smoothstep(-1.3, 0.9, texture + np.float32(0.8) * depth)
    colour = colour * (hollow * (1 + 0.15 * leaves).clip(0.5, 1.6))[..., None]
    shine = np.float32(cover.gloss) * smoothstep(0.3, 1.8, leaves + 0.5 * twigs)
    colour += shine[..., None] * np.float32(0.30)
    z = dome + np.float32(0.05 * mean) * clumps
    relief = np.float32(0.40) * dome + np.float32(0.04 * mean) * clumps + np.float32(0.5 * leaf_texel) * leaves
    canvas.albedo += (colour - canvas.albedo) * alpha[..., None]
    canvas.z += (np.maximum(z, 0.05) - canvas.z) * alpha
    canvas.relief += (relief - canvas.relief) * alpha
    return np.asarray(alpha, dtype=np.float32)


def _domes(
    bushes: list[Placed], cover: Cover, view: View, shape: tuple[int, ...], lobes: Field
) -> tuple[Field, Field, Field]:
    """Height of the crowns (m), depth inside their outline (0..1), and a colour number (0..1) a pixel."""
    dome = np.zeros(shape, np.float32)
    depth = np.full(shape, -1.0, np.float32)
    tint = np.zeros(shape, np.float32)
    for bush in bushes:
        column, row = view.to_pixels(bush.x, bush.y)
        radius = bush.size / view.gsd
        reach = 1.5 * radius + 1
        y0, y1 = max(int(row - reach), 0), min(int(row + reach) + 1, shape[0])
        x0, x1 = max(int(column - reach), 0), min(int(column + reach) + 1, shape[1])
        if y0 >= y1 or x0 >= x1:
            continue
        part = (slice(y0, y1), slice(x0, x1))
        dy = ((np.arange(y0, y1, dtype=np.float32) + 0.5 - row) / radius) ** 2
        dx = ((np.arange(x0, x1, dtype=np.float32) + 0.5 - column) / radius) ** 2
        inside = 1.0 - np.sqrt(dy[:, None] + dx[None, :]) + np.float32(0.27) * lobes[part]
        height = np.float32(bush.size * cover.bush_height * (0.7 + 0.6 * bush.dice[1]))
        h = height * np.sqrt(np.clip(inside * (2.0 - inside), 0.0, 1.0))
        higher = (inside > 0) & (h > dome[part])
        np.copyto(dome[part], h, where=higher)
        np.copyto(depth[part], inside, where=higher | (inside > depth[part]) & (dome[part] == 0))
        np.copyto(tint[part], np.float32(bush.dice[2]), where=higher)
    return dome, depth, tint
