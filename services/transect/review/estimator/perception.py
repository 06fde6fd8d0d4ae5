"""The share of animals that a reader of photos finds, from blind searches. Pure.

The model and the reader are no independent observers (what is hard to see is missed by both), so that Lincoln and
Petersen's number of animals would be too low. The reader's share of the model's animals corrects the reader's own
misses alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_REPLICATES = 2000
_SEED = 1970


@dataclass(frozen=True)
class Perception:
    """The share found, its standard error, and its basis: `found` of `shown` animals in `photos` blind searches."""

    share: float
    se: float
    found: int
    shown: int
    photos: int

    @property
    def cv(self) -> float:
        """The coefficient of variation; 0 where nothing was found."""
        return self.se / self.share if self.share > 0 else 0.0


def perception(photos: Sequence[tuple[int, int]]) -> Perception | None:
    """The reader's share from (animals that the model found, those of them that the reader marked blind) by photo.

    The standard error is a bootstrap over photos. None where the model found no animal in them.
    """
    rows = np.array([row for row in photos if row[0]], np.float64).reshape(-1, 2)
    if len(rows) == 0:
        return None
    # In an order of their own, so that that of the searches does not matter.
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    drawn = np.random.default_rng(_SEED).integers(0, len(rows), (_REPLICATES, len(rows)))
    sums = rows[drawn].sum(axis=1)
    shown, found = rows.sum(axis=0)
    se = float(np.std(sums[:, 1] / sums[:, 0], ddof=1)) if len(rows) > 1 else 0.0
    # With one photo, or with nothing missed, the bootstrap has no spread; that of so many trials is the least there is.
    # A reader who found none may still find some: one of so many and two more.
    share = float(found / shown) if found else 1 / (float(shown) + 2)
    least = float(np.sqrt((found + 1) * (shown - found + 1) / (shown + 2) ** 2 / (shown + 3)))
    return Perception(share, max(se, least), int(found), int(shown), len(photos))


def chapman(first: int, second: int, both: int) -> tuple[float, float]:
    """The number of animals and its variance from two independent observers.

    Seber 1970, Biometrics 26: 313-318, after Chapman 1951. For the report alone: a model and a person are not
    independent, so that the number is too low.
    """
    number = (first + 1) * (second + 1) / (both + 1) - 1
    variance = (first + 1) * (second + 1) * (first - both) * (second - both) / ((both + 1) ** 2 * (both + 2))
    return number, variance
