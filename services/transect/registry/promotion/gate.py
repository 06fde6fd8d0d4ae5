"""The promotion gate: limits on a candidate's metrics, and the check against them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from transect.config_files import read_yaml_mapping
from transect.config_models import ConfigModel, NameKeys, check
from transect.engine import COUNT_ERROR, MAP50_95, RECALL, Gain, PairedComparison
from transect.errors import InputError

_RETIRED = {
    "max_loss": "min_gain, the least gain (max_loss: 0.005 is min_gain: -0.005 with significant_gain: false)",
}
# Tolerance for rounding errors of subtractions.
_ROUNDING = 1e-9


class ClassLimits(ConfigModel):
    """The greatest loss allowed in one class; None for no limit of its own.

    `map50_95` and `recall` are differences of shares. `count_error` is how much further from the
    labelled number the candidate may count, as a share of it, up or down. Recall and count are measured
    at each package's recommended thresholds.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    map50_95: float | None = Field(default=None, ge=0)
    recall: float | None = Field(default=None, ge=0)
    count_error: float | None = Field(default=None, ge=0)

    def by_quantity(self) -> dict[str, float]:
        """The limits that are set, under the engine's names."""
        named = {MAP50_95: self.map50_95, RECALL: self.recall, COUNT_ERROR: self.count_error}
        return {quantity: limit for quantity, limit in named.items() if limit is not None}


class LossLimits(ClassLimits):
    """The greatest loss allowed in any class; None for no limit."""

    map50_95: float | None = Field(default=0.03, ge=0)
    recall: float | None = Field(default=0.03, ge=0)
    count_error: float | None = Field(default=0.05, ge=0)


class GateConfig(ConfigModel):
    """The gate's limits, as in configs/promotion.yaml, which explains each.

    `min_map50` applies to a first promotion, when there is no production. The others compare with
    production on the same images: `min_gain` of mAP50-95, whose lower bootstrap limit at `confidence`
    must also be above zero with `significant_gain`, on at least `least_images`; `max_class_loss` of every
    class, or of single ones in `classes`; `max_latency_ratio`, None for no limit.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    min_map50: float = Field(default=0.1, ge=0, le=1)
    min_gain: float = Field(default=0.005, ge=-1, le=1)
    significant_gain: bool = True
    confidence: float = Field(default=0.95, gt=0, lt=1)
    max_class_loss: LossLimits = LossLimits()
    classes: Annotated[dict[str, ClassLimits], NameKeys] = Field(default_factory=dict)
    max_latency_ratio: float | None = Field(default=2.0, gt=0)

    def class_limits(self, name: str) -> dict[str, float]:
        """The greatest loss of class `name` by quantity; its own limits override the general ones."""
        own = self.classes.get(name, ClassLimits())
        return self.max_class_loss.by_quantity() | own.by_quantity()

    @property
    def least_images(self) -> int:
        """The fewest images that can show at `confidence` that one model is better.

        On n images, of two equal models one is ahead on all of them with probability 2^(1-n) (sign test).
        """
        return 1 + math.ceil(-math.log2(1 - self.confidence) - _ROUNDING)

    def as_params(self) -> dict[str, object]:
        """Every limit as a name and a plain value: min_gain, max_class_loss.recall, classes.cow.recall."""
        return dict(_flat("", self.model_dump(exclude_none=True)))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Metrics of one model on the test split: shares from 0 to 1, except the signed count error.

    `precision`, `recall` and `count_error` are at the package's recommended threshold, and None if the
    denominator is zero. `classes` has each class's values by name. `precision_used` is the numeric
    precision of inference.
    """

    map50: float
    map50_95: float
    precision: float | None
    recall: float | None
    count_error: float | None = None
    precision_used: str = "fp32"
    classes: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Median milliseconds per test image of each model, timed alternately, and their median ratio.

    `ratio_low` is a lower limit of the ratio, because single rounds vary on a busy machine.
    """

    candidate_ms: float
    production_ms: float
    ratio: float
    ratio_low: float
    images: int
    rounds: int


@dataclass(frozen=True)
class Evidence:
    """The measurements that decide on a candidate; only `candidate` is set in a first promotion.

    `not_numbers` are metrics of its training run whose last value is not finite.
    """

    candidate: Measured
    production: Measured | None = None
    paired: PairedComparison | None = None
    latency: Latency | None = None
    not_numbers: tuple[str, ...] = ()


def load_gate(path: Path) -> GateConfig:
    """Read the gate's limits. Raises InputError if the file is missing, malformed or has a bad value."""
    document = read_yaml_mapping(path, InputError, hint="name another with --gate")
    for old, new in _RETIRED.items():
        if old in document:
            raise InputError(document.placed(f"{path}: {old} is no longer known; it is now {new}", old))
    return check(GateConfig, document, InputError, "the gate")


