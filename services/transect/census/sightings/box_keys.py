"""The key of a box: a name for it that its photo, its class and its place to a tenth of a pixel decide alone."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from transect.arrays import FloatArray

_CHUNK = 50_000


def box_text(photo_sha256: str, class_name: str, box: Sequence[float]) -> str:
    """What the key of a box (x1, y1, x2, y2 in pixels) is the hash of."""
    x1, y1, x2, y2 = box
    return f"{photo_sha256} {class_name} {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}"


def box_keys(photos: Sequence[str], classes: Sequence[str], boxes: FloatArray) -> list[str]:
    """The keys of boxes (n, 4), by the SHA-256 of the photo and the class of each: 64 hexadecimal digits.

    Of boxes with one text the second has " 2" after it, the third " 3", in the order of the rows.
    """
    found = bytearray()
    for start in range(0, len(boxes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        for photo, name, box in zip(photos[rows], classes[rows], boxes[rows].tolist(), strict=True):
            found += hashlib.sha256(box_text(photo, name, box).encode()).digest()
    digests = np.frombuffer(found, "V32")
    _, first, number = np.unique(digests, return_index=True, return_inverse=True)
    keys = [digest.hex() for digest in map(bytes, digests)]
    seen: dict[int, int] = defaultdict(lambda: 1)
    for row in np.flatnonzero(first[number] != np.arange(len(number))).tolist():
        seen[number[row]] += 1
        text = f"{box_text(photos[row], classes[row], boxes[row].tolist())} {seen[number[row]]}"
        keys[row] = hashlib.sha256(text.encode()).hexdigest()
    return keys
