"""Does a survey look like what the model was judged on? Each check has a p-value, and says in words what differs. Pure.

A check fails where the difference is beyond chance and large enough to matter; the family of checks is corrected for
their number (Holm).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transect.census.applicability.differences import Grouped, holm, outside, p_beyond, rate
from transect.census.applicability.evidence import Boxes, Pictures
from transect.census.estimates.rates import share
from transect.engine import STATISTICS

FloatArray = NDArray[np.float64]

LEVEL = 0.02
"""How often a survey like the validation images may be said to differ."""

_SIZE_MARGIN = math.log(1.15)
_SCORE_MARGIN = 0.5
_GSD_FACTOR = 1.25
_MOST_ERROR = 0.2
# By how much these may differ from image to image without a difference that can be seen.
_LEAST_SD = np.array([0.01, 0.05, 0.005, 0.005, 0.05, 0.05, 0.05, 0.05])
_LEAST_SD_OF_FEATURES = 0.05
_STRIKING = 2.0
_LEAST_SCORE = 1e-4

Kind = Literal["ground", "features", "ground sample distance", "density", "sizes", "scores"]


@dataclass(frozen=True)
class Check:
    """One comparison. `species` is empty for one of the whole survey; `p` is None where it could not be made, and
    `sentence` says why. `matters` is whether the difference is large enough; `differs` whether it is also no chance."""

    kind: Kind
    species: str
    p: float | None
    sentence: str
    matters: bool = True
    differs: bool = False


@dataclass(frozen=True)
class Setting:
    """What the checks need besides pictures.

    The ground sample distances are in metres, None where not known. `together` photos in a row show the same ground.
    `false_by_ground` has the species whose false alarms are known by ground, with the share of their detections in
    the survey that these make.
    """

    gsd_m: float | None
    training_gsd_m: float | None
    together: int = 1
    false_by_ground: Mapping[str, float] = field(default_factory=dict)


def compare(validation: Pictures, survey: Pictures, setting: Setting) -> tuple[Check, ...]:
    """All checks, those of the survey first, then those of each species; `differs` is decided for the family."""
    checks = [*_looks(validation, survey), _gsd(setting)]
    for name, reference in validation.boxes.items():
        by_ground = setting.false_by_ground.get(name)
        checks += _species(name, reference, survey.boxes[name], (validation, survey), by_ground)
    made = [check for check in checks if check.p is not None]
    rejected = holm(np.array([check.p for check in made], np.float64), LEVEL)
    differs = {id(check): bool(found) for check, found in zip(made, rejected, strict=True)}
    return tuple(replace(check, differs=check.matters and differs.get(id(check), False)) for check in checks)


def _looks(validation: Pictures, survey: Pictures) -> list[Check]:
    if not len(survey.looks) or not len(validation.looks):
        return [Check("ground", "", None, "How the photos look was not measured.")]
    mean, many = survey.looks.mean(axis=0), len(STATISTICS)
    statistics = slice(0, many)
    checks = [_outside("ground", validation, mean, statistics, _striking(validation.looks, mean))]
    if validation.looks.shape[1] > many:
        sentence = "The network sees other features in the photos than in the validation images."
        checks.append(_outside("features", validation, mean, slice(many, None), sentence))
    return checks


def _outside(kind: Kind, validation: Pictures, mean: FloatArray, part: slice, sentence: str) -> Check:
    reference, away = validation.looks[:, part], mean[part]
    alike = None if validation.alike is None else validation.alike[:, part]
    least = _LEAST_SD if kind == "ground" else np.full(len(away), _LEAST_SD_OF_FEATURES)
    p = outside(reference, away, least, alike)
    if p is None:
        return Check(kind, "", None, f"There are too few validation images ({len(reference)}) to compare looks with.")
    return Check(kind, "", p, sentence)


def _striking(looks: FloatArray, mean: FloatArray) -> str:
    """Which statistics are far from the validation images, in standard deviations of single images."""
    spread = np.maximum(looks[:, : len(STATISTICS)].std(axis=0, ddof=1), _LEAST_SD) if len(looks) > 1 else _LEAST_SD
    away = (mean[: len(STATISTICS)] - looks[:, : len(STATISTICS)].mean(axis=0)) / spread
    told = [
        f"{name} {abs(value):.1f} standard deviations {'higher' if value > 0 else 'lower'}"
        for name, value in sorted(zip(STATISTICS, away.tolist(), strict=True), key=lambda one: -abs(one[1]))
        if abs(value) >= _STRIKING
    ]
    what = ", ".join(told) or "brightness, colour and detail together as in no validation image"
    return f"The photos look other than the validation images: {what}."


def _gsd(setting: Setting) -> Check:
    if setting.training_gsd_m is None:
        return Check("ground sample distance", "", None, "The model package does not say its ground sample distance.")
    if setting.gsd_m is None:
        return Check("ground sample distance", "", None, "The survey's ground sample distance is not known.")
    factor = setting.gsd_m / setting.training_gsd_m
    matters = not 1 / _GSD_FACTOR <= factor <= _GSD_FACTOR
    sentence = (
        f"The photos have {100 * setting.gsd_m:.3g} cm a pixel, and the model was trained with "
        f"{100 * setting.training_gsd_m:.3g} cm."
    )
    return Check("ground sample distance", "", 0.0 if matters else 1.0, sentence, matters=matters)


def _species(
    name: str, reference: Boxes, found: Boxes, pictures: tuple[Pictures, Pictures], by_ground: float | None
) -> list[Check]:
    validation, survey = pictures
    checks = []
    if by_ground is None:
        checks.append(_density(name, reference, found, validation.mpx, survey.mpx))
    # Where there are fewer animals, more of what is found is false: its sizes and scores are those of false alarms.
    false = float((~reference.right).mean()) if len(reference.right) else 0.0
    expected_false = false if by_ground is None else by_ground
    checks.append(_mean("sizes", name, reference, found, expected_false))
    checks.append(_mean("scores", name, reference, found, expected_false))
    return checks


def _density(name: str, reference: Boxes, found: Boxes, before: FloatArray, now: FloatArray) -> Check:
    """Detections by searched area, where false alarms come with ground and their number is not known.

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
        "come with ground, and are another share of what it finds here. Empty ground in training (background:) or a "
        "review would mend it."
    )
    return Check("density", name, p_beyond(difference, error, 0.0, many), sentence, matters=matters)


