"""The key of a box: a name for it that its photo, its class and its place to a tenth of a pixel decide alone."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from transect.arrays import FloatArray

_CHUNK = 50_000
# Of a SHA-256.
_BYTES = 32


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
    # Eight bytes of a hash leave few rows that may be alike; their texts decide.
    _, group, size = np.unique(np.frombuffer(found, np.uint64)[::4], return_inverse=True, return_counts=True)
    seen: Counter[str] = Counter()
    for row in np.flatnonzero(size[group] > 1).tolist():
        text = box_text(photos[row], classes[row], boxes[row].tolist())
        seen[text] += 1
        if seen[text] > 1:
            again = hashlib.sha256(f"{text} {seen[text]}".encode()).digest()
            found[row * _BYTES : (row + 1) * _BYTES] = again
    digits = found.hex()
    return [digits[start : start + 2 * _BYTES] for start in range(0, len(digits), 2 * _BYTES)]
