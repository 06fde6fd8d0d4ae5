"""Images of any size, window by window: what fits into memory is decoded whole, larger TIFFs are read in pieces.

GDAL reads every TIFF where rasterio is installed; Pillow reads those that GDAL cannot open, and says so.
"""

import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transect.errors import ImageError, ImageTooLargeError, InputError
from transect.imagery.decode import (
    DECODE_ERRORS,
    Decoded,
    check_file,
    check_size,
    decode_with_pillow,
    is_deep_png,
    label_of,
    open_image,
    require_read_kind,
)
from transect.imagery.orientation import orientation_in_file, upright_size
from transect.imagery.tiff_tags import TiffTags, read_tiff_tags
from transect.picture_kinds import DNG, RAW, TIFF_STARTS, kind_of_suffix

# Above so many pixels a TIFF is not decoded whole: 64 million take 192 MB as RGB.
WHOLE_BELOW = 64_000_000
# What a TIFF that is read in windows holds at its peak: blocks, a band of tiles, tiles ahead.
_WINDOWED_BYTES = 450 << 20
# The most that decoding holds a pixel, result and rotation included, measured by the growth of a process with pictures
# of 25 megapixels: by Pillow's name of the format and mode, then by mode, then for any other.
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
class Rendering:
    """How stored samples are shown, where the file's own word is not taken.

    `bands` are the numbers, from 1, of the red, green and blue bands of TIFFs, or of one that is shown as grey.
    `depth` is the number of bits (8 to 16) that 16-bit samples use, so that files of one survey are shown alike.
    """

    bands: tuple[int, ...] | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise InputError(f"bands={list(self.bands)} is not usable: give one or three numbers from 1.")


AS_STORED = Rendering()


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a picture that can be read: pixels after `orientation`, the depth of 16-bit samples (None for
    others), and remarks on how it is read."""

    width: int
    height: int
    orientation: int
    depth: int | None = None
    remarks: tuple[str, ...] = ()


class Raster(ABC):
    """An upright RGB image that is read in windows; a context manager that closes it.

    `width` and `height` are in pixels. `pixels` is the whole image of shape (H, W, 3) where it is in
    memory, and None where windows come from the file; such a raster serves one thread at a time. `remarks` are
    sentences on what was decided in reading it.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, width: int, height: int, pixels: NDArray[np.uint8] | None = None) -> None:
        self.width = width
        self.height = height
        self.pixels = pixels

    @abstractmethod
    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """The pixels of a window inside the image, (height, width, 3) uint8; of an image in memory a view.

        Raises ImageError when the file does not give them, ImageTooLargeError for a window that
        itself has more pixels than may be decoded.
        """

    def close(self) -> None:  # noqa: B027  an image in memory has nothing to close
        """Let go of the file. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _InMemory(Raster):
    def __init__(self, pixels: NDArray[np.uint8], remarks: tuple[str, ...] = ()) -> None:
        super().__init__(pixels.shape[1], pixels.shape[0], pixels)
        self.remarks = remarks
        self._whole = pixels

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        return self._whole[y : y + height, x : x + width]


def as_raster(image: "NDArray[np.uint8] | Raster") -> Raster:
    """A raster of an RGB array of shape (H, W, 3); one that is a raster already comes back.

    Raises InputError for an array that is no such image.
    """
    if isinstance(image, Raster):
        return image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(f"An image is an array of shape (H, W, 3) of uint8, not {image.shape} of {image.dtype}.")
    return _InMemory(image)


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
        return _InMemory(decoded.pixels, decoded.remarks)
    tags = _tags(source, label)
    if tags.width * tags.height <= whole_below:
        check_size(label, tags.width, tags.height, max_pixels)
    try:
        from transect.imagery.windows import UnknownTiffError, WindowedTiff
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
        return _InMemory(raster.whole(), raster.remarks)


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
        tags = _tags(path, label)
        size = upright_size(tags.width, tags.height, tags.orientation)
        try:
            from transect.imagery.windows import UnknownTiffError, WindowedTiff

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


@dataclass(frozen=True)
class PictureCost:
    """Width and height in pixels, upright or not, and the most bytes that opening the picture holds at one time."""

    width: int
    height: int
    held_bytes: int


UNKNOWN_COST_BYTES = 16 * WHOLE_BELOW
"""What is held of a picture whose header does not tell: the most of a TIFF that is decoded whole."""


def picture_cost(source: Path | bytes, name: str) -> PictureCost | None:
    """What a picture's header tells of it; None where only opening the file will tell."""
    try:
        if is_tiff(source):
            tags = _tags(source, name)
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
    told, mode = image.format or "", image.mode
    for kind in ((told, mode), (told, ""), ("", mode)):
        if kind in _PEAK_BYTES:
            return _PEAK_BYTES[kind]
    return _USUAL_PEAK_BYTES


def is_tiff(source: Path | bytes) -> bool:
    """Whether a file begins as a TIFF does; False for one that cannot be read, of which opening says what is wrong."""
    if isinstance(source, bytes):
        return source.startswith(TIFF_STARTS)
    try:
        if not source.is_file():
            return False
        with source.open("rb") as stream:
            return stream.read(4) in TIFF_STARTS
    except OSError:
        return False


_BY_PILLOW = "GDAL cannot read this kind of TIFF; Pillow read it."


def _tags(source: Path | bytes, label: str) -> TiffTags:
    check_file(source, label)
    try:
        tags = read_tiff_tags(source)
    except OSError as error:
        raise ImageError(f"{label} cannot be read: {error.strerror}.") from error
    if tags is None:
        require_read_kind(source, label)
        raise ImageError(f"{label} is truncated or damaged and cannot be decoded; copy it again from its source.")
    told = kind_of_suffix(source) if isinstance(source, Path) else None
    if tags.raw or told in (DNG, RAW):
        # The first directory of many raw files is a thumbnail.
        raise ImageError((told if told in (DNG, RAW) and told is not None else RAW).refusal(label))
    return tags


def _in_memory(decoded: Decoded) -> Raster:
    return _InMemory(decoded.pixels, decoded.remarks)


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
