"""Estimate the cost of opening a picture from its header: pixels and peak memory."""

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from transect.errors import ImageError
from transect.imagery.decode import is_deep_png, open_image
from transect.imagery.raster import WHOLE_BELOW
from transect.imagery.tiff.header import is_tiff, tags_of

# Peak memory of a TIFF that is read in windows: blocks, a band of tiles, tiles ahead.
_WINDOWED_BYTES = 450 << 20
# Peak bytes of decoding per pixel, including result and rotation, measured by the growth of a process with pictures of
# 25 megapixels: by Pillow's format and mode, then by format, then by mode.
_PEAK_BYTES: dict[tuple[str, str], int] = {
    ("JPEG", "RGB"): 7,
    ("JPEG", "L"): 7,
    ("MPO", "RGB"): 7,
    ("WEBP", ""): 19,
    ("JPEG2000", ""): 20,
    ("", "CMYK"): 15,
    ("", "RGBA"): 15,
    ("", "LA"): 15,
    ("", "PA"): 15,
    ("", "P"): 15,
    ("", "I;16"): 8,
    ("", "I"): 14,
}
_USUAL_PEAK_BYTES = 14
_DEEP_PNG_BYTES = 21


@dataclass(frozen=True)
class PictureCost:
    """Width and height in pixels, upright or not, and the peak memory of opening the picture in bytes."""

    width: int
    height: int
    held_bytes: int


UNKNOWN_COST_BYTES = 16 * WHOLE_BELOW
"""The assumed cost of a picture with an unreadable header: the maximum of a TIFF that is decoded whole."""


def picture_cost(source: Path | bytes, name: str) -> PictureCost | None:
    """The cost of a picture by its header; None if the header cannot be read."""
    try:
        if is_tiff(source):
            tags = tags_of(source, name)
            pixels = tags.width * tags.height
            deep = 2 * tags.samples * math.ceil(tags.bits / 8) if tags.bits > 8 else tags.samples
            held = _WINDOWED_BYTES if pixels > WHOLE_BELOW else pixels * (7 + deep)
            return PictureCost(tags.width, tags.height, held)
        with open_image(source, name) as image:
            return PictureCost(image.width, image.height, image.width * image.height * _peak_bytes(source, image))
    except ImageError:
        return None


def _peak_bytes(source: Path | bytes, image: Image.Image) -> int:
    if is_deep_png(source, image):
        return _DEEP_PNG_BYTES
    file_format, mode = image.format or "", image.mode
    for kind in ((file_format, mode), (file_format, ""), ("", mode)):
        if kind in _PEAK_BYTES:
            return _PEAK_BYTES[kind]
    return _USUAL_PEAK_BYTES
