"""Checks whether a survey differs from the model's validation images, each with a p-value and a sentence. Pure.

A check fails where the difference is significant and large enough to matter; the family of checks is corrected for
their number (Holm).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from transect.arrays import FloatArray
from transect.census.applicability.differences import ClusteredMean, equivalence_p_value, holm, outlier_p_value, rate
from transect.census.applicability.evidence import Boxes, Pictures
from transect.census.estimates.rates import share
from transect.engine import STATISTICS

LEVEL = 0.02
"""The family-wise error rate: how often a survey like the validation images may be found to differ."""

_SIZE_MARGIN = math.log(1.15)
_SCORE_MARGIN = 0.5
_GSD_FACTOR = 1.25
_MOST_ERROR = 0.2
# The least standard deviations from image to image: smaller differences are invisible.
_LEAST_SD = np.array([0.01, 0.05, 0.005, 0.005, 0.05, 0.05, 0.05, 0.05])
_LEAST_SD_OF_FEATURES = 0.05
_STRIKING = 2.0
_LEAST_SCORE = 1e-4

Kind = Literal["ground", "features", "ground sample distance", "density", "sizes", "scores"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison. `species` is empty for the whole survey; `p` is None where the comparison is impossible, with the
    reason in `sentence`. `matters` is whether the difference is large; `differs` whether it is also significant."""

    kind: Kind
    species: str
    p: float | None
    sentence: str
    matters: bool = True
    differs: bool = False


@dataclass(frozen=True)
class SurveyContext:
    """The parameters of the checks besides the pictures.

    The ground sample distances are in metres, None where not known. `photos_per_group` consecutive photos show the same
    ground. `false_by_ground` is by species with a known rate of false alarms on empty ground: their expected share of
    its detections in the survey.
    """

    gsd_m: float | None
    training_gsd_m: float | None
    photos_per_group: int = 1
    false_by_ground: Mapping[str, float] = field(default_factory=dict)


def check_applicability(validation: Pictures, survey: Pictures, context: SurveyContext) -> tuple[Check, ...]:
    """All checks, those of the survey first, then those of each species; `differs` is corrected for the family."""
    checks = [*_appearance_checks(validation, survey), _gsd(context)]
    for name, reference in validation.boxes.items():
        by_ground = context.false_by_ground.get(name)
        checks += _species(name, reference, survey.boxes[name], (validation, survey), by_ground)
    made = [check for check in checks if check.p is not None]
    rejected = holm(np.array([check.p for check in made], np.float64), LEVEL)
    differs = {id(check): bool(found) for check, found in zip(made, rejected, strict=True)}
    return tuple(replace(check, differs=check.matters and differs.get(id(check), False)) for check in checks)


def _appearance_checks(validation: Pictures, survey: Pictures) -> list[Check]:
    if not len(survey.appearance) or not len(validation.appearance):
        return [Check(kind="ground", species="", p=None, sentence="The photos' appearance was not measured.")]
    mean, many = survey.appearance.mean(axis=0), len(STATISTICS)
    statistics = slice(0, many)
    checks = [_outside("ground", validation, mean, statistics, _striking(validation.appearance, mean))]
    if validation.appearance.shape[1] > many:
        sentence = "The network's features of the photos differ from those of the validation images."
        checks.append(_outside("features", validation, mean, slice(many, None), sentence))
    return checks


def _outside(kind: Kind, validation: Pictures, mean: FloatArray, part: slice, sentence: str) -> Check:
    reference, away = validation.appearance[:, part], mean[part]
    training = None if validation.training is None else validation.training[:, part]
    least = _LEAST_SD if kind == "ground" else np.full(len(away), _LEAST_SD_OF_FEATURES)
    p = outlier_p_value(reference, away, least, training)
    if p is None:
        return Check(
            kind=kind,
            species="",
            p=None,
            sentence=f"There are too few validation images ({len(reference)}) to compare the photos' appearance with.",
        )
    return Check(kind=kind, species="", p=p, sentence=sentence)


def _striking(appearance: FloatArray, mean: FloatArray) -> str:
    """The statistics that are far from the validation images, in standard deviations of single images."""
    spread = (
        np.maximum(appearance[:, : len(STATISTICS)].std(axis=0, ddof=1), _LEAST_SD)
        if len(appearance) > 1
        else _LEAST_SD
    )
    away = (mean[: len(STATISTICS)] - appearance[:, : len(STATISTICS)].mean(axis=0)) / spread
    outliers = [
        f"{name} {abs(value):.1f} standard deviations {'higher' if value > 0 else 'lower'}"
        for name, value in sorted(zip(STATISTICS, away.tolist(), strict=True), key=lambda one: -abs(one[1]))
        if abs(value) >= _STRIKING
    ]
    what = ", ".join(outliers) or "brightness, colour and detail together as in no validation image"
    return f"The photos differ from the validation images: {what}."


