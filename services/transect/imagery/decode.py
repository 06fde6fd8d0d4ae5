"""Image files to RGB arrays. A file that cannot be decoded to its last row is an error, never a grey half."""

import io
import struct
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from transect.errors import ImageError, ImageTooLargeError
from transect.imagery.orientation import orientation_of, upright
from transect.picture_kinds import READ_NAMES, READ_SUFFIXES, kind_of_stream

# Pillow's names of what picture_kinds.READ_KINDS holds. MPO comes through JPEG's reader; Pillow fails on every other
# format when MPO is named.
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "JPEG2000", "GIF", "AVIF")
IMAGE_SUFFIXES = READ_SUFFIXES

# Our own limit (max_pixels) is checked before any pixel is decoded, and it is a setting.
# Pillow's is a fixed number that orthomosaics pass.
Image.MAX_IMAGE_PIXELS = None

DECODE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, struct.error)


def decode_image(source: Path | bytes, *, name: str = "", max_pixels: int | None) -> NDArray[np.uint8]:
    """Decode an image file or its bytes to RGB of shape (H, W, 3), uint8.

    The EXIF orientation is applied. Grey, palette, CMYK and 16-bit images are converted; alpha is
    dropped; the first frame of several is taken. `name` is what errors call it (default: the path).

    Raises ImageError when the file is missing, empty, no image, truncated or damaged, holds
    floating-point samples; ImageTooLargeError when it has more than `max_pixels` pixels.
    """
    label = label_of(source, name)
    with open_image(source, label) as image:
        width, height = image.size
        if max_pixels is not None and width * height > max_pixels:
            raise ImageTooLargeError(
                f"{label} has {width} x {height} pixels, more than the limit of {max_pixels} (TRANSECT_MAX_PIXELS)."
            )
        try:
            pixels = _turbo_jpeg(source, image)
            if pixels is None:
                image.load()
                pixels = _to_rgb(image, label)
            return upright(pixels, orientation_of(image, DECODE_ERRORS))
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError(f"{label} does not fit into memory; cut it into smaller files.") from error
        except DECODE_ERRORS as error:
            raise ImageError(
                f"{label} is truncated or damaged and cannot be decoded; copy it again from its source."
            ) from error


def label_of(source: Path | bytes, name: str) -> str:
    """What errors call an image: its name, else its path."""
    return name or (str(source) if isinstance(source, Path) else "The image")


def open_image(source: Path | bytes, label: str) -> Image.Image:
    """Open an image without decoding its pixels. Raises ImageError as decode_image does."""
    if isinstance(source, Path):
        try:
            size = source.stat().st_size
        except FileNotFoundError as error:
            raise ImageError(f"{label} does not exist.") from error
        except OSError as error:
            raise ImageError(f"{label} cannot be read: {error.strerror}.") from error
        if source.is_dir():
            raise ImageError(f"{label} is a folder, not an image.")
    else:
        size = len(source)
    if size == 0:
        raise ImageError(f"{label} is empty (0 bytes).")
    _require_read_kind(source, label)
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGE_FORMATS)
    except (UnidentifiedImageError, ImportError) as error:
        # ImportError: in a process that trains, Ultralytics replaces Image.open by its own, which
        # looks for one more decoder before it gives up.
        raise ImageError(f"{label} is not an image that can be read ({READ_NAMES}).") from error
    except PermissionError as error:
        raise ImageError(f"{label} cannot be read: {error.strerror}.") from error
    except DECODE_ERRORS as error:
        raise ImageError(f"{label} is damaged and cannot be opened; copy it again from its source.") from error


def _require_read_kind(source: Path | bytes, label: str) -> None:
    """Raise ImageError, with the way to convert it, for a picture of a known kind that is not read."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            kind = kind_of_stream(source if isinstance(source, Path) else label, stream)
    except OSError as error:
        raise ImageError(f"{label} cannot be read: {error.strerror}.") from error
    if kind is not None and not kind.read:
        raise ImageError(kind.refusal(label))


def _turbo_jpeg(source: Path | bytes, image: Image.Image) -> NDArray[np.uint8] | None:
    """The pixels of a plain JPEG, as Pillow decodes them, in a third of its time; None leaves it to Pillow.

    `strict` turns every warning of the decoder into an error, truncation among them. Pillow then has
    the last word, which reads past harmless damage and refuses the rest.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    try:
        pixels = simplejpeg.decode_jpeg(source.read_bytes() if isinstance(source, Path) else source, strict=True)
    except ValueError:
        return None
    return np.asarray(pixels, dtype=np.uint8) if pixels.shape == (image.height, image.width, 3) else None


def _to_rgb(image: Image.Image, label: str) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ImageError(f"{label} holds floating-point samples; export it as 8-bit RGB.")
    if image.mode.startswith("I"):
        # 16-bit grey: the high byte, which is also what Pillow does with 16-bit colour.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)
