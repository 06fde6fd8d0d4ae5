"""Windows of TIFFs that are larger than memory, read by GDAL. Needs rasterio; imported where one is opened.

A file is compressed in blocks, tiles or strips, and GDAL decompresses every block that a window touches,
each time. So the last band of the image stays here: windows that go along a row, and then along the next,
find in it what they share, and a block is decompressed once.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from transect.errors import ImageError, ImageTooLargeError
from transect.imagery.orientation import TRANSPOSED, stored_window, upright, upright_size
from transect.imagery.raster import Raster

# What is kept of one image; for a moment twice of it. A row of 640 px windows across 100,000 columns takes 192 MB.
_BAND_BYTES = 192 << 20
# A block is decompressed whole, so that one over this makes reading in windows pointless.
_LARGEST_BLOCK_BYTES = 256 << 20
_OPTIONS = {
    "GDAL_CACHEMAX": 64,  # MB, shared by all images of the process
    # The image alone: no overviews, masks or statistics from files beside it.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
}
# Some of GDAL's own errors come through without rasterio's class around them.
_GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True)
class _Part:
    """A rectangle of the stored image; `right` and `bottom` are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)

    def holds(self, other: "_Part") -> bool:
        return self.common(other) == other

    def common(self, other: "_Part") -> "_Part":
        """What both cover; its area is 0 where they do not meet."""
        return _Part(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def without(self, hole: "_Part") -> list["_Part"]:
        """The parts around `hole`, which lies inside."""
        around = [
            _Part(self.left, self.top, self.right, hole.top),
            _Part(self.left, hole.bottom, self.right, self.bottom),
            _Part(self.left, hole.top, hole.left, hole.bottom),
            _Part(hole.right, hole.top, self.right, hole.bottom),
        ]
        return [part for part in around if part.area]

    def of(self, pixels: NDArray[Any], place: "_Part") -> NDArray[Any]:
        """A view of this part of `pixels`, which show `place`."""
        return pixels[self.top - place.top : self.bottom - place.top, self.left - place.left : self.right - place.left]


_NOWHERE = _Part(0, 0, 0, 0)


class WindowedTiff(Raster):
    """A TIFF that stays on disk; the memory for it is bounded whatever its size.

    Samples of 1 to 16 bits become 8 by their high byte, palettes and grey become RGB, other bands than
    red, green and blue are left out. `orientation` is the EXIF orientation of the stored pixels.
    Raises ImageError for a file that GDAL cannot open or samples of another kind.
    """

    def __init__(self, source: Path | bytes, label: str, orientation: int, max_pixels: int | None) -> None:
        self._label = label
        self._orientation = orientation
        self._max_pixels = max_pixels
        with ExitStack() as stack, self._gdal():
            # Few of our images are maps, and those that are need not say so.
            warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
            if isinstance(source, bytes):
                memory = stack.enter_context(MemoryFile(source, ext=".tif"))
                self._dataset: Any = stack.enter_context(memory.open(driver="GTiff"))
            else:
                # Absolute: GDAL takes a name such as s3:photo.tif for an address.
                self._dataset = stack.enter_context(rasterio.open(source.absolute(), driver="GTiff"))
            self._bands = self._choose_bands()
            self._shown = self._to_eight_bits()
            self._sample_type = np.dtype(self._dataset.dtypes[self._bands[0] - 1])
            self._check_blocks()
            self._band, self._band_at = self._empty(_NOWHERE), _NOWHERE
            super().__init__(*upright_size(self._dataset.width, self._dataset.height, orientation))
            self._files = stack.pop_all()

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """The window's pixels; see Raster.read."""
        if self._max_pixels is not None and width * height > self._max_pixels:
            raise ImageTooLargeError(
                f"{self._label} has {self.width} x {self.height} pixels; a part of {width} x {height} is more than the "
                f"limit of {self._max_pixels} (TRANSECT_MAX_PIXELS): search it in smaller tiles."
            )
        size = (self._dataset.width, self._dataset.height)
        left, top, columns, rows = stored_window((x, y, width, height), size, self._orientation)
        window = _Part(left, top, left + columns, top + rows)
        if not self._band_at.holds(window):
            self._move_band(self._band_for(window))
        return upright(self._rgb(window.of(self._band, self._band_at)), self._orientation)

    def close(self) -> None:
        """Close the file."""
        self._band, self._band_at = self._empty(_NOWHERE), _NOWHERE
        with self._gdal():
            self._files.close()

    @contextmanager
    def _gdal(self) -> Iterator[None]:
        """GDAL with our options; whatever it raises is an ImageError."""
        try:
            with rasterio.Env(**_OPTIONS):
                yield
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError(f"{self._label} does not fit into memory; cut it into smaller files.") from error
        except _GDAL_ERRORS as error:
            raise ImageError(
                f"{self._label} is truncated or damaged and cannot be decoded; copy it again from its source."
            ) from error

    def _empty(self, part: _Part) -> NDArray[Any]:
        shape = (part.bottom - part.top, part.right - part.left, len(self._bands))
        return np.empty(shape, dtype=self._sample_type)

    def _move_band(self, part: _Part) -> None:
        """Read `part`, apart from what the band already shows of it."""
        moved = self._empty(part)
        kept = part.common(self._band_at)
        if kept.area:
            kept.of(moved, part)[:] = kept.of(self._band, self._band_at)
        with self._gdal():
            for missing in part.without(kept) if kept.area else [part]:
                size = (missing.right - missing.left, missing.bottom - missing.top)
                self._dataset.read(
                    self._bands,
                    window=Window(missing.left, missing.top, *size),
                    out=missing.of(moved, part).transpose(2, 0, 1),
                )
        self._band, self._band_at = moved, part

    def _band_for(self, window: _Part) -> _Part:
        """The part to read for a window: whole blocks, in the direction of the next windows as far as is kept."""
        whole = _Part(0, 0, self._dataset.width, self._dataset.height)
        most = _BAND_BYTES // (len(self._bands) * self._sample_type.itemsize)
        rows, columns = self._dataset.block_shapes[0]
        if columns == whole.right:
            columns = 1  # strips: part of a row is read at the price of all of it, so keep as much as there is room for
        blocks = whole.common(
            _Part(
                window.left // columns * columns,
                window.top // rows * rows,
                -(-window.right // columns) * columns,
                -(-window.bottom // rows) * rows,
            )
        )
        part = blocks if blocks.area <= most else window
        if self._orientation in TRANSPOSED:
            height = most // (part.right - part.left)
            return (
                replace(part, top=0, bottom=whole.bottom)
                if height >= whole.bottom
                else whole.common(replace(part, bottom=max(part.bottom, part.top + height // rows * rows)))
            )
        width = most // (part.bottom - part.top)
        return (
            replace(part, left=0, right=whole.right)
            if width >= whole.right
            else whole.common(replace(part, right=max(part.right, part.left + width // columns * columns)))
        )

    def _choose_bands(self) -> list[int]:
        """The numbers, from 1, of the bands that hold colour: one for grey and palettes, else three."""
        kinds = self._dataset.colorinterp
        if all(colour in kinds for colour in _COLOURS):
            return [kinds.index(colour) + 1 for colour in _COLOURS]
        if len(kinds) <= 2:
            return [1]
        if len(kinds) <= 4:
            return [1, 2, 3]
        raise ImageError(
            f"{self._label} has {len(kinds)} bands and does not say which are red, green and blue; export it as RGB."
        )

    def _to_eight_bits(self) -> NDArray[np.uint8] | None:
        """A table from stored samples to shown ones, (n,) or (n, 3) for a palette; None where they are the same."""
        kind = np.dtype(self._dataset.dtypes[self._bands[0] - 1])
        if kind.kind == "f":
            raise ImageError(f"{self._label} holds floating-point samples; export it as 8-bit RGB.")
        if kind not in (np.uint8, np.uint16):
            raise ImageError(f"{self._label} holds samples of type {kind}; export it as 8-bit RGB.")
        if self._dataset.colorinterp[0] == ColorInterp.palette and len(self._bands) == 1:
            table = np.zeros((1 << 8 * kind.itemsize, 3), np.uint8)
            for sample, colour in self._dataset.colormap(1).items():
                table[sample] = colour[:3]
            return table
        structure = self._dataset.tags(ns="IMAGE_STRUCTURE") | self._dataset.tags(self._bands[0], ns="IMAGE_STRUCTURE")
        bits = int(structure.get("NBITS", 8 * kind.itemsize))
        inverted = structure.get("MINISWHITE") == "YES"
        if bits == 8 and not inverted:
            return None
        samples = np.arange(1 << 8 * kind.itemsize)
        shown = (samples >> (bits - 8) if bits > 8 else samples * 255 // ((1 << bits) - 1)).clip(0, 255)
        return np.asarray(255 - shown if inverted else shown, dtype=np.uint8)

    def _check_blocks(self) -> None:
        rows, columns = self._dataset.block_shapes[0]
        if rows * columns * self._dataset.count * np.dtype(self._dataset.dtypes[0]).itemsize > _LARGEST_BLOCK_BYTES:
            raise ImageError(
                f"{self._label} is stored in blocks of {columns} x {rows} pixels, too large to be read piece by piece; "
                "rewrite it in tiles, with gdal_translate -co TILED=YES for example."
            )

    def _rgb(self, raw: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
        # A copy, so that a window that waits for its search does not keep the whole band.
        shown = raw.copy() if self._shown is None else self._shown[raw]
        shown = shown.reshape(*raw.shape[:2], -1)
        return np.asarray(np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown, dtype=np.uint8)
