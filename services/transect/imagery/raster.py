"""Images of any size, window by window: what fits into memory is decoded whole, larger TIFFs are read in pieces."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from transect.errors import ImageError, InputError
from transect.imagery.decode import DECODE_ERRORS, decode_image, label_of, open_image
from transect.imagery.orientation import orientation_of

# Above so many pixels a TIFF is not decoded whole: 64 million take 192 MB as RGB.
WHOLE_BELOW = 64_000_000
# What a TIFF that is read in windows holds at its peak, as pixels: blocks, a band of tiles, tiles ahead.
_WINDOWED_PIXELS = 150_000_000

# Little- and big-endian, classic and BigTIFF.
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Raster(ABC):
    """An upright RGB image that is read in windows; a context manager that closes it.

    `width` and `height` are in pixels. `pixels` is the whole image of shape (H, W, 3) where it is in
    memory, and None where windows come from the file; such a raster serves one thread at a time.
    """

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
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__(pixels.shape[1], pixels.shape[0], pixels)
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
    source: Path | bytes, *, name: str = "", max_pixels: int | None, whole_below: int = WHOLE_BELOW
) -> Raster:
    """Open an image file or its bytes to be read in windows.

    A TIFF of more than `whole_below` pixels stays on disk, may have any size, and needs rasterio.
    Everything else is decoded here, as decode_image does it (rasterio reads a TIFF that it cannot).
    `max_pixels` bounds what is decoded at a time, the whole of such an image or one window of a large
    TIFF; None sets no bound. `name` is what errors call the image (default: the path).

    Raises ImageError, at once or when a window is read, and ImageTooLargeError, as decode_image does.
    """
    if _is_tiff(source):
        large = _from_windows(source, label_of(source, name), max_pixels, whole_below)
        if large is not None:
            return large
    return _InMemory(decode_image(source, name=name, max_pixels=max_pixels))


def held_pixels(source: Path | bytes, width: int, height: int) -> int:
    """The most pixels that `open_raster` and its reader hold of an image of this size."""
    pixels = width * height
    return min(pixels, _WINDOWED_PIXELS) if pixels > WHOLE_BELOW and _is_tiff(source) else pixels


def _from_windows(source: Path | bytes, label: str, max_pixels: int | None, whole_below: int) -> Raster | None:
    """The TIFF by the reader of windows, or None for one that decode_image is to read."""
    try:
        with open_image(source, label) as image:
            (width, height), orientation = image.size, orientation_of(image, DECODE_ERRORS)
    except ImageError:
        # Pillow refuses some kinds, such as five bands or planes of 16 bits.
        return _unknown_to_pillow(source, label, max_pixels, whole_below)
    if width * height <= whole_below:
        return None
    try:
        from transect.imagery.windows import WindowedTiff
    except ImportError as error:
        if max_pixels is not None and width * height <= max_pixels:
            return None
        raise ImageError(
            f"{label} has {width} x {height} pixels; a TIFF of this size is read with rasterio, which is not "
            "installed: pip install rasterio."
        ) from error
    return WindowedTiff(source, label, orientation, max_pixels)


def _unknown_to_pillow(source: Path | bytes, label: str, max_pixels: int | None, whole_below: int) -> Raster | None:
    try:
        from transect.imagery.windows import WindowedTiff
    except ImportError:
        return None
    raster = WindowedTiff(source, label, 1, max_pixels)
    if raster.width * raster.height > whole_below:
        return raster
    with raster:
        return _InMemory(raster.read(0, 0, raster.width, raster.height))


def _is_tiff(source: Path | bytes) -> bool:
    if isinstance(source, bytes):
        return source.startswith(_TIFF_STARTS)
    try:
        with source.open("rb") as stream:
            return stream.read(4) in _TIFF_STARTS
    except OSError:
        return False  # decode_image says what is wrong with it
