"""EXIF orientation (EXIF 2.32, tag 0x0112): mapping of stored rows and columns to the upright image.

With stored pixels S of R rows and C columns, the upright pixel at row y and column x is

    1: S[y, x]       2: S[y, C-1-x]   3: S[R-1-y, C-1-x]  4: S[R-1-y, x]
    5: S[x, y]       6: S[R-1-x, y]   7: S[R-1-x, C-1-y]  8: S[x, C-1-y]
"""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

TRANSPOSED = frozenset({5, 6, 7, 8})
_ROWS_REVERSED = frozenset({3, 4, 6, 7})
_COLUMNS_REVERSED = frozenset({2, 3, 7, 8})


def orientation_of(image: Image.Image, damage: tuple[type[Exception], ...]) -> int:
    """The orientation of an opened image, 1 to 8; 1 if reading its EXIF raises one of `damage`."""
    try:
        value = image.getexif().get(Base.Orientation, 1)
    except damage:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def orientation_in_file(path: Path, image: Image.Image, damage: tuple[type[Exception], ...]) -> int:
    """As orientation_of, for an image opened from `path` whose pixels are not needed.

    Pillow decodes a whole PNG to find EXIF after its pixels; this avoids that if there is none.
    """
    if image.format == "PNG" and "exif" not in image.info and not _has_late_exif(path):
        return 1
    return orientation_of(image, damage)


def _has_late_exif(path: Path) -> bool:
    """Whether chunks after the pixels of a PNG may contain EXIF (PNG, third edition, sections 5.3 and 5.6)."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            if head[4:] in (b"eXIf", b"zTXt", b"tEXt", b"iTXt"):
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


def upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Stored pixels of shape (R, C, 3) in upright orientation; at most two copies, usually one."""
    rotated: object = stored
    if orientation in (6, 8, 3):
        rotations = {6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE, 3: cv2.ROTATE_180}
        rotated = cv2.rotate(stored, rotations[orientation])
    elif orientation in (2, 4):
        rotated = cv2.flip(stored, 1 if orientation == 2 else 0)
    elif orientation in (5, 7):
        rotated = cv2.transpose(stored)
        if orientation == 7:
            rotated = cv2.flip(rotated, -1)
    return np.asarray(rotated, dtype=np.uint8)


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of the upright image."""
    return (height, width) if orientation in TRANSPOSED else (width, height)


def stored_window(
    window: tuple[int, int, int, int], stored_size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Map a window (x, y, width, height) of the upright image to stored pixels of (width, height)."""
    x, y, width, height = window
    if orientation in TRANSPOSED:
        x, y, width, height = y, x, height, width
    if orientation in _COLUMNS_REVERSED:
        x = stored_size[0] - x - width
    if orientation in _ROWS_REVERSED:
        y = stored_size[1] - y - height
    return x, y, width, height
