"""How a picture looks to the network: brightness, colour and detail, whatever is in it. Pure."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

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
"""What `appearance` measures, in its order."""

_LEVELS = 4
# Below these, a logarithm would tell noise of the last bit.
_LEAST_CONTRAST, _LEAST_DETAIL = 1e-3, 1e-4
_MOST_TILES = 64
_TILES_PER_SAMPLE = 32


def appearance(picture: NDArray[np.uint8]) -> FloatArray:
    """The `STATISTICS` of an RGB picture (H, W, 3).

    Brightness and colours are means of 0..1; contrast is the logarithm of the standard deviation of brightness, detail
    that of the mean absolute Laplacian at each octave, so that a factor is a distance.
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


def sampled(tiles: int) -> list[int]:
    """Which of an image's `tiles`, by number, speak for its look: one of 32, at least one, spread over the image.

    They depend on their number alone, so that a photo has the same look in every run.
    """
    count = min(max(tiles // _TILES_PER_SAMPLE, 1), _MOST_TILES)
    return [int((k + 0.5) * tiles / count) for k in range(count)]
