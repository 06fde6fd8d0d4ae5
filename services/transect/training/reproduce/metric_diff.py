"""Whether two trainings came out the same, metric by metric."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Between two programs that compute the same in the same order there is nothing at all; between two that print what
# they compute there may be a rounding.
TOLERANCE = 1e-6
# MLflow keeps infinity as the largest number.
_INFINITE = 1e308
_NAMED = 5

Histories = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Difference:
    """Where a metric differs most: both values at that step; `new` is None where the second training has none."""

    metric: str
    step: int
    old: float
    new: float | None
    amount: float


@dataclass(frozen=True)
class Sameness:
    """What came of a comparison: one entry a metric, the one that differs most first."""

    differences: tuple[Difference, ...]

    @property
    def different(self) -> tuple[Difference, ...]:
        """Those that are not the same."""
        return tuple(one for one in self.differences if not one.amount <= TOLERANCE)

    @property
    def largest(self) -> float:
        """The largest difference; 0 where there is nothing to compare."""
        return self.differences[0].amount if self.differences else 0.0

    @property
    def sentence(self) -> str:
        """The verdict."""
        if not self.different:
            most = f"differ by {self.largest:.3g} at most" if self.largest else "have equal values at every step"
            return f"The same to {TOLERANCE:g}: {len(self.differences)} metrics {most}."
        named = ", ".join(_told(one) for one in self.different[:_NAMED])
        more = f" and {len(self.different) - _NAMED} more" if len(self.different) > _NAMED else ""
        return f"Not the same: {len(self.different)} of {len(self.differences)} metrics differ: {named}{more}."


def compare_histories(old: Histories, new: Histories) -> Sameness:
    """Compare every value of `old` with that of `new` at the same step; `new` may have more."""
    found = [_worst(metric, steps, new.get(metric, {})) for metric, steps in old.items() if steps]
    return Sameness(tuple(sorted(found, key=lambda one: (-one.amount, one.metric))))


def _worst(metric: str, old: Mapping[int, float], new: Mapping[int, float]) -> Difference:
    all_steps = [
        Difference(metric, step, value, new.get(step), _amount(value, new.get(step))) for step, value in old.items()
    ]
    return max(all_steps, key=lambda one: (one.amount, -one.step))


def _amount(old: float, new: float | None) -> float:
    """How far apart two values are; NaN is like NaN, and infinitely far from a number or nothing."""
    if new is None or math.isnan(old) != math.isnan(new):
        return math.inf
    if math.isnan(old) or _bounded(old) == _bounded(new):
        return 0.0
    return abs(_bounded(old) - _bounded(new))


def _bounded(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= _INFINITE else value


def _told(one: Difference) -> str:
    if one.new is None:
        return f"{one.metric} is missing at step {one.step}"
    return f"{one.metric} by {one.amount:.3g} (step {one.step}: {one.old:g}, now {one.new:g})"
