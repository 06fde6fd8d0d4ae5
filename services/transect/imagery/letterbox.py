"""Letterbox an image into a square network input, and map boxes back."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PAD_VALUE = 114


@dataclass(frozen=True, kw_only=True)
class LetterboxTransform:
    """Where an image of `width` x `height` pixels lies inside the square input.

    `left` and `top` are the padding in input pixels; `scale_x` and `scale_y` are input pixels per
    image pixel. They differ by the rounding of the scaled size to whole pixels.
    """

    width: int
    height: int
    left: int
    top: int
    scale_x: float
    scale_y: float

    def to_image(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, 4) xyxy boxes in input pixels to image pixels, clipped to the image."""
        offset = np.array([self.left, self.top] * 2, dtype=np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, dtype=np.float32)
        limit = np.array([self.width, self.height] * 2, dtype=np.float32)
        mapped: NDArray[np.float32] = np.clip((boxes - offset) / scale, 0, limit).astype(np.float32, copy=False)
        return mapped

    def to_input(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, 4) xyxy boxes in image pixels to input pixels."""
        offset = np.array([self.left, self.top] * 2, dtype=np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, dtype=np.float32)
        return (boxes * scale + offset).astype(np.float32, copy=False)


def letterbox(
    image: NDArray[np.uint8], size: int, *, into: NDArray[np.uint8] | None = None, fills: int | None = None
) -> tuple[NDArray[np.uint8], LetterboxTransform]:
    """Scale an (H, W, 3) image to fit `size` x `size`, keep its shape, pad the rest with grey 114.

    The pixels are those of Ultralytics' LetterBox(auto=False, center=True), with which models are
    validated: bilinear, scaled up too, the odd row or column of padding at the end. An image of that
    size is returned unchanged. Others are written to `into`, (size, size, 3), if given.

    `fills` is the longer side, in pixels, of the images that fill the input; a smaller image gets more
    padding instead of another scale. None: the longer side of each image.
    """
    height, width = image.shape[:2]
    ratio = min(size / height, size / width) if fills is None else size / max(fills, height, width)
    new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    left, top = (size - new_width) // 2, (size - new_height) // 2
    transform = LetterboxTransform(
        width=width, height=height, left=left, top=top, scale_x=new_width / width, scale_y=new_height / height
    )
    if (width, height) == (size, size):
        return image, transform
    padded = np.empty((size, size, 3), dtype=np.uint8) if into is None else into
    bottom, right = top + new_height, left + new_width
    for border in (padded[:top], padded[bottom:], padded[top:bottom, :left], padded[top:bottom, right:]):
        border[:] = PAD_VALUE
    inside = padded[top:bottom, left:right]
    if (new_width, new_height) == (width, height):
        inside[:] = image
    else:
        # Writes directly into `inside`.
        cv2.resize(image, (new_width, new_height), dst=inside, interpolation=cv2.INTER_LINEAR)
    return padded, transform
