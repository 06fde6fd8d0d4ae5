"""Pictures for a reviewer: crops around boxes, and whole photos, without anything that says where they were taken."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from transect.errors import ImageError
from transect.imagery import LONGEST_JPEG_SIDE, Raster, annotate, encode_jpeg
from transect.review.decisions.decision import PixelBox

Pixels = NDArray[np.uint8]
_CONTEXT, _LEAST_SIDE = 3.0, 96
# A small animal is shown larger, a herd's box not beyond a screen.
_SHOWN_AT_LEAST, _SHOWN_AT_MOST = 384, 1024
_BAR_STRIP, _BAR_MARGIN, _BAR_TEXT = 26, 8, 14
_QUALITY = 95


@dataclass(frozen=True)
class _Outline:
    """A box to draw; there is no score, which would tell the reviewer what the model thinks."""

    box: PixelBox
    class_id: int
    class_name: str = ""
    score: float = 0.0


def crop_jpeg(raster: Raster, box: PixelBox, gsd_m: float | None) -> bytes:
    """The crop around `box` as JPEG without metadata."""
    return encode_jpeg(crop(raster, box, gsd_m), quality=_QUALITY)


def crop(
    raster: Raster, box: PixelBox, gsd_m: float | None, *, least: int = _SHOWN_AT_LEAST, most: int = _SHOWN_AT_MOST
) -> Pixels:
    """The square around `box`, three times as wide, with the box as a thin outline; `least` to `most` pixels wide.

    At the photo's edge the square is moved inward; a photo that is smaller is shown whole. Where `gsd_m` is known, a
    ground scale bar stands below the picture.
    """
    x1, y1, x2, y2 = box
    side = max(_LEAST_SIDE, math.ceil(_CONTEXT * max(x2 - x1, y2 - y1)))
    width, height = min(side, raster.width), min(side, raster.height)
    left = min(max(round((x1 + x2 - width) / 2), 0), raster.width - width)
    top = min(max(round((y1 + y2 - height) / 2), 0), raster.height - height)
    pixels = raster.read(left, top, width, height)
    longer = max(width, height)
    zoom = min(max(least / longer, 1.0), most / longer)
    shown = _resized(pixels, zoom)
    # Around the box and not on it: a small animal would vanish below the line.
    inside = ((x1 - left) * zoom - 1, (y1 - top) * zoom - 1, (x2 - left) * zoom, (y2 - top) * zoom)
    drawn = annotate(shown, [_Outline(inside, 0)], line=1, labels=False)
    return drawn if gsd_m is None else _with_scale_bar(drawn, gsd_m / zoom)


def _resized(pixels: Pixels, zoom: float) -> Pixels:
    size = (max(round(pixels.shape[1] * zoom), 1), max(round(pixels.shape[0] * zoom), 1))
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)


def bar_length(most_m: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is not above `most_m`."""
    power = 10.0 ** math.floor(math.log10(most_m))
    return max(step * power for step in (1, 2, 5) if step * power <= most_m * (1 + 1e-9))


def _with_scale_bar(pixels: Pixels, metres_per_pixel: float) -> Pixels:
    """The picture with a strip below it that holds a bar of known length, so that no animal is covered."""
    height, width = pixels.shape[:2]
    length = bar_length(width * metres_per_pixel / 3)
    page = Image.new("RGB", (width, height + _BAR_STRIP), (255, 255, 255))
    page.paste(Image.fromarray(pixels))
    draw = ImageDraw.Draw(page)
    right, middle = _BAR_MARGIN + length / metres_per_pixel, height + _BAR_STRIP / 2
    draw.rectangle((_BAR_MARGIN, middle - 2, right, middle + 2), fill=(0, 0, 0))
    text = f"{length:g} m" if length >= 1 else f"{length * 100:g} cm"
    draw.text((right + _BAR_MARGIN, middle), text, (0, 0, 0), ImageFont.load_default(_BAR_TEXT), anchor="lm")
    return np.asarray(page, np.uint8)


def whole(raster: Raster, name: str) -> Pixels:
    """All pixels of a photo. Raises ImageError for one that no picture file holds."""
    if max(raster.width, raster.height) > LONGEST_JPEG_SIDE:
        raise ImageError(
            f"{name} has {raster.width} x {raster.height} pixels, too many for one picture file; it cannot be handed "
            "out whole: draw crops of its boxes alone, or cut the map into smaller files before the census."
        )
    return raster.read(0, 0, raster.width, raster.height)


def photo_copy(pixels: Pixels, name: str) -> bytes:
    """A photo as PNG or JPEG, by the suffix of `name`, without EXIF, XMP or position."""
    if not name.lower().endswith(".png"):
        return encode_jpeg(pixels, quality=_QUALITY)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photo_with_boxes(pixels: Pixels, boxes: Sequence[tuple[PixelBox, int]]) -> bytes:
    """A photo as JPEG with boxes, each in the colour of its species' number, without scores."""
    marks = [_Outline(box, species) for box, species in boxes]
    return encode_jpeg(annotate(pixels, marks, labels=False), quality=_QUALITY)