def _gsd(context: SurveyContext) -> Check:
    if context.training_gsd_m is None:
        return Check(
            kind="ground sample distance",
            species="",
            p=None,
            sentence="The model package has no training ground sample distance.",
        )
    if context.gsd_m is None:
        return Check(
            kind="ground sample distance",
            species="",
            p=None,
            sentence="The survey's ground sample distance is not known.",
        )
    factor = context.gsd_m / context.training_gsd_m
    matters = not 1 / _GSD_FACTOR <= factor <= _GSD_FACTOR
    sentence = (
        f"The photos have {100 * context.gsd_m:.3g} cm a pixel, and the model was trained with "
        f"{100 * context.training_gsd_m:.3g} cm."
    )
    return Check(
        kind="ground sample distance", species="", p=0.0 if matters else 1.0, sentence=sentence, matters=matters
    )


def _species(
    name: str, reference: Boxes, found: Boxes, pictures: tuple[Pictures, Pictures], by_ground: float | None
) -> list[Check]:
    validation, survey = pictures
    checks = []
    if by_ground is None:
        checks.append(_density(name, reference, found, validation.mpx, survey.mpx))
    # With fewer animals a larger share of the detections is false, with the sizes and scores of false alarms.
    false = float((~reference.right).mean()) if len(reference.right) else 0.0
    expected_false = false if by_ground is None else by_ground
    checks.append(_mean("sizes", name, reference, found, expected_false))
    checks.append(_mean("scores", name, reference, found, expected_false))
    return checks


def _density(name: str, reference: Boxes, found: Boxes, before: FloatArray, now: FloatArray) -> Check:
    """Detections by searched area, where the rate of false alarms by ground is not known.

    With the precision p in validation and k times as many detections an area, the survey's precision is
    1 - (1 - p) / k if all false ones come with ground. It matters where that changes the corrected count by more
    than a fifth for a p within its 95% limits.
    """
    counts = np.bincount(reference.picture, minlength=len(before)).astype(np.float64)
    seen = np.bincount(found.picture, minlength=len(now)).astype(np.float64)
    (was, was_error), (is_now, now_error) = rate(counts, before), rate(seen, now)
    difference, error = math.log(is_now / was), math.hypot(was_error, now_error)
    wrong = np.bincount(reference.picture[~reference.right], minlength=len(before)).astype(np.float64)
    most_wrong = float(share(wrong, counts).high) if counts.sum() else 1.0
    precision = 1 - most_wrong / math.exp(difference)
    matters = precision <= 0 or abs((1 - most_wrong) / precision - 1) > _MOST_ERROR
    many = min(len(before), len(now))
    sentence = (
        f"The model finds {is_now:.2g} {name} a searched megapixel and found {was:.2g} in validation: false alarms "
        "are proportional to ground, so their share of the detections differs here. Empty ground in training "
        "(background:) or a review would correct for it."
    )
    return Check(
        kind="density",
        species=name,
        p=equivalence_p_value(difference, error, 0.0, many),
        sentence=sentence,
        matters=matters,
    )


def _mean(kind: Literal["sizes", "scores"], name: str, reference: Boxes, found: Boxes, false: float) -> Check:
    """The mean of log sizes or logits of scores, against validation's at the expected share of false detections."""
    before, after = _measure(kind, reference), _measure(kind, found)
    margin = _SIZE_MARGIN if kind == "sizes" else _SCORE_MARGIN
    now = ClusteredMean.of(after, found.picture)
    right = ClusteredMean.of(before[reference.right], reference.picture[reference.right])
    if now is None or right is None:
        where = "validation" if right is None else "the survey"
        return Check(
            kind=kind, species=name, p=None, sentence=f"Too few photos of {where} hold {name} to compare {kind}."
        )
    wrong = ClusteredMean.of(before[~reference.right], reference.picture[~reference.right])
    mean, error = right.mean, right.se
    if wrong is not None:
        mean = (1 - false) * right.mean + false * wrong.mean
        error = math.hypot((1 - false) * right.se, false * wrong.se)
    difference = now.mean - mean
    p = equivalence_p_value(difference, math.hypot(error, now.se), margin, min(now.pictures, right.pictures))
    if kind == "sizes":
        sentence = f"What the model takes for {name} is {math.exp(difference):.2f} times as large as in validation."
    else:
        sentence = f"The model is {'surer' if difference > 0 else 'less sure'} of {name} than in validation"
        sentence += f" (mean logit of the scores {difference:+.2f})."
    return Check(kind=kind, species=name, p=p, sentence=sentence)


def _measure(kind: Literal["sizes", "scores"], boxes: Boxes) -> FloatArray:
    return np.log(boxes.size) if kind == "sizes" else _logit(boxes.score)


def _logit(scores: FloatArray) -> FloatArray:
    clipped = np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE)
    logits: FloatArray = np.log(clipped / (1 - clipped))
    return logits
