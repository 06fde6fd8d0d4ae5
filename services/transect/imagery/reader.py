"""Open images of any size: decode whole what fits into memory, read larger TIFFs in windows.

GDAL reads every TIFF if rasterio is installed; Pillow reads those that GDAL cannot open, with a remark.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.errors import ImageError, ImageTooLargeError
from transect.imagery.decode import (
    DECODE_ERRORS,
    Decoded,
    check_size,
    decode_with_pillow,
    label_of,
    open_image,
)
from transect.imagery.orientation import orientation_in_file, upright_size
from transect.imagery.raster import AS_STORED, WHOLE_BELOW, InMemoryRaster, Raster, Rendering
from transect.imagery.tiff.header import is_tiff, tags_of
from transect.imagery.tiff.tags import TiffTags


@dataclass(frozen=True)
class PictureFacts:
    """Properties of a readable picture: size after `orientation`, depth of 16-bit samples (else None), and remarks."""

    width: int
    height: int
    orientation: int
    depth: int | None = None
    remarks: tuple[str, ...] = ()


def open_raster(
    source: Path | bytes,
    *,
    name: str = "",
    max_pixels: int | None,
    whole_below: int = WHOLE_BELOW,
    rendering: Rendering = AS_STORED,
) -> Raster:
    """Open an image file or its bytes to be read in windows.

    A TIFF of more than `whole_below` pixels stays on disk, may have any size, and needs rasterio. All other images are
    decoded here. `max_pixels` limits the pixels decoded at a time, of a whole image or of one window of a large TIFF;
    None is no limit. `name` is the image's name in errors (default: the path).

    Raises ImageError, at once or when a window is read, and ImageTooLargeError, as decode_image does.
    """
    label = label_of(source, name)
    if not is_tiff(source):
        decoded = decode_with_pillow(source, label, max_pixels, rendering.depth)
        return InMemoryRaster(decoded.pixels, decoded.remarks)
    tags = tags_of(source, label)
    if tags.width * tags.height <= whole_below:
        check_size(label, tags.width, tags.height, max_pixels)
    try:
        from transect.imagery.tiff.windows import UnknownTiffError, WindowedTiff
    except ImportError as error:
        if max_pixels is None or tags.width * tags.height <= max_pixels:
            return _in_memory(_decode_tiff_with_pillow(source, label, tags, max_pixels, rendering))
        raise ImageError(
            f"{label} has {tags.width} x {tags.height} pixels; a TIFF of this size is read with rasterio, which is not "
            "installed: pip install rasterio."
        ) from error
    try:
        raster = WindowedTiff(source, label, tags, max_pixels, rendering)
    except UnknownTiffError as error:
        return _in_memory(_decode_without_gdal(source, label, tags, max_pixels, rendering=rendering, failure=error))
    if raster.width * raster.height > whole_below:
        return raster
    with raster:
        return InMemoryRaster(raster.whole(), raster.remarks)


def decode_image(source: Path | bytes, *, name: str = "", max_pixels: int | None) -> NDArray[np.uint8]:
    """Decode an image file or its bytes to RGB of shape (H, W, 3), uint8.

    The EXIF orientation is applied. Grey, palette, CMYK and 16-bit images are converted; alpha is dropped; the first
    frame of several is taken. `name` is its name in errors (default: the path).

    Raises ImageError if the file is missing, empty, not an image, truncated or damaged, or has floating-point samples;
    ImageTooLargeError if it has more than `max_pixels` pixels.
    """
    with open_raster(source, name=name, max_pixels=max_pixels, whole_below=sys.maxsize) as raster:
        return raster.read(0, 0, raster.width, raster.height)


def inspect_picture(path: Path, *, name: str = "", rendering: Rendering = AS_STORED) -> PictureFacts:
    """Properties of a file as open_raster would read it, from its header and the 16-bit samples of a TIFF.

    Raises ImageError for a file that open_raster would reject, except for damaged pixels.
    """
    label = label_of(path, name)
    if is_tiff(path):
        tags = tags_of(path, label)
        size = upright_size(tags.width, tags.height, tags.orientation)
        try:
            from transect.imagery.tiff.windows import UnknownTiffError, WindowedTiff

            with WindowedTiff(path, label, tags, None, rendering) as raster:
                depth = raster.depth
                return PictureFacts(*size, tags.orientation, depth.bits if depth is not None else None, raster.remarks)
        except ImportError:
            pass
        except UnknownTiffError as error:
            try:
                open_image(path, label).close()
            except ImageError:
                raise error from None
            return PictureFacts(*size, tags.orientation, remarks=(_BY_PILLOW,))
    with open_image(path, label) as image:
        orientation = orientation_in_file(path, image, DECODE_ERRORS)
        return PictureFacts(*upright_size(*image.size, orientation), orientation)


_BY_PILLOW = "GDAL cannot read this kind of TIFF; Pillow read it."


def _in_memory(decoded: Decoded) -> Raster:
    return InMemoryRaster(decoded.pixels, decoded.remarks)


def _decode_tiff_with_pillow(
    source: Path | bytes, label: str, tags: TiffTags, max_pixels: int | None, rendering: Rendering
) -> Decoded:
    with open_image(source, label) as image:
        bands = len(image.getbands())
    if rendering.bands is not None or bands != tags.samples:
        # Pillow reads only the first of several planes, as grey.
        raise ImageError(f"{label} is a TIFF that is read with rasterio, which is not installed: pip install rasterio.")
    return decode_with_pillow(source, label, max_pixels, rendering.depth)


def _decode_without_gdal(
    source: Path | bytes,
    label: str,
    tags: TiffTags,
    max_pixels: int | None,
    *,
    rendering: Rendering,
    failure: ImageError,
) -> Decoded:
    """Decode with Pillow. Raises `failure` if Pillow cannot read it either."""
    try:
        check_size(label, tags.width, tags.height, max_pixels)
        decoded = _decode_tiff_with_pillow(source, label, tags, max_pixels, rendering)
    except ImageTooLargeError:
        raise
    except ImageError:
        raise failure from None
    return Decoded(decoded.pixels, (*decoded.remarks, _BY_PILLOW))
