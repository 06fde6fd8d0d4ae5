"""The raster interface: an upright RGB image of any size, read in windows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from transect.errors import InputError

# A TIFF with more pixels is not decoded whole: 64 million take 192 MB as RGB.
WHOLE_BELOW = 64_000_000


@dataclass(frozen=True)
class Rendering:
    """Overrides for the conversion of stored samples to RGB.

    `bands` are the numbers, from 1, of the red, green and blue bands of TIFFs, or of one that is read as grey.
    `depth` is the number of bits (8 to 16) that 16-bit samples use, so that all files of a survey are scaled equally.
    """

    bands: tuple[int, ...] | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise InputError(f"bands={list(self.bands)} is not usable: give one or three numbers from 1.")


AS_STORED = Rendering()


class Raster(ABC):
    """An upright RGB image that is read in windows; a context manager that closes it.

    `width` and `height` are in pixels. `pixels` is the whole image of shape (H, W, 3) if it is in
    memory, and None if windows are read from the file; such a raster is not thread-safe. `remarks` are sentences
    on decisions in reading it.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, width: int, height: int, pixels: NDArray[np.uint8] | None = None) -> None:
        self.width = width
        self.height = height
        self.pixels = pixels

    @abstractmethod
    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """The pixels of a window inside the image, (height, width, 3) uint8; a view if the image is in memory.

        Raises ImageError if the file cannot be read, ImageTooLargeError for a window of more pixels
        than the limit.
        """

    def close(self) -> None:  # noqa: B027  an image in memory has nothing to close
        """Close the file. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InMemoryRaster(Raster):
    """An image in memory: `pixels` of shape (H, W, 3), uint8."""

    def __init__(self, pixels: NDArray[np.uint8], remarks: tuple[str, ...] = ()) -> None:
        super().__init__(pixels.shape[1], pixels.shape[0], pixels)
        self.remarks = remarks
        self._whole = pixels

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A view of a window."""
        return self._whole[y : y + height, x : x + width]


def as_raster(image: "NDArray[np.uint8] | Raster") -> Raster:
    """Wrap an RGB array of shape (H, W, 3); a raster is returned unchanged.

    Raises InputError for an array of another shape or type.
    """
    if isinstance(image, Raster):
        return image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(f"An image is an array of shape (H, W, 3) of uint8, not {image.shape} of {image.dtype}.")
    return InMemoryRaster(image)
