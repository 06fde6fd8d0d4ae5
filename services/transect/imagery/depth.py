"""How many of 16 bits a picture uses: sensors of 10, 12 or 14 bits write 16, and their high byte alone is near black.

A depth of n bits shows the sample v as min(v >> (n - 8), 255).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Every such row and column is looked at for the spread of samples; for their maximum all are.
STRIDE = 4
# A picture of which 99% lies below this share of its depth would be near black.
_DARK = 0.25
# Samples that are looked at in one step.
_PART = 1 << 18


@dataclass(frozen=True)
class Depth:
    """The bits that are used, 8 to 16, and a remark where that was measured and not said."""

    bits: int
    remark: str = ""


class Samples:
    """What is known of the 16-bit samples of a picture, gathered part by part."""

    def __init__(self, empty: float | None = None) -> None:
        """`empty` is the sample that stands for no data."""
        self._empty = empty
        self._most = 0
        self._saturated = False
        self._counts = np.zeros(65536, np.int64)

    def add(self, part: NDArray[np.uint16], row: int = 0, column: int = 0) -> None:
        """Look at a part of shape (H, W, ...) whose first sample stands at `row` and `column`."""
        most = int(part.max(initial=0))
        if most > self._most or most == 65535:
            kept = part if self._empty is None else part[part != self._empty]
            self._saturated |= bool(kept.max(initial=0) == 65535)
            self._most = max(self._most, int(kept.max(initial=0, where=kept < 65535)))
        thin = part[-row % STRIDE :: STRIDE, -column % STRIDE :: STRIDE]
        self._counts += np.bincount(thin.reshape(-1), minlength=65536)

    def depth(self, said_most: float | None = None) -> Depth:
        """The depth that holds the samples; `said_most` is the largest one by the file's own statistics."""
        # 65535 alone above the rest marks clipping or no data.
        most = 65535 if self._saturated and (self._most >= 32768 or self._most == 0) else self._most
        said = said_most is not None and most <= said_most
        bits = _bits(int(said_most) if said and said_most is not None else most)
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
        if bits == 16 or said:
            return Depth(bits)
        return Depth(bits, f"its 16-bit samples reach {most}, so they are taken for {bits} bits; it does not say so.")


def shift(samples: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Samples of `bits` bits as 8."""
    shifted = samples >> np.uint16(bits - 8)
    return (shifted if bits == 16 else np.minimum(shifted, 255)).astype(np.uint8)


def depth_of(samples: NDArray[np.generic]) -> Depth:
    """The depth of a whole picture, (H, W) or (H, W, 3); samples beyond 16 bits count as the nearest that has them."""
    gathered = Samples()
    for rows in _rows(samples):
        gathered.add(_sixteen(samples[rows]), rows.start)
    return gathered.depth()


def as_rgb(samples: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Samples of `bits` bits, (H, W) or (H, W, 3), as RGB of 8 bits, (H, W, 3).

    Row by row, so that it takes hardly more memory than what it returns.
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


def said_bits(most: float) -> int:
    """The depth for a largest sample that the file names."""
    return _bits(int(most))


def _bits(most: int) -> int:
    return min(max(most.bit_length(), 8), 16)


def _percentile(counts: NDArray[np.int64], share: float) -> int | None:
    total = int(counts.sum())
    return int(np.searchsorted(np.cumsum(counts), share * total)) if total else None
