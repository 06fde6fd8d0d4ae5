"""The cover of the ground and its positions: bushes, trees, rocks, dead wood, dark patches."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from transect.synth.drawing.view import View
from transect.synth.land.ground import Colour

_CELL_M = 16.0


@dataclass(frozen=True)
class Cover:
    """The parameters of cover; densities are objects a hectare, lengths metres, colours linear RGB."""

    bushes: float = 0.0
    bush_radius: tuple[float, float] = (0.5, 1.6)
    bush_height: float = 1.0
    """Height of a plant over its radius."""
    clumped: float = 0.5
    """0: plants are spread evenly; 1: in thickets and clearings."""
    leaf: Colour = (0.06, 0.08, 0.04)
    leaf_other: Colour = (0.10, 0.11, 0.06)
    gloss: float = 0.3
    """Strength of the shine of single leaves."""
    leaf_m: float = 0.02
    """Texel of the leaves."""
    open_leaf: float = 0.3
    """0: closed crowns; 1: transparent ones."""
    roundness: float = 0.4
    """Share of a crown's height in the shading; 0 is flat."""
    ragged: float = 0.27
    """Deviation of the outline from a circle, in radii."""
    hollow: float = 0.65
    """Darkness between the leaves, 0..0.9."""
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
class CoverObject:
    """One object: centre, half length and a few random numbers of its own in 0..1."""

    kind: Thing
    x: float
    y: float
    size: float
    dice: tuple[float, float, float, float]


def place_cover(cover: Cover, view: View, seed: int, margin_m: float) -> list[CoverObject]:
    """All objects near `view`; the same ground gives the same objects in every view."""
    reach = view.radius_m + margin_m
    first_x, last_x = int(np.floor((view.x - reach) / _CELL_M)), int(np.floor((view.x + reach) / _CELL_M))
    first_y, last_y = int(np.floor((view.y - reach) / _CELL_M)), int(np.floor((view.y + reach) / _CELL_M))
    out: list[CoverObject] = []
    right, up = view.right, view.up
    half_w, half_h = view.width / 2 * view.gsd + margin_m, view.height / 2 * view.gsd + margin_m
    for cell_x in range(first_x, last_x + 1):
        for cell_y in range(first_y, last_y + 1):
            for thing in _cell(cover, cell_x, cell_y, seed):
                east, north = thing.x - view.x, thing.y - view.y
                across = east * right[0] + north * right[1]
                along = east * up[0] + north * up[1]
                if abs(across) < half_w + thing.size and abs(along) < half_h + thing.size:
                    out.append(thing)
    return out


def _cell(cover: Cover, cell_x: int, cell_y: int, seed: int) -> list[CoverObject]:
    rng = np.random.default_rng((seed, cell_x + (1 << 20), cell_y + (1 << 20)))
    hectares = _CELL_M * _CELL_M / 1e4
    thick = float(np.exp(rng.normal(0, cover.clumped) - cover.clumped**2 / 2))
    plan: tuple[tuple[Thing, float, tuple[float, float]], ...] = (
        ("bush", cover.bushes * thick, cover.bush_radius),
        ("rock", cover.rocks, (cover.rock_length[0] / 2, cover.rock_length[1] / 2)),
        ("log", cover.logs, (0.4, 2.6)),
        ("patch", cover.patches, (cover.patch_length[0] / 2, cover.patch_length[1] / 2)),
    )
    out: list[CoverObject] = []
    for kind, density, (small, large) in plan:
        count = int(rng.poisson(density * hectares))
        places = (np.array([cell_x, cell_y]) + rng.random((count, 2))) * _CELL_M
        sizes = small * (large / small) ** (rng.random(count) ** 1.3)
        dice = rng.random((count, 4))
        out += [
            CoverObject(kind, float(p[0]), float(p[1]), float(s), (float(d[0]), float(d[1]), float(d[2]), float(d[3])))
            for p, s, d in zip(places, sizes, dice, strict=True)
        ]
    return out
