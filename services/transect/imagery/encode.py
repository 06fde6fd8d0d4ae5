"""Encode arrays as image files."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The format has 16 bits for a side; the library's limit is a little lower.
LONGEST_JPEG_SIDE = 65_500


def encode_jpeg(image: NDArray[np.uint8], *, quality: int = 90) -> bytes:
    """Encode an RGB image of shape (H, W, 3), uint8, as JPEG.

    No side may be longer than LONGEST_JPEG_SIDE pixels.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
