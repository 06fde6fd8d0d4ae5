"""Resample a picture to another size."""

import cv2
import numpy as np
from numpy.typing import NDArray


def resample(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resample an (H, W, 3) image to `width` x `height` pixels; one of that size is returned unchanged.

    The edges stay aligned: x of one picture is x * width / W of the other, to any fraction of a pixel.
    Shrinking averages areas, as a sensor of larger pixels would, because skipping pixels causes aliasing.
    Enlarging is bicubic: bilinear blurs, and a network finds fewer animals (docs/census-methods.md).
    """
    rows, columns = image.shape[:2]
    if (columns, rows) == (width, height):
        return image
    shrinks = width <= columns and height <= rows
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)
