"""Unbounded random textures in world coordinates, from a few cached tileable fields."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Kind = Literal["cloud", "mottle", "grain", "fleck"]

_SIZE = 1024
_LEVELS = 6
# Spectral amplitude over spatial frequency f in cycles a field, and the seed of the phases.
_SPECTRA: dict[Kind, tuple[Callable[[Field], Field], int]] = {
    "cloud": (lambda f: f**-1.8 * (f < 64), 11),  # broad patches
    "mottle": (lambda f: f**-1.05, 12),  # all scales alike: soil, litter
    # Tufts and leaves, most about 8 texels wide.
    "grain": (lambda f: f / (f + 90.0) ** 2.6 * np.exp(-((f / 380.0) ** 2)), 13),
    "fleck": (lambda f: f**-0.6 * (f < 300), 14),  # skewed below: rare strong spots
}


@cache
def field(kind: Kind, level: int = 0) -> Field:
    """A tileable field of zero mean and unit deviation; each level halves the resolution."""
    if level:
        finer = field(kind, level - 1)
        half = (finer.shape[1] // 2, finer.shape[0] // 2)
        return np.asarray(cv2.resize(finer, half, interpolation=cv2.INTER_AREA), dtype=np.float32)
    amplitude, seed = _SPECTRA[kind]
    fy = np.fft.fftfreq(_SIZE, 1 / _SIZE)[:, None]
    fx = np.fft.rfftfreq(_SIZE, 1 / _SIZE)[None, :]
    radius = np.hypot(fx, fy).astype(np.float32)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal((_SIZE, _SIZE))) * amplitude(radius)
    spectrum[0, 0] = 0.0
    out = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
    out /= out.std()
    if kind == "fleck":
        out = np.exp(0.8 * out)
        out = (out - out.mean()) / out.std()
    return np.clip(out, -4.0, 4.0).astype(np.float32)


def sample(kind: Kind, matrix: NDArray[np.float64], shape: tuple[int, int], texel: float, offset: float = 0.0) -> Field:
    """Sample a field at `matrix @ (column, row, 1)`, in metres, with texels of `texel` metres.

    matrix: 2x3, pixel index to plane coordinates in metres. shape: (rows, columns) of the result.
    offset: any number; other offsets give other textures of the same kind.
    """
    step = float(np.hypot(matrix[0, 0], matrix[1, 0])) / texel
    level = int(np.clip(np.ceil(np.log2(max(step / 1.4, 1e-6))), 0, _LEVELS))
    size = _SIZE >> level
    scaled = matrix / (texel * (1 << level))
    shift = np.array([offset * 0.7548776662 % 1.0, offset * 0.5698402910 % 1.0]) * size
    scaled[:, 2] = (scaled[:, 2] + shift) % size
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(field(kind, level), scaled, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_WRAP)
    return np.asarray(out, dtype=np.float32)


def smoothstep(low: float, high: float, value: Field) -> Field:
    """0 below `low`, 1 above `high`, a smooth rise between."""
    t = np.clip((value - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def texel_for(gsd: float, finest: float) -> float:
    """The smallest texel of `finest`, twice, four times ... that `gsd` (metres a pixel) can show.

    In steps, so that views of nearly the same height show the same texture.
    """
    return finest * 2.0 ** max(0, int(np.ceil(np.log2(gsd / finest) - 1e-9)))
