"""Opens images of any size: what fits into memory is decoded whole, larger TIFFs are read in windows.

GDAL reads every TIFF where rasterio is installed; Pillow reads those that GDAL cannot open, and says so.
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
    """What is known of a picture that can be read: pixels after `orientation`, the depth of 16-bit samples (None for
    others), and remarks on how it is read."""

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

    A TIFF of more than `whole_below` pixels stays on disk, may have any size, and needs rasterio. Everything else is
    decoded here. `max_pixels` bounds what is decoded at a time, the whole of such an image or one window of a large
    TIFF; None sets no bound. `name` is what errors call the image (default: the path).

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
            return _in_memory(_tiff_by_pillow(source, label, tags, max_pixels, rendering))
        raise ImageError(
            f"{label} has {tags.width} x {tags.height} pixels; a TIFF of this size is read with rasterio, which is not "
            "installed: pip install rasterio."
        ) from error
    try:
        raster = WindowedTiff(source, label, tags, max_pixels, rendering)
    except UnknownTiffError as error:
        return _in_memory(_where_gdal_fails(source, label, tags, max_pixels, rendering=rendering, failure=error))
    if raster.width * raster.height > whole_below:
        return raster
    with raster:
        return InMemoryRaster(raster.whole(), raster.remarks)


def decode_image(source: Path | bytes, *, name: str = "", max_pixels: int | None) -> NDArray[np.uint8]:
    """Decode an image file or its bytes to RGB of shape (H, W, 3), uint8.

    The EXIF orientation is applied. Grey, palette, CMYK and 16-bit images are converted; alpha is dropped; the first
    frame of several is taken. `name` is what errors call it (default: the path).

    Raises ImageError when the file is missing, empty, no image, truncated or damaged, holds floating-point samples;
    ImageTooLargeError when it has more than `max_pixels` pixels.
    """
    with open_raster(source, name=name, max_pixels=max_pixels, whole_below=sys.maxsize) as raster:
        return raster.read(0, 0, raster.width, raster.height)


def inspect_picture(path: Path, *, name: str = "", rendering: Rendering = AS_STORED) -> PictureFacts:
    """What open_raster would make of a file, from its header and, for samples of 16 bits in a TIFF, from them.

    Raises ImageError for one that it would refuse, but for damage inside.
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


def _tiff_by_pillow(
    source: Path | bytes, label: str, tags: TiffTags, max_pixels: int | None, rendering: Rendering
) -> Decoded:
    with open_image(source, label) as image:
        bands = len(image.getbands())
    if rendering.bands is not None or bands != tags.samples:
        # Pillow shows the first plane of several as grey.
        raise ImageError(f"{label} is a TIFF that is read with rasterio, which is not installed: pip install rasterio.")
    return decode_with_pillow(source, label, max_pixels, rendering.depth)


def _where_gdal_fails(
    source: Path | bytes,
    label: str,
    tags: TiffTags,
    max_pixels: int | None,
    *,
    rendering: Rendering,
    failure: ImageError,
) -> Decoded:
    """The picture by Pillow. Raises `failure` where Pillow cannot read it either."""
    try:
        check_size(label, tags.width, tags.height, max_pixels)
        decoded = _tiff_by_pillow(source, label, tags, max_pixels, rendering)
    except ImageTooLargeError:
        raise
    except ImageError:
        raise failure from None
    return Decoded(decoded.pixels, (*decoded.remarks, _BY_PILLOW))
