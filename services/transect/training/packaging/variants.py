"""Faster variants of a trained model: their comparison with fp32, and which of them are accepted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transect.engine import VARIANT_FILES, Evaluation, FastPrecision, Variant, VariantLimits


@dataclass(frozen=True)
class MeasuredVariant:
    """A measured variant; `reasons` are those for its rejection, empty when it is accepted."""

    variant: Variant
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The measurements, and whether the variant is in the package."""
        found = self.variant
        if self.reasons:
            return f"{found.precision} is not in the package, because {'; '.join(self.reasons)}: {found.summary}."
        return f"{found.precision} is in the package: {found.summary}."


@dataclass(frozen=True)
class VariantReport:
    """The measured variants, and for the `absent` ones the reason why they were not measured."""

    measured: tuple[MeasuredVariant, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> tuple[Variant, ...]:
        """The accepted variants, for the package."""
        return tuple(one.variant for one in self.measured if not one.reasons)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One line for each variant."""
        absent = tuple(f"{name} is not in the package: {why}." for name, why in self.absent.items())
        return (*(one.sentence for one in self.measured), *absent)

    def metrics(self) -> dict[str, float]:
        """The measurements under the names of the run, such as int8/mAP50-95_change."""
        return {
            f"{one.variant.precision}/{name}": value
            for one in self.measured
            for name, value in (
                ("mAP50-95_change", one.variant.map50_95_change),
                ("recall_change", one.variant.recall_change),
                ("count_error", one.variant.count_error),
                ("speedup", one.variant.speedup),
                ("passed", float(not one.reasons)),
            )
        }

    def tags(self) -> dict[str, str]:
        """The sentence of each variant, under transect.bf16 and so on."""
        return {f"transect.{sentence.split()[0]}": sentence for sentence in self.sentences}


def compare_with_fp32(
    precision: FastPrecision,
    found: Evaluation,
    reference: Evaluation,
    speedup: float,
    limits: VariantLimits,
    *,
    score_shift: tuple[float, ...] = (),
) -> Variant:
    """The variant's description from its evaluation and fp32's at the same threshold (see Variant)."""
    return Variant(
        precision=precision,
        files=VARIANT_FILES.get(precision, ()),
        score_shift=score_shift,
        map50_95_change=found.map50_95 - reference.map50_95,
        recall_change=(found.recall_at_conf or 0.0) - (reference.recall_at_conf or 0.0),
        # Both are (detections - objects) / objects, so that the objects cancel out.
        count_error=abs((found.count_error or 0.0) - (reference.count_error or 0.0)),
        images=found.images,
        objects=found.instances,
        speedup=speedup,
        limits=limits,
    )


def rejection_reasons(variant: Variant) -> tuple[str, ...]:
    """The reasons to reject a variant, as clauses; empty when it is accepted.

    mAP50-95 and recall may rise without limit. The count may change in neither direction: an
    estimate must not depend on the machine that computed it.
    """
    if not variant.objects:
        return ("the validation split has no labelled animal to measure it on",)
    limits = variant.limits
    reasons = []
    for name, loss, limit in (
        ("mAP50-95", -variant.map50_95_change, limits.map50_95_loss),
        ("recall", -variant.recall_change, limits.recall_loss),
    ):
        if _exceeds(loss, limit):
            reasons.append(f"it loses {loss:.4f} of {name} and {limit:g} is allowed")
    if _exceeds(variant.count_error, limits.count_error):
        reasons.append(f"its count is {variant.count_error:.2%} off and {limits.count_error:.2%} is allowed")
    return tuple(reasons)


def _exceeds(value: float, limit: float) -> bool:
    # The rounding error of a subtraction is no loss.
    return value > limit + 1e-9
