"""Tests of whether two groups of pictures differ, where what is in one picture is not independent. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr

FloatArray = NDArray[np.float64]

# Fewer pictures than this have no spread worth the name.
_LEAST_PICTURES = 5


def outside(reference: FloatArray, mean: FloatArray, least_sd: FloatArray) -> float | None:
    """The p-value of `mean` (k,) as one more picture like those of `reference` (n, k).

    A survey has one light and one ground, while the validation images have many: so its mean is held against the
    spread of single images, as a prediction of one more (Hotelling's T2: n (n - k) / ((n + 1) k (n - 1)) D2 is F with k
    and n - k degrees of freedom, where D is the Mahalanobis distance; Johnson and Wichern 2007, Applied Multivariate
    Statistical Analysis, ch. 5). Directions whose standard deviation is below `least_sd` (k,) are given that one.
    None where there are too few images.
    """
    n, k = reference.shape
    if n < max(_LEAST_PICTURES, k + 2):
        return None
    covariance = np.cov(reference.T).reshape(k, k)
    lacking = np.maximum(least_sd**2 - np.diag(covariance), 0.0)
    away = mean - reference.mean(axis=0)
    squared = float(away @ np.linalg.solve(covariance + np.diag(lacking + 1e-12), away))
    return float(fdtrc(k, n - k, squared * n * (n - k) / ((n + 1) * k * (n - 1))))


@dataclass(frozen=True)
class Grouped:
    """Values with the picture that each is of: a mean whose error knows that those of one picture go together."""

    mean: float
    se: float
    pictures: int

    @classmethod
    def of(cls, values: FloatArray, pictures: NDArray[np.int64]) -> "Grouped | None":
        """The mean of `values` (m,), by the ratio estimator over pictures (Cochran 1977, ch. 6); None for too few."""
        numbers, place = np.unique(pictures, return_inverse=True)
        if len(numbers) < _LEAST_PICTURES:
            return None
        counts, sums = np.bincount(place), np.bincount(place, values)
        mean = float(values.mean())
        residuals = sums - mean * counts
        many = len(numbers)
        se = math.sqrt(many / (many - 1) * float((residuals**2).sum())) / len(values)
        return cls(mean, se, many)


def rate(counts: FloatArray, areas: FloatArray) -> tuple[float, float]:
    """Counts an area over pictures (n,), and the standard error of its logarithm, which is right at a count of none.

    Half an event more is taken to be seen, and the error is never less than that of independent events.
    """
    total, area = float(counts.sum()) + 0.5, float(areas.sum())
    value, many = total / area, len(counts)
    residuals = counts - value * areas
    spread = many / max(many - 1, 1) * float((residuals**2).sum())
    return value, math.sqrt(max(spread, total)) / total


def p_beyond(difference: float, se: float, margin: float, pictures: float) -> float:
    """The p-value of a true difference of at most `margin` in either direction (Murphy and Myors 1999, J. Appl.
    Psychol. 84: 234-248), by Student's t with `pictures` - 1 degrees of freedom."""
    over = abs(difference) - margin
    if over <= 0:
        return 1.0
    if se <= 0:
        return 0.0
    return min(1.0, 2 * float(stdtr(max(pictures - 1, 1), -over / se)))


def holm(p_values: FloatArray, level: float) -> NDArray[np.bool_]:
    """Which hypotheses of a family are rejected at `level` for all together (Holm 1979, Scand. J. Stat. 6: 65-70)."""
    order = np.argsort(p_values, kind="stable")
    limits = level / np.arange(len(p_values), 0, -1)
    held = p_values[order] > limits
    first = int(np.argmax(held)) if held.any() else len(p_values)
    rejected = np.zeros(len(p_values), bool)
    rejected[order[:first]] = True
    return rejected
