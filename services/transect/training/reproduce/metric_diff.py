"""The metrics of two trainings, compared value by value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from transect.wording import count_of

# The same operations in the same order give equal values; printed values may be rounded.
TOLERANCE = 1e-6
# MLflow stores infinity as the largest float.
_INFINITE = 1e308
_MOST_NAMED = 5

Histories = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class MetricDifference:
    """The largest difference of a metric: both values at that step; `new` is None where the second run has none."""

    metric: str
    step: int
    old: float
    new: float | None
    amount: float


@dataclass(frozen=True)
class MetricDiff:
    """The result of a comparison: one entry a metric, in descending order of difference."""

    differences: tuple[MetricDifference, ...]

    @property
    def different(self) -> tuple[MetricDifference, ...]:
        """The metrics that differ by more than TOLERANCE."""
        return tuple(one for one in self.differences if not one.amount <= TOLERANCE)

    @property
    def largest(self) -> float:
        """The largest difference; 0 where there is nothing to compare."""
        return self.differences[0].amount if self.differences else 0.0

    @property
    def sentence(self) -> str:
        """The result as a sentence."""
        count = len(self.differences)
        if not self.different:
            if self.largest:
                found = f"{count_of(count, 'metric differs', 'metrics differ')} by {self.largest:.3g} at most"
            else:
                found = f"{count_of(count, 'metric has', 'metrics have')} equal values at every step"
            return f"The same to {TOLERANCE:g}: {found}."
        named = ", ".join(_describe(one) for one in self.different[:_MOST_NAMED])
        more = f" and {len(self.different) - _MOST_NAMED} more" if len(self.different) > _MOST_NAMED else ""
        return f"Not the same: {len(self.different)} of {count_of(count, 'metric')} differ: {named}{more}."


def compare_histories(old: Histories, new: Histories) -> MetricDiff:
    """Compare every value of `old` with that of `new` at the same step; `new` may have more."""
    found = [_largest_difference(metric, steps, new.get(metric, {})) for metric, steps in old.items() if steps]
    return MetricDiff(tuple(sorted(found, key=lambda one: (-one.amount, one.metric))))


def _largest_difference(metric: str, old: Mapping[int, float], new: Mapping[int, float]) -> MetricDifference:
    all_steps = [
        MetricDifference(metric, step, value, new.get(step), _amount(value, new.get(step)))
        for step, value in old.items()
    ]
    return max(all_steps, key=lambda one: (one.amount, -one.step))


def _amount(old: float, new: float | None) -> float:
    """The absolute difference of two values; NaN equals NaN, and differs infinitely from a number or a missing one."""
    if new is None or math.isnan(old) != math.isnan(new):
        return math.inf
    if math.isnan(old) or _bounded(old) == _bounded(new):
        return 0.0
    return abs(_bounded(old) - _bounded(new))


def _bounded(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= _INFINITE else value


def _describe(one: MetricDifference) -> str:
    if one.new is None:
        return f"{one.metric} is missing at step {one.step}"
    return f"{one.metric} by {one.amount:.3g} (step {one.step}: {one.old:g}, now {one.new:g})"
