"""Effective bit depth of 16-bit pictures: sensors of 10, 12 or 14 bits write 16, and their high byte is near black.

A depth of n bits maps the sample v to min(v >> (n - 8), 255).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The histogram samples every STRIDE-th row and column; the maximum uses all.
STRIDE = 4
# If 99% of a picture is below this share of its depth, it would be near black.
_DARK = 0.25
# Samples processed in one step.
_PART = 1 << 18


@dataclass(frozen=True)
class Depth:
    """The bits used, 8 to 16, with a remark if they were measured and not stated by the file."""

    bits: int
    remark: str = ""


class Samples:
    """Statistics of a picture's 16-bit samples, accumulated part by part."""

    def __init__(self, empty: float | None = None) -> None:
        """`empty` is the no-data value."""
        self._empty = empty
        self._most = 0
        self._saturated = False
        self._counts = np.zeros(65536, np.int64)

    def add(self, part: NDArray[np.uint16], row: int = 0, column: int = 0) -> None:
        """Add a part of shape (H, W, ...) whose first sample is at `row` and `column`."""
        most = int(part.max(initial=0))
        if most > self._most or most == 65535:
            kept = part if self._empty is None else part[part != self._empty]
            self._saturated |= bool(kept.max(initial=0) == 65535)
            self._most = max(self._most, int(kept.max(initial=0, where=kept < 65535)))
        thin = part[-row % STRIDE :: STRIDE, -column % STRIDE :: STRIDE]
        self._counts += np.bincount(thin.reshape(-1), minlength=65536)

    def depth(self, stated_max: float | None = None) -> Depth:
        """The depth that fits the samples; `stated_max` is the maximum by the file's own statistics."""
        # An isolated 65535 marks clipping or no data.
        most = 65535 if self._saturated and (self._most >= 32768 or self._most == 0) else self._most
        stated = stated_max is not None and most <= stated_max
        bits = _bits(int(stated_max) if stated and stated_max is not None else most)
        counts = self._counts.copy()
        counts[0] = 0  # borders
        if self._empty is not None and 0 <= self._empty < 65536:
            counts[int(self._empty)] = 0
        if most < 65535:
            counts[65535] = 0
        bright = _percentile(counts, 0.99)
        if bits > 8 and bright is not None and bright < _DARK * (1 << bits):
            fewer = max(_bits(_percentile(counts, 0.999) or 0), 8)
            if fewer < bits:
                return Depth(
                    fewer,
                    f"99% of its samples are below {bright + 1} of {1 << bits}, nearly black; it is shown as {fewer} "
                    f"bits, and what is brighter than {1 << fewer} as white.",
                )
        if bits == 16 or stated:
            return Depth(bits)
        return Depth(bits, f"its 16-bit samples reach {most}, so they are taken for {bits} bits; it does not say so.")


def shift(samples: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Convert samples of `bits` bits to 8 bits."""
    shifted = samples >> np.uint16(bits - 8)
    return (shifted if bits == 16 else np.minimum(shifted, 255)).astype(np.uint8)


def depth_of(samples: NDArray[np.generic]) -> Depth:
    """The depth of a whole picture, (H, W) or (H, W, 3); samples beyond 16 bits are clipped."""
    gathered = Samples()
    for rows in _rows(samples):
        gathered.add(_sixteen(samples[rows]), rows.start)
    return gathered.depth()


def as_rgb(samples: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Samples of `bits` bits, (H, W) or (H, W, 3), as RGB of 8 bits, (H, W, 3).

    Works row by row, so that it takes little more memory than the result.
    """
    shown = np.empty((*samples.shape[:2], 3), np.uint8)
    for rows in _rows(samples):
        part = shift(_sixteen(samples[rows]), bits)
        shown[rows] = part if part.ndim == 3 else part[:, :, None]
    return shown


def _rows(samples: NDArray[np.generic]) -> Iterator[slice]:
    """Slices of whole rows, of some hundred thousand samples each."""
    height = max(_PART // max(samples[:1].size, 1), 1)
    for top in range(0, len(samples), height):
        yield slice(top, min(top + height, len(samples)))


def _sixteen(part: NDArray[np.generic]) -> NDArray[np.uint16]:
    if part.dtype == np.uint16:
        return part.astype(np.uint16, copy=False)
    return np.asarray(part).clip(0, 65535).astype(np.uint16)


def stated_bits(most: float) -> int:
    """The depth for a stated maximum."""
    return _bits(int(most))


def _bits(most: int) -> int:
    return min(max(most.bit_length(), 8), 16)


def _percentile(counts: NDArray[np.int64], share: float) -> int | None:
    total = int(counts.sum())
    return int(np.searchsorted(np.cumsum(counts), share * total)) if total else None
