"""Appearance of a picture independent of its content: brightness, colour and detail. Pure."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray

STATISTICS = (
    "brightness",
    "contrast",
    "red against green",
    "blue against green",
    "detail of 1 pixel",
    "detail of 2 pixels",
    "detail of 4 pixels",
    "detail of 8 pixels",
)
"""Names of the values of `appearance`, in order."""

_LEVELS = 4
# Floors: below them the logarithm would measure noise of the last bit.
_LEAST_CONTRAST, _LEAST_DETAIL = 1e-3, 1e-4
_MOST_TILES = 64
_TILES_PER_SAMPLE = 32


def appearance(picture: NDArray[np.uint8]) -> FloatArray:
    """The `STATISTICS` of an RGB picture (H, W, 3).

    Brightness and colours are means of 0..1; contrast is the logarithm of the standard deviation of brightness, detail
    that of the mean absolute Laplacian at each octave, so that a ratio becomes a difference.
    """
    values = picture.astype(np.float32) / np.float32(255)
    grey = values.mean(axis=2)
    found = [
        float(grey.mean()),
        math.log(float(grey.std()) + _LEAST_CONTRAST),
        float((values[:, :, 0] - values[:, :, 1]).mean()),
        float((values[:, :, 2] - values[:, :, 1]).mean()),
    ]
    for _ in range(_LEVELS):
        found.append(math.log(float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean()) + _LEAST_DETAIL))
        height, width = grey.shape
        grey = np.asarray(
            cv2.resize(grey, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA), np.float32
        )
    return np.array(found)


def sample_tiles(tiles: int) -> list[int]:
    """Numbers of the tiles that represent an image of `tiles` tiles: one of 32, at least one, evenly spread.

    The choice depends only on the number of tiles, so a photo has the same appearance in every run.
    """
    count = min(max(tiles // _TILES_PER_SAMPLE, 1), _MOST_TILES)
    return [int((k + 0.5) * tiles / count) for k in range(count)]
