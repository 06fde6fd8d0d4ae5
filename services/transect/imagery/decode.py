"""Decode image files to RGB arrays. A partly decodable file is an error, never a half-grey image."""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from transect.errors import ImageError, ImageTooLargeError
from transect.imagery.depth import Depth, as_rgb, depth_of
from transect.imagery.orientation import orientation_of, upright
from transect.pictures.jpeg import decode_plain
from transect.pictures.kinds import READ_NAMES, READ_SUFFIXES, kind_of_stream

# Pillow's names of READ_KINDS. Its JPEG reader reads MPO too; naming MPO makes Pillow fail on every
# other format.
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "JPEG2000", "GIF", "AVIF")
IMAGE_SUFFIXES = READ_SUFFIXES

# Our own limit (max_pixels) is checked before any pixel is decoded, and it is a setting.
# Pillow's is a constant that orthomosaics exceed.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of damaged EXIF by line of its own code; our metadata reader reports file and field.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

DECODE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, struct.error)


@dataclass(frozen=True)
class Decoded:
    """Upright RGB pixels of shape (H, W, 3), and sentences on decisions in reading them."""

    pixels: NDArray[np.uint8]
    remarks: tuple[str, ...] = ()


def decode_with_pillow(source: Path | bytes, label: str, max_pixels: int | None, depth: int | None = None) -> Decoded:
    """Decode an image that Pillow opens; TurboJPEG decodes JPEGs. `depth` is that of 16-bit samples, if known.

    Raises ImageError and ImageTooLargeError: see reader.decode_image.
    """
    with open_image(source, label) as image:
        check_size(label, *image.size, max_pixels)
        try:
            pixels, remark = _plain_jpeg(source, image, label)
            if pixels is None:
                image.load()
                pixels, remark = _to_rgb(source, image, label, depth)
            return Decoded(upright(pixels, orientation_of(image, DECODE_ERRORS)), (remark,) if remark else ())
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError(f"{label} does not fit into memory; cut it into smaller files.") from error
        except DECODE_ERRORS as error:
            raise ImageError(_damaged(label)) from error


def check_size(label: str, width: int, height: int, max_pixels: int | None) -> None:
    """Raise ImageTooLargeError, before anything is decoded, for more than `max_pixels`."""
    if max_pixels is not None and width * height > max_pixels:
        raise ImageTooLargeError(
            f"{label} has {width} x {height} pixels, more than the limit of {max_pixels} (TRANSECT_MAX_PIXELS)."
        )


def _damaged(label: str) -> str:
    return f"{label} is truncated or damaged and cannot be decoded; copy it again from its source."


def label_of(source: Path | bytes, name: str) -> str:
    """The name of an image in errors: `name`, else its path."""
    return name or (str(source) if isinstance(source, Path) else "The image")


def check_file(source: Path | bytes, label: str) -> None:
    """Raise ImageError for a file that is missing, empty or a folder."""
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


def open_image(source: Path | bytes, label: str) -> Image.Image:
    """Open an image without decoding its pixels. Raises ImageError as decode_image does."""
    check_file(source, label)
    require_read_kind(source, label)
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGE_FORMATS)
    except (UnidentifiedImageError, ImportError) as error:
        # ImportError: in a training process, Ultralytics replaces Image.open by its own, which
        # tries to import one more decoder.
        raise ImageError(f"{label} is not an image that can be read ({READ_NAMES}).") from error
    except PermissionError as error:
        raise ImageError(f"{label} cannot be read: {error.strerror}.") from error
    except DECODE_ERRORS as error:
        raise ImageError(f"{label} is damaged and cannot be opened; copy it again from its source.") from error


def require_read_kind(source: Path | bytes, label: str) -> None:
    """Raise ImageError with a conversion hint for a picture of a known but unsupported kind."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            kind = kind_of_stream(source if isinstance(source, Path) else label, stream)
    except OSError as error:
        raise ImageError(f"{label} cannot be read: {error.strerror}.") from error
    if kind is not None and not kind.read:
        raise ImageError(kind.refusal(label))


def _plain_jpeg(source: Path | bytes, image: Image.Image, label: str) -> tuple[NDArray[np.uint8] | None, str]:
    """The pixels of a plain JPEG and a remark; None to decode it with Pillow."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None, ""
    decoded = decode_plain(source.read_bytes() if isinstance(source, Path) else source)
    if decoded == "truncated":
        raise ImageError(_damaged(label))
    if decoded is None or decoded[0].shape != (image.height, image.width, 3):
        return None, ""
    return decoded


def _to_rgb(source: Path | bytes, image: Image.Image, label: str, depth: int | None) -> tuple[NDArray[np.uint8], str]:
    if image.mode == "F":
        raise ImageError(f"{label} has floating-point samples; export it as 8-bit RGB.")
    deep = _sixteen_bits(source, image)
    if deep is not None:
        found = Depth(depth) if depth is not None else depth_of(deep)
        return as_rgb(deep, found.bits), found.remark
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8), ""


def is_deep_png(source: Path | bytes, image: Image.Image) -> bool:
    """Whether a picture is a 16-bit PNG that Pillow would reduce to 8 bits."""
    if image.format != "PNG" or image.mode.startswith("I"):
        return False
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        return stream.read(25)[24:] == b"\x10"  # the bit depth of IHDR (PNG, section 11.2.1)


def _sixteen_bits(source: Path | bytes, image: Image.Image) -> NDArray[np.generic] | None:
    """16-bit samples as (H, W) or (H, W, 3), of any type; None for other depths.

    Pillow keeps only the high bytes of colour PNGs, so OpenCV decodes them again after Pillow has found them complete.
    """
    if image.mode.startswith("I"):
        # Mode I has 32 bits; values of a 16-bit PNG or TIFF always fit.
        return np.asarray(image)
    if not is_deep_png(source, image):
        return None
    data = source.read_bytes() if isinstance(source, Path) else source
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_ANYDEPTH)
    if stored is None or stored.dtype != np.uint16 or stored.shape[:2] != (image.height, image.width):
        return None
    if stored.ndim == 2 or stored.shape[2] < 3:
        return np.asarray(stored.reshape(*stored.shape[:2], -1)[:, :, 0])
    return np.asarray(stored[:, :, 2::-1])
