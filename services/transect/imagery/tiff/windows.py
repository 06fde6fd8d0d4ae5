"""Read TIFFs with GDAL, whole or in windows. Needs rasterio, so import it lazily.

A file is compressed in blocks, tiles or strips, and GDAL decompresses every block that a window touches,
each time. So the last band of the image is cached: windows that run along one row and then the next
share it, and each block is decompressed once.
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
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from transect.errors import ImageError, ImageTooLargeError
from transect.imagery.depth import STRIDE, Depth, Samples, shift, stated_bits
from transect.imagery.orientation import TRANSPOSED, stored_window, upright, upright_size
from transect.imagery.raster import WHOLE_BELOW, Raster, Rendering
from transect.imagery.tiff.bands import choose_channels
from transect.imagery.tiff.geotiff import GDAL_OPTIONS, RefersElsewhereError, open_geotiff
from transect.imagery.tiff.tags import TiffTags

# Size of an image's cache; a move needs twice as much. A row of 640 px windows across 100,000 columns takes 192 MB.
_BAND_BYTES = 192 << 20
# GDAL decompresses whole blocks, so a larger one makes reading in windows pointless.
_LARGEST_BLOCK_BYTES = 256 << 20
# rasterio does not wrap some of GDAL's own errors.
_GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
# Number of blocks of a larger file that are read to measure the depth of its samples.
_SAMPLED_BLOCKS = 400
_MEASURED_PIXELS = 4_000_000
# Block limit in a file that is decoded whole anyway.
_LARGEST_WHOLE_BYTES = 1 << 30
_EXPORT = ", with gdal_translate -ot Byte -scale for example"
_LAB = frozenset({8, 9, 10})


class UnknownTiffError(ImageError):
    """A TIFF that GDAL cannot open, or whose rows it would reorder wrongly."""


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

    def contains(self, other: "_Part") -> bool:
        return self.common(other) == other

    def common(self, other: "_Part") -> "_Part":
        """The intersection; its area is 0 if they do not meet."""
        return _Part(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def without(self, hole: "_Part") -> list["_Part"]:
        """The parts around `hole`, which is inside."""
        around = [
            _Part(self.left, self.top, self.right, hole.top),
            _Part(self.left, hole.bottom, self.right, self.bottom),
            _Part(self.left, hole.top, hole.left, hole.bottom),
            _Part(hole.right, hole.top, self.right, hole.bottom),
        ]
        return [part for part in around if part.area]

    def of(self, pixels: NDArray[Any], place: "_Part") -> NDArray[Any]:
        """A view of this part of `pixels`, which cover `place`."""
        return pixels[self.top - place.top : self.bottom - place.top, self.left - place.left : self.right - place.left]


_NOWHERE = _Part(0, 0, 0, 0)


class WindowedTiff(Raster):
    """A TIFF that stays on disk; its memory is bounded for any size.

    Samples of more than 8 bits are reduced to 8 by their depth (see depth.py), palettes, grey and CMYK are converted to
    RGB, and bands other than red, green and blue are left out. `tags` are those of its first directory.
    Raises ImageError for a file that GDAL cannot open or samples of another kind.
    """

    def __init__(
        self, source: Path | bytes, label: str, tags: TiffTags, max_pixels: int | None, rendering: Rendering
    ) -> None:
        self._label = label
        self._orientation = tags.orientation
        self._max_pixels = max_pixels
        with ExitStack() as stack, self._gdal():
            # Most images are not maps.
            warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
            self._dataset: Any = self._open(stack, source)
            structure = self._dataset.tags(ns="IMAGE_STRUCTURE")
            if (
                tags.orientation != 1
                and "SOURCE_COLOR_SPACE" in structure
                and "JPEG" not in structure.get("COMPRESSION", "")
            ):
                # libtiff rotates each strip by itself in this case.
                raise UnknownTiffError(f"{label} is rotated and has {structure['SOURCE_COLOR_SPACE']}; save it as RGB.")
            if tags.photometric in _LAB and "SOURCE_COLOR_SPACE" not in structure:
                raise ImageError(f"{label} has L*a*b* colours; export it as 8-bit RGB.")
            colours = [colour.name for colour in self._dataset.colorinterp]
            self._channels = choose_channels(label, colours, self._dataset.descriptions, rendering.bands)
            self._bands = list(self._channels.bands)
            self._sample_type = self._kind_of_samples()
            self._band, self._band_at = self._empty(_NOWHERE), _NOWHERE
            super().__init__(*upright_size(self._dataset.width, self._dataset.height, tags.orientation))
            self._check_blocks()
            self._inverted = "YES" in (structure.get("MINISWHITE"), self._band_structure().get("MINISWHITE"))
            self._table: NDArray[np.uint8] | None = self._small_table()
            self.depth = self._find_depth(tags, rendering.depth)
            remarks = (self._channels.remark, self.depth.remark if self.depth is not None else "")
            self.remarks = tuple(remark for remark in remarks if remark)
            self._files = stack.pop_all()

    def _open(self, stack: ExitStack, source: Path | bytes) -> Any:
        try:
            return open_geotiff(stack, source)
        except RefersElsewhereError as error:
            raise ImageError(f"{self._label} names another file to be read in its place; export it anew.") from error
        except _GDAL_ERRORS as error:
            raise UnknownTiffError(
                f"{self._label} is truncated or damaged and cannot be decoded; copy it again from its source."
            ) from error

    def whole(self) -> NDArray[np.uint8]:
        """All pixels, upright, of shape (H, W, 3). Raises ImageError."""
        everything = _Part(0, 0, self._dataset.width, self._dataset.height)
        raw = self._empty(everything)
        with self._gdal():
            self._dataset.read(self._bands, out=raw.transpose(2, 0, 1))
        return upright(self._rgb(raw, copy=False), self._orientation)

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
        if not self._band_at.contains(window):
            self._move_band(self._band_for(window))
        return upright(self._rgb(window.of(self._band, self._band_at)), self._orientation)

    def close(self) -> None:
        """Close the file."""
        self._band, self._band_at = self._empty(_NOWHERE), _NOWHERE
        with self._gdal():
            self._files.close()

    @contextmanager
    def _gdal(self) -> Iterator[None]:
        """Run GDAL with our options; convert its errors to ImageError."""
        try:
            with rasterio.Env(**GDAL_OPTIONS):
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
        """Move the cached band to `part`, reading only what it does not contain yet."""
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
        """The part to read for a window: whole blocks, extended towards the next windows up to the cache size."""
        whole = _Part(0, 0, self._dataset.width, self._dataset.height)
        most = _BAND_BYTES // (len(self._bands) * self._sample_type.itemsize)
        rows, columns = self._dataset.block_shapes[0]
        if columns == whole.right:
            columns = 1  # strips: reading part of a row costs a whole row, so cache as much as fits
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

    def _kind_of_samples(self) -> np.dtype[Any]:
        kinds = {np.dtype(self._dataset.dtypes[band - 1]) for band in self._bands}
        wrong = next((kind for kind in kinds if kind not in (np.uint8, np.uint16)), None)
        if wrong is not None and wrong.kind == "f":
            raise ImageError(f"{self._label} has floating-point samples; export it as 8-bit RGB{_EXPORT}.")
        if wrong is not None:
            raise ImageError(f"{self._label} has samples of type {wrong}; export it as 8-bit RGB{_EXPORT}.")
        return max(kinds, key=lambda kind: kind.itemsize)

    def _band_structure(self) -> dict[str, str]:
        return dict(self._dataset.tags(self._bands[0], ns="IMAGE_STRUCTURE"))

    def _small_table(self) -> NDArray[np.uint8] | None:
        """A lookup table from stored samples to 8 bits, (n,) or (n, 3) for a palette; None if not needed."""
        size = 1 << 8 * self._sample_type.itemsize
        if self._channels.kind == "palette":
            table = np.zeros((size, 3), np.uint8)
            for sample, colour in self._dataset.colormap(1).items():
                table[sample] = colour[:3]
            return table
        bits = int(self._band_structure().get("NBITS", 8))
        if size > 256 or (bits == 8 and not self._inverted):
            return None
        shown = (np.arange(256) * 255 // ((1 << min(bits, 8)) - 1)).clip(0, 255)
        return np.asarray(255 - shown if self._inverted else shown, dtype=np.uint8)

    def _find_depth(self, tags: TiffTags, requested: int | None) -> Depth | None:
        """The depth of 16-bit samples: requested, stated by the file, or measured; None for others."""
        if self._sample_type != np.uint16 or self._channels.kind == "palette":
            return None
        if requested is not None:
            return Depth(requested)
        nbits = int(self._band_structure().get("NBITS", 16))
        if nbits < 16:
            return Depth(max(nbits, 8))
        if tags.most is not None and tags.most < 65535:
            return Depth(stated_bits(tags.most))
        return self._measure().depth(self._stated_max())

    def _stated_max(self) -> float | None:
        try:
            return max(float(self._dataset.tags(band)["STATISTICS_MAXIMUM"]) for band in self._bands)
        except (KeyError, ValueError):
            return None

    def _measure(self) -> Samples:
        """Statistics of all samples of a file, or of blocks spread over a large one."""
        samples = Samples(self._dataset.nodata)
        width, height = self._dataset.width, self._dataset.height
        rows, columns = self._dataset.block_shapes[0]
        if width * height <= WHOLE_BELOW:
            deep = max(_MEASURED_PIXELS // width // STRIDE, 1) * STRIDE
            windows = [Window(0, top, width, min(deep, height - top)) for top in range(0, height, deep)]
        else:
            down, across = -(-height // rows), -(-width // columns)
            step = max(down * across // _SAMPLED_BLOCKS, 1)
            corners = (divmod(number, across) for number in range(0, down * across, step | 1))
            windows = [
                Window(j * columns, i * rows, min(columns, width - j * columns), min(rows, height - i * rows))
                for i, j in corners
            ]
        for window in windows:
            part = self._dataset.read(self._bands, window=window)
            samples.add(part.transpose(1, 2, 0), window.row_off, window.col_off)
        return samples

    def _check_blocks(self) -> None:
        rows, columns = self._dataset.block_shapes[0]
        sample = self._dataset.count * np.dtype(self._dataset.dtypes[0]).itemsize
        most = _LARGEST_BLOCK_BYTES
        if self.width * self.height <= WHOLE_BELOW:
            most = max(most, min(self.width * self.height * sample, _LARGEST_WHOLE_BYTES))
        if rows * columns * sample > most:
            raise ImageError(
                f"{self._label} is stored in blocks of {columns} x {rows} pixels, too large to be read piece by piece; "
                "rewrite it in tiles, with gdal_translate -co TILED=YES for example."
            )

    def _rgb(self, raw: NDArray[Any], *, copy: bool = True) -> NDArray[np.uint8]:
        if self._table is not None:
            shown = self._table[raw]
        elif self.depth is not None:
            shown = shift(raw, self.depth.bits)
            shown = np.asarray(255 - shown if self._inverted else shown, np.uint8)
        else:
            # A copy, so that a queued window does not keep the whole band in memory.
            shown = raw.copy() if copy else raw
        shown = shown.reshape(*raw.shape[:2], -1)
        if self._channels.kind == "cmyk":
            # libtiff's conversion: r = (255 - c)(255 - k) / 255.
            inks = 255 - shown.astype(np.uint16)
            shown = (inks[:, :, :3] * inks[:, :, 3:] // 255).astype(np.uint8)
        return np.asarray(np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown, dtype=np.uint8)
