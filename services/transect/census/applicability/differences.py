"""Tests of whether two groups of pictures differ, with values clustered by picture. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr

from transect.arrays import FloatArray

# Fewer pictures than this give no usable variance.
_LEAST_PICTURES = 5
# A covariance of k directions needs so many times k images.
_FREEDOM_A_DIRECTION = 3


def outlier_p_value(
    reference: FloatArray, mean: FloatArray, least_sd: FloatArray, pooled: FloatArray | None = None
) -> float | None:
    """The p-value of `mean` (k,) as one more picture like those of `reference` (n, k).

    A survey has one light and one ground, while the validation images have many: so its mean is compared with the
    spread of single images, as a prediction of one more (Hotelling's T2 = D2 n / (n + 1), where D is the Mahalanobis
    distance; T2 (f - k + 1) / (f k) is F with k and f - k + 1 degrees of freedom; Johnson and Wichern 2007, Applied
    Multivariate Statistical Analysis, ch. 5 and 6). The covariance, of f degrees of freedom, is that of `reference`
    pooled with that of `pooled` (m, k), images of another mean. Standard deviations below `least_sd` (k,) are raised to
    it. Where there are few degrees of freedom, neighbouring directions are tested in groups, and the least p-value is
    multiplied by their number (Bonferroni). None where there are too few images.
    """
    n, k = reference.shape
    groups = [reference] if pooled is None or not len(pooled) else [reference, pooled]
    freedom = sum(len(one) - 1 for one in groups)
    if n < _LEAST_PICTURES:
        return None
    away = mean - reference.mean(axis=0)
    centred = np.concatenate([one - one.mean(axis=0) for one in groups])
    size = min(k, max(1, freedom // _FREEDOM_A_DIRECTION))
    parts = np.array_split(np.arange(k), math.ceil(k / size))
    p_values = [_one_more(centred[:, part], away[part], least_sd[part], (n, freedom)) for part in parts]
    return min(1.0, len(parts) * min(p_values))


def _one_more(centred: FloatArray, away: FloatArray, least_sd: FloatArray, known: tuple[int, int]) -> float:
    n, freedom = known
    k = len(away)
    covariance = centred.T @ centred / freedom
    lacking = np.maximum(least_sd**2 - np.diag(covariance), 0.0)
    squared = float(away @ np.linalg.solve(covariance + np.diag(lacking + 1e-12), away)) * n / (n + 1)
    return float(fdtrc(k, freedom - k + 1, squared * (freedom - k + 1) / (freedom * k)))


@dataclass(frozen=True)
class ClusteredMean:
    """The mean of values that are clustered by picture, with a cluster-robust standard error."""

    mean: float
    se: float
    pictures: int

    @classmethod
    def of(cls, values: FloatArray, pictures: NDArray[np.int64]) -> "ClusteredMean | None":
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
    """Counts an area over pictures (n,), and the standard error of its logarithm, which is valid at a count of none.

    Half an event is added, and the error is never less than that of independent events.
    """
    total, area = float(counts.sum()) + 0.5, float(areas.sum())
    value, many = total / area, len(counts)
    residuals = counts - value * areas
    spread = many / max(many - 1, 1) * float((residuals**2).sum())
    return value, math.sqrt(max(spread, total)) / total


def equivalence_p_value(difference: float, se: float, margin: float, pictures: float) -> float:
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