def _mean(kind: Literal["sizes", "scores"], name: str, reference: Boxes, found: Boxes, false: float) -> Check:
    """The mean of log sizes or logits of scores, against that of validation at the share of false ones expected."""
    before, after = _measure(kind, reference), _measure(kind, found)
    margin = _SIZE_MARGIN if kind == "sizes" else _SCORE_MARGIN
    now = Grouped.of(after, found.picture)
    right = Grouped.of(before[reference.right], reference.picture[reference.right])
    if now is None or right is None:
        where = "validation" if right is None else "the survey"
        return Check(kind, name, None, f"Too few photos of {where} hold {name} to compare {kind}.")
    wrong = Grouped.of(before[~reference.right], reference.picture[~reference.right])
    mean, error = right.mean, right.se
    if wrong is not None:
        mean = (1 - false) * right.mean + false * wrong.mean
        error = math.hypot((1 - false) * right.se, false * wrong.se)
    difference = now.mean - mean
    p = p_beyond(difference, math.hypot(error, now.se), margin, min(now.pictures, right.pictures))
    if kind == "sizes":
        told = f"What the model takes for {name} is {math.exp(difference):.2f} times as large as in validation."
    else:
        told = f"The model is {'surer' if difference > 0 else 'less sure'} of {name} than in validation"
        told += f" (mean logit of the scores {difference:+.2f})."
    return Check(kind, name, p, told)


def _measure(kind: Literal["sizes", "scores"], boxes: Boxes) -> FloatArray:
    return np.log(boxes.size) if kind == "sizes" else _logit(boxes.score)


def _logit(scores: FloatArray) -> FloatArray:
    clipped = np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE)
    logits: FloatArray = np.log(clipped / (1 - clipped))
    return logits
