"""The image files of a training set: found as Ultralytics finds them, and known to be whole."""

import struct
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from transect.errors import DatasetError

# What both Ultralytics and our own decoder read.
IMAGE_SUFFIXES = frozenset({".bmp", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})

_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})


def list_images(source: Path, root: Path) -> list[Path]:
    """Images of one source: a folder (searched to any depth), an image, or a text file of paths.

    Lines of a text file that begin with `./` are relative to that file; other relative lines are
    relative to the dataset's `root`. Hidden files are left out. Raises DatasetError when `source`
    is missing or a line names no file.
    """
    if source.is_dir():
        found = (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        return sorted(path for path in found if not _hidden(path.relative_to(source)) and path.is_file())
    if not source.is_file():
        raise DatasetError(f"{source} does not exist; give a folder of images, or a text file that lists them.")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return [source]
    return sorted(_listed(source, root))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels after EXIF orientation, from the header alone.

    Raises DatasetError when the file is not an image, or is too large to train on whole.
    """
    try:
        # Pillow warns of half the size that it refuses; pictures of that size are still usable.
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            width, height = image.size
            # Pillow would decode a whole PNG to look for EXIF behind the picture, where cameras do not put it.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION) in _TURNED
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path} is too large to train on whole; cut it into tiles.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error) as error:
        reason = "it is empty" if path.is_file() and path.stat().st_size == 0 else "it is not an image"
        raise DatasetError(f"{path} cannot be read: {reason}. Replace it or take it out of the set.") from error
    return (height, width) if turned else (width, height)


def check_whole(path: Path, content: bytes) -> None:
    """Raise DatasetError when a JPEG or PNG file ends before its picture does.

    OpenCV fills the missing part with grey and says nothing, so a truncated picture would be
    trained on.
    """
    whole = True
    if content.startswith(b"\xff\xd8"):
        whole = content.rfind(b"\xff\xd9") > _scan_start(content)
    elif content.startswith(b"\x89PNG"):
        whole = content.rfind(b"IEND") > 0
    if not whole:
        raise DatasetError(f"{path} is truncated. Replace it or take it out of the set.")


def _scan_start(content: bytes) -> int:
    """Offset of a JPEG's first picture data: the embedded thumbnail has an end marker of its own.

    Walks the marker segments (ITU-T T.81, annex B).
    """
    offset = 2
    while offset + 4 <= len(content) and content[offset] == 0xFF:
        marker = content[offset + 1]
        if marker == 0xDA:
            return offset
        if marker == 0xFF:
            offset += 1
            continue
        offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
    return len(content)


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _listed(source: Path, root: Path) -> list[Path]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{source} is neither a folder, an image nor a text file of image paths.") from error
    images = []
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line:
            continue
        base = source.parent if line.startswith("./") else root
        image = base / line
        if not image.is_file():
            raise DatasetError(f"{source}, line {number}: {image} does not exist.")
        images.append(image)
    return images
