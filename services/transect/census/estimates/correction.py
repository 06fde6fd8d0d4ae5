"""From what the detector found to what was there: precision, recall, availability, perception. Pure.

A count C becomes C precision / recall / (availability perception). Precision and recall of one species come from
the validation images of the model's own training; availability (the share of animals that could be seen at all)
and perception (the share of those that a perfect reader of the photos would mark) from the user, with their errors.

Precision and recall are of one look, so they correct what one look at each place would have shown (looks.py), and not
the unique animals of overlapping photos: with more looks fewer animals are missed, and each look adds its false ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import stdtrit

from transect.census.estimates.estimate import Estimate
from transect.census.estimates.factor import factor_known
from transect.census.estimates.intervals import Limits
from transect.census.estimates.rates import Known
from transect.config_models import ConfigModel
from transect.engine.validation import ValidationCounts

_FEW_IMAGES = 10
_SAME = 1e-9
_Z = 1.959963984540054

_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
_Error = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]


class SpeciesFactors(ConfigModel):
    """What the user knows of a species: shares of 0..1 with their standard errors."""

    availability: _Share = 1.0
    availability_se: _Error = 0.0
    perception: _Share = 1.0
    perception_se: _Error = 0.0


@dataclass(frozen=True)
class DetectorError:
    """Precision and recall of one species with their standard errors and 95% limits; never known without error.

    `factor` is precision / recall = labelled animals / detections, and `cv` its coefficient of variation, which is
    less than that of its parts where they err together; `factor_ci95` reach further to one side than to the other.
    `images` hold the species or were said to; `objects` are the animals labelled in them.
    """

    precision: float
    precision_se: float
    recall: float
    recall_se: float
    factor: float
    cv: float
    images: int
    objects: int
    precision_ci95: Limits
    recall_ci95: Limits
    factor_ci95: Limits


@dataclass(frozen=True)
class Correction:
    """By what a species' count is multiplied, how well that is known, and why; `note` is for the reader.

    `factor` is 1 and `cv` 0 where nothing is corrected. `detector` is None where the detector's errors are not.
    """

    species: str
    factor: float
    cv: float
    detector: DetectorError | None
    factors: SpeciesFactors
    note: str

    @property
    def applies(self) -> bool:
        """Whether anything is corrected."""
        return self.detector is not None or self.factors != SpeciesFactors()

    @property
    def precision(self) -> float:
        """The share of the detections that are animals; 1 where it is not corrected for."""
        return 1.0 if self.detector is None else self.detector.precision

    def chance_variance(self, count: float) -> float:
        """The relative variance of a corrected `count` that chance alone makes, were every factor known exactly.

        A survey draws errors of its own: as those of the validation images scatter, the count of C animals scatters
        with the variance cv2 objects / C, since the cv of precision / recall, a ratio over images, falls as one over
        the root of the animals in them (Cochran 1977, Sampling Techniques, ch. 6). Where the validation images hold no
        error, cv is what such errors could be and still not show there. It takes animals to be seen in one photo
        each, which is on the safe side where more photos show them. Of N animals each is available and perceived by
        itself, which adds the binomial (1 - availability perception) / C.
        """
        if not count > 0:
            return 0.0
        detector = self.detector
        own = 0.0 if detector is None else detector.cv**2 * self.survey_share(count)
        return own + self.unseen_variance(count)

    def survey_share(self, count: float) -> float:
        """Animals in the validation images over those that `count` stands for; 0 where no detector is corrected."""
        return self.detector.objects / (count * self.detector.factor) if self.detector is not None and count > 0 else 0

    def unseen_variance(self, count: float) -> float:
        """What animals that cannot be seen, or are overlooked on the photo, add by chance to the relative variance."""
        if not count > 0:
            return 0.0
        missed = 1 - self.factors.availability * self.factors.perception
        return missed / (count * (1.0 if self.detector is None else self.detector.factor))


def correct_species(
    species: str,
    classes: Sequence[str],
    counts: ValidationCounts | None,
    *,
    conf: float,
    iou: float,
    factors: SpeciesFactors | None = None,
) -> Correction:
    """The correction of `species`, which the model knows as `classes`, searched at thresholds `conf` and `iou`.

    The detector's errors are corrected only where the validation counts are for these very thresholds.
    """
    factors = factors or SpeciesFactors()
    detector, note = None, _why_not(classes, counts, conf, iou)
    if counts is not None and not note:
        detector = detector_error(classes, counts)
        if detector.images < _FEW_IMAGES:
            note = f"Precision and recall of {species} rest on {detector.images} validation images only."
    squares = [_factors_cv(factors)]
    factor = 1 / (factors.availability * factors.perception)
    if detector is not None:
        factor *= detector.factor
        squares.append(detector.cv)
    return Correction(species, factor, math.hypot(*squares), detector, factors, note)


def without_detector(correction: Correction, note: str) -> Correction:
    """The same correction by the user's factors alone; `note` says why the detector's errors are left out."""
    factors = correction.factors
    squares = [factors.availability_se / factors.availability, factors.perception_se / factors.perception]
    factor = 1 / (factors.availability * factors.perception)
    return Correction(correction.species, factor, math.hypot(*squares), None, factors, note)


def detector_error(classes: Sequence[str], counts: ValidationCounts) -> DetectorError:
    """Precision and recall of `classes` taken together, with errors and limits by `factor_known`.

    Images, not boxes, are what was drawn, because the animals of one image are missed and confused together; images
    without the species count too, since false alarms come with the ground. Raises ValueError where nothing was found
    rightly.
    """
    images = np.array([row[0] for name in classes for row in counts.counts.get(name, ())], np.int64)
    rows = np.array([row[1:] for name in classes for row in counts.counts.get(name, ())], np.float64).reshape(-1, 3)
    right, wrong, missed = np.zeros((3, counts.images))
    for column, sums in enumerate((right, wrong, missed)):
        np.add.at(sums, images, rows[:, column])
    known = factor_known(right, wrong, missed)
    return DetectorError(
        float(known.precision.value),
        float(known.precision.se),
        float(known.recall.value),
        float(known.recall.se),
        float(known.factor.value),
        float(known.factor.cv),
        int(((right + wrong + missed) > 0).sum()),
        round(float(right.sum() + missed.sum())),
        _ci95(known.precision),
        _ci95(known.recall),
        _ci95(known.factor),
    )


def corrected(estimate: Estimate, correction: Correction) -> Estimate:
    """The estimate times the correction's factor; squared coefficients of variation add (Goodman 1960, to first order).

    `estimate` is made from what one look would have shown where the detector's errors are corrected, else from unique
    animals. The chance errors of the survey's own photos are within the variance between transects but for the finite
    population correction, which takes their share in the sampled ground out: they are added there (two stages: Cochran
    1977, ch. 10), and wholly where everything was photographed.

    Limits: for `jolly2` estimate -+ t SE. Else the distances of the limits from the estimate on the log scale and
    the correction's own are added as squares, which keeps the asymmetry of each (MOVER: Zou and Donner 2008,
    Stat. Med. 27: 1693-1702). Those of the detector are the distances of `factor_ci95`, for the validation images and,
    in proportion to the standard errors, for the survey's own; those of the other factors are log-normal. The lower
    limit is never below the count of one look times precision.
    """
    if estimate.estimate is None or not correction.applies:
        return estimate
    value = estimate.estimate * correction.factor
    density = None if estimate.density is None else estimate.density * correction.factor
    scaled = replace(estimate, estimate=value, density=density, variance=None, se=None, ci95=None)
    if estimate.variance is None and estimate.method != "total":
        return scaled
    sampling = 0.0 if estimate.variance is None else estimate.variance
    own = math.sqrt(correction.cv**2 + _sampled(estimate) * correction.chance_variance(estimate.seen))
    cv = math.hypot(math.sqrt(sampling) / estimate.estimate, own) if estimate.estimate > 0 else 0.0
    scaled = replace(scaled, variance=(cv * value) ** 2, se=cv * value)
    if estimate.method == "total":
        note = estimate.note.replace(", so no interval", "")
        scaled = replace(scaled, note=f"{note} The limits hold the error of the correction alone.".strip())
    limits = _limits(estimate, correction, value, cv)
    return scaled if limits is None else replace(scaled, ci95=limits)


def correction_record(correction: Correction) -> dict[str, object]:
    """A correction as JSON, unrounded."""
    detector, factors = correction.detector, correction.factors
    return {
        "species": correction.species,
        "factor": correction.factor,
        "cv": correction.cv,
        "precision": None if detector is None else detector.precision,
        "precision_se": None if detector is None else detector.precision_se,
        "precision_ci95": None if detector is None else list(detector.precision_ci95),
        "recall": None if detector is None else detector.recall,
        "recall_se": None if detector is None else detector.recall_se,
        "recall_ci95": None if detector is None else list(detector.recall_ci95),
        "detector_factor": None if detector is None else detector.factor,
        "detector_factor_cv": None if detector is None else detector.cv,
        "detector_factor_ci95": None if detector is None else list(detector.factor_ci95),
        "validation_images": None if detector is None else detector.images,
        "validation_objects": None if detector is None else detector.objects,
        **factors.model_dump(),
        "note": correction.note,
    }


def _why_not(classes: Sequence[str], counts: ValidationCounts | None, conf: float, iou: float) -> str:
    if counts is None:
        return "The model package holds no validation counts, so the detector's errors are not corrected for."
    for name, used, known in (("score threshold", conf, counts.conf), ("NMS IoU", iou, counts.iou)):
        if abs(used - known) > _SAME:
            return (
                f"The survey was searched with the {name} {used:g} and the model was validated with {known:g}, "
                "so the detector's errors are unknown and not corrected for."
            )
    if not any(row[1] for name in classes for row in counts.counts.get(name, ())):
        return (
            f"The model found no {' or '.join(classes)} rightly in {counts.images} validation images, "
            "so its errors are unknown and not corrected for."
        )
    return ""


def _ci95(known: Known) -> Limits:
    return float(known.low), float(known.high)


def _factors_cv(factors: SpeciesFactors) -> float:
    return math.hypot(factors.availability_se / factors.availability, factors.perception_se / factors.perception)


def _sampled(estimate: Estimate) -> float:
    """The share of the ground whose chance errors are not yet within the sampling error: all of a total coverage."""
    return 1.0 if estimate.method == "total" or estimate.sampled_share is None else min(estimate.sampled_share, 1.0)


def _own_reach(estimate: Estimate, correction: Correction) -> Limits:
    """How far the correction's own limits lie down and up on the log scale."""
    share = _sampled(estimate)
    other = _factors_cv(correction.factors) ** 2 + share * correction.unseen_variance(estimate.seen)
    squares = _Z**2 * math.log1p(other)
    if correction.detector is None:
        return math.sqrt(squares), math.sqrt(squares)
    detector = correction.detector
    times = math.sqrt(1 + share * correction.survey_share(estimate.seen))
    down, up = (times * abs(math.log(limit / detector.factor)) for limit in detector.factor_ci95)
    return math.hypot(down, math.sqrt(squares)), math.hypot(up, math.sqrt(squares))


def _limits(estimate: Estimate, correction: Correction, value: float, cv: float) -> Limits | None:
    """Limits around `value`, whose coefficient of variation in all is `cv`."""
    floor = estimate.seen * correction.precision
    if value == 0:
        return None
    if estimate.method == "jolly2":
        if estimate.ci95 is None or estimate.df is None:
            return None
        reach = float(stdtrit(estimate.df, 0.975)) * cv * value
        return max(value - reach, floor), max(value + reach, floor)
    low, high = (1.0, 1.0)
    if estimate.method != "total":
        if estimate.ci95 is None or estimate.estimate is None:
            return None
        low, high = estimate.ci95[0] / estimate.estimate, estimate.ci95[1] / estimate.estimate
    own_down, own_up = _own_reach(estimate, correction)
    down, up = math.hypot(math.log(low), own_down), math.hypot(math.log(high), own_up)
    return max(value * math.exp(-down), floor), max(value * math.exp(up), floor)
