"""The ground: soil, grass, mud, sand and snow, painted from textures in world coordinates."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.synth.drawing.noise import Field, sample, smoothstep
from transect.synth.drawing.view import View

Colour = tuple[float, float, float]
"""Linear RGB, 0..1."""


def rgb(red: float, green: float, blue: float) -> Colour:
    """Linear colour of an sRGB one (0..255), by the power 2.2."""
    return (red / 255) ** 2.2, (green / 255) ** 2.2, (blue / 255) ** 2.2


def luminance(colour: Colour) -> float:
    """Relative luminance of a linear colour (ITU-R BT.709)."""
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


@dataclass(frozen=True)
class Ground:
    """The parameters of a ground; colours are linear RGB in 0..1, lengths in metres, strengths relative."""

    base: Colour
    patch: Colour
    """Colour of the larger patches."""
    tuft: Colour
    """Colour of the small spots: grass tufts, stones, or soil through snow."""
    patch_m: float
    """Texel of the patches; they are some tens of texels wide."""
    patch_share: float
    """0..1."""
    tuft_m: float
    """Texel of the spots; they are about six texels wide."""
    tuft_share: float
    """0..1."""
    tuft_sharp: float
    """0 soft, 1 with hard edges."""
    grain_m: float
    """Texel of the finest texture."""
    grain: float
    """Strength of brightness changes at the finest scale."""
    bump_m: float
    """Height of the small relief in the shading."""
    stretch: float
    """Elongation of the spots in one direction; 1 is none."""
    stretch_deg: float
    trails: int = 0
    """Animal trails in the picture, each a string of dark hoof prints."""
    trail_colour: Colour = (0.02, 0.017, 0.015)


def paint_ground(ground: Ground, view: View, seed: int) -> tuple[NDArray[np.float32], Field]:
    """Albedo (linear RGB) and relief (metres) of the bare ground in `view`."""
    shape = (view.height, view.width)
    matrix = view.matrix()
    patches = sample("cloud", matrix, shape, ground.patch_m, seed + 0.1)
    medium = sample("mottle", matrix, shape, ground.patch_m * 0.35, seed + 0.2)
    tufts = sample("grain", _stretched(matrix, ground), shape, ground.tuft_m, seed + 0.3)
    rough = sample("mottle", _stretched(matrix, ground), shape, ground.tuft_m * 1.7, seed + 0.4)
    grain = sample("fleck", matrix, shape, ground.grain_m, seed + 0.5)
    fine = sample("mottle", matrix, shape, ground.grain_m, seed + 0.6)

    share = smoothstep(-0.8, 0.8, patches + 0.6 * medium + np.float32(3.2 * (ground.patch_share - 0.5)))
    # Spots gather where the patches are thin.
    spots = tufts + 0.7 * rough + 0.45 * medium + np.float32(3.6 * (ground.tuft_share - 0.5))
    edge = 1.1 - 0.95 * ground.tuft_sharp
    spotted = smoothstep(-edge, edge, spots)
    albedo = _blend(ground.base, ground.patch, share)
    albedo += (np.array(ground.tuft, np.float32) - albedo) * spotted[..., None]
    if ground.trails:
        albedo += (np.array(ground.trail_colour, np.float32) - albedo) * _trails(ground, view, seed)[..., None]
    brightness = 1.0 + ground.grain * (0.55 * grain + 0.45 * fine + 0.35 * medium)
    albedo *= np.clip(brightness, 0.15, 2.5)[..., None]
    relief = np.float32(ground.bump_m) * (0.6 * fine + 0.5 * tufts)
    return albedo, relief.astype(np.float32)


def _blend(first: Colour, second: Colour, share: Field) -> NDArray[np.float32]:
    a, b = np.array(first, np.float32), np.array(second, np.float32)
    return np.asarray(a + (b - a) * share[..., None], dtype=np.float32)


def _stretched(matrix: NDArray[np.float64], ground: Ground) -> NDArray[np.float64]:
    if ground.stretch == 1.0:
        return matrix
    angle = np.radians(ground.stretch_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    squeeze = np.diag([1.0 / ground.stretch, 1.0])
    return np.asarray(squeeze @ turn @ matrix, dtype=np.float64)


def _trails(ground: Ground, view: View, seed: int) -> Field:
    """Strings of hoof prints that wind through the picture, as a mask 0..1."""
    rng = np.random.default_rng((seed, 77))
    mask = np.zeros((view.height, view.width), np.uint8)
    span = float(np.hypot(view.width, view.height))
    main = np.radians(ground.stretch_deg) - np.radians(view.yaw_deg) + np.pi / 2
    step = max(0.16 / view.gsd, 1.2)
    for _ in range(ground.trails):
        count = int(min(1.3 * span / step, 1500))
        angle = main + rng.normal(0, 0.25) + np.cumsum(rng.normal(0, 0.035, count)) * np.sqrt(step / 12)
        start = rng.uniform(0, 1, 2) * (view.width, view.height) - 0.6 * span * np.array([np.cos(main), np.sin(main)])
        path = start + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1), 0) * step
        width = rng.uniform(0.05, 0.22) / view.gsd
        path = path + rng.normal(0, 1, path.shape) * width
        sizes = np.exp(rng.normal(0, 0.4, count)) * rng.uniform(0.03, 0.075) / view.gsd
        worn = np.clip(rng.normal(0.7, 0.35), 0.1, 1.0)
        keep = (rng.random(count) < worn) & (path > -20).all(1) & (path < (view.width + 20, view.height + 20)).all(1)
        for (x, y), size, direction in zip(path[keep], sizes[keep], angle[keep], strict=True):
            axes = (int(16 * max(size * 1.4, 0.6)), int(16 * max(size, 0.5)))
            cv2.ellipse(
                mask, (int(16 * x), int(16 * y)), axes, float(np.degrees(direction)), 0, 360, 255, -1, cv2.LINE_AA, 4
            )
    ragged = sample("mottle", view.matrix(), mask.shape, max(0.012, view.gsd), seed + 0.7)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.02 / view.gsd, 0.6)).astype(np.float32) / 255
    return smoothstep(0.25, 0.6, soft * (1 + 0.5 * ragged)) * np.float32(0.92)
