"""Faster variants of a trained model: how they compare with fp32, and which of them may be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transect.engine import VARIANT_FILES, Evaluation, FastPrecision, Variant, VariantLimits


@dataclass(frozen=True)
class Trial:
    """One variant that was measured; `reasons` are why it must not be used, empty when it may."""

    variant: Variant
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What was measured, and whether the variant is in the package."""
        found = self.variant
        if self.reasons:
            return f"{found.precision} is not in the package, because {'; '.join(self.reasons)}: {found.summary}."
        return f"{found.precision} is in the package: {found.summary}."


@dataclass(frozen=True)
class VariantReport:
    """What came of the variants: those measured, and for the others why there is nothing to measure."""

    trials: tuple[Trial, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> tuple[Variant, ...]:
        """The variants that belong into the package."""
        return tuple(trial.variant for trial in self.trials if not trial.reasons)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One line for each variant."""
        absent = tuple(f"{name} is not in the package: {why}." for name, why in self.absent.items())
        return (*(trial.sentence for trial in self.trials), *absent)

    def metrics(self) -> dict[str, float]:
        """The measurements under the names of the run, such as int8/mAP50-95_change."""
        return {
            f"{trial.variant.precision}/{name}": value
            for trial in self.trials
            for name, value in (
                ("mAP50-95_change", trial.variant.map50_95_change),
                ("recall_change", trial.variant.recall_change),
                ("count_error", trial.variant.count_error),
                ("speedup", trial.variant.speedup),
                ("passed", float(not trial.reasons)),
            )
        }

    def tags(self) -> dict[str, str]:
        """What happened to each variant, in a sentence, under transect.bf16 and so on."""
        return {f"transect.{sentence.split()[0]}": sentence for sentence in self.sentences}


def compare(
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


def judge(variant: Variant) -> tuple[str, ...]:
    """Why a variant must not be used, as clauses; empty when it may.

    mAP50-95 and recall may rise as they like. The count may not change in either direction: an
    estimate must not depend on the machine that made it.
    """
    if not variant.objects:
        return ("the validation split has no labelled animal to measure it on",)
    limits = variant.limits
    reasons = []
    for name, loss, limit in (
        ("mAP50-95", -variant.map50_95_change, limits.map50_95_loss),
        ("recall", -variant.recall_change, limits.recall_loss),
    ):
        if _over(loss, limit):
            reasons.append(f"it loses {loss:.4f} of {name} and {limit:g} is allowed")
    if _over(variant.count_error, limits.count_error):
        reasons.append(f"its count is {variant.count_error:.2%} off and {limits.count_error:.2%} is allowed")
    return tuple(reasons)


def _over(value: float, limit: float) -> bool:
    # The rounding error of a subtraction is no loss.
    return value > limit + 1e-9