def judge(evidence: Evidence, gate: GateConfig) -> list[str]:
    """All reasons to refuse the candidate, as clauses of a sentence; empty if it passes."""
    refusals = [f"{name} of its training run is not a number" for name in evidence.not_numbers]
    refusals += _not_numbers(evidence)
    if evidence.production is None:
        found = evidence.candidate.map50
        # `not >=` also refuses NaN.
        if not found >= gate.min_map50:
            refusals.append(f"its mAP50 is {found:.3f} and a first promotion needs {gate.min_map50:g}")
        return refusals
    refusals += _judge_gain(evidence, gate)
    refusals += _judge_classes(evidence, gate)
    refusals += _judge_latency(evidence, gate)
    return refusals


def _not_numbers(evidence: Evidence) -> Iterator[str]:
    for whose, measured in (("its", evidence.candidate), ("production's", evidence.production)):
        values = {} if measured is None else {"mAP50": measured.map50, "mAP50-95": measured.map50_95}
        for name, value in values.items():
            if not math.isfinite(value):
                yield f"{whose} {name} on the test split is not a number"


def _judge_gain(evidence: Evidence, gate: GateConfig) -> Iterator[str]:
    gain = evidence.paired.overall.get(MAP50_95) if evidence.paired else None
    if gain is None or evidence.paired is None:
        yield "the test split has no labelled object, so that nothing can be compared"
        return
    if not gain.gain >= gate.min_gain - _ROUNDING:
        yield (
            f"its mAP50-95 is {gain.candidate:.3f} and production's {gain.reference:.3f} on the same images, "
            f"a gain of {gain.gain:.3f}, and at least {gate.min_gain:g} is needed"
        )
    elif gate.significant_gain and evidence.paired.images < gate.least_images:
        yield (
            f"its gain in mAP50-95, {gain.gain:.3f} to {gain.candidate:.3f}, may be chance: the test split has "
            f"{evidence.paired.images} images, and {gate.confidence:.0%} confidence needs at least {gate.least_images}"
        )
    elif gate.significant_gain and not gain.low > 0:
        yield (
            f"its gain in mAP50-95, {gain.gain:.3f} to {gain.candidate:.3f}, may be chance: its {gate.confidence:.0%} "
            f"limits over {evidence.paired.images} images are {gain.low:.3f} to {gain.high:.3f}, and both must lie "
            "above 0"
        )


def _judge_classes(evidence: Evidence, gate: GateConfig) -> Iterator[str]:
    paired = evidence.paired
    if paired is None:
        return
    for name, gains in paired.classes.items():
        for quantity, limit in gate.class_limits(name).items():
            gain = gains[quantity]
            if not -gain.gain <= limit + _ROUNDING:
                chance = f"{gate.confidence:.0%} limits {-gain.high:.3f} to {-gain.low:.3f}"
                yield (
                    f"{name} loses {-gain.gain:.3f} of {_change(quantity, gain)} ({chance}, "
                    f"{paired.instances[name]} labelled), and at most {limit:g} may be lost"
                )
    yield from _judge_unlabelled(paired, gate)


def _judge_unlabelled(paired: PairedComparison, gate: GateConfig) -> Iterator[str]:
    """Check classes without labels in the test split: every detection of them is a false positive."""
    objects = sum(paired.instances.values())
    for name, (found, before) in paired.unlabelled.items():
        own = gate.classes.get(name, ClassLimits())
        if own.map50_95 is not None or own.recall is not None:
            yield f"the gate has limits for {name}, and no {name} is labelled in the test split"
        limit = gate.class_limits(name).get(COUNT_ERROR)
        if not objects or limit is None:
            continue
        if (more := (found - before) / objects) > limit + _ROUNDING:
            yield (
                f"it finds {found} {name} and production {before} where none is labelled, {more:.3f} more for each of "
                f"the {objects} labelled objects, and at most {limit:g} is allowed"
            )


def _change(quantity: str, gain: Gain) -> str:
    if quantity == COUNT_ERROR:
        return f"count accuracy, {gain.reference:+.1%} off before and {gain.candidate:+.1%} now"
    shown = "mAP50-95" if quantity == MAP50_95 else quantity
    return f"{shown}, {gain.reference:.3f} before and {gain.candidate:.3f} now"


def _judge_latency(evidence: Evidence, gate: GateConfig) -> Iterator[str]:
    latency, limit = evidence.latency, gate.max_latency_ratio
    if latency is not None and limit is not None and not latency.ratio_low <= limit:
        yield (
            f"an image takes it {latency.candidate_ms:.1f} ms and production {latency.production_ms:.1f} ms, "
            f"{latency.ratio:.2f} times as long ({latency.ratio_low:.2f} at the least), and at most {limit:g} times is "
            "allowed"
        )


def _flat(prefix: str, values: dict[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value
