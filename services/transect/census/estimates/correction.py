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
from transect.census.estimates.ground import GroundAlarms, Searched, ground_alarms, less_ground
from transect.census.estimates.intervals import Limits
from transect.census.estimates.rates import Known
from transect.config_models import ConfigModel
from transect.engine.validation import BackgroundCounts, ValidationCounts

_FEW_IMAGES = 10
_SAME = 1e-9
_Z = 1.959963984540054

_MORE_ALARMS = "There are fewer boxes than false alarms on as much empty ground, so the number is zero."

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

    `factor` is 1 and `cv` 0 where nothing is corrected. `detector` is None where the detector's errors are not. Where
    `ground` is known, the boxes that the ground alone gives are taken off a count before it is multiplied, and the
    precision of `detector` is that among the other boxes.
    """

    species: str
    factor: float
    cv: float
    detector: DetectorError | None
    factors: SpeciesFactors
    note: str
    ground: GroundAlarms | None = None

    @property
    def applies(self) -> bool:
        """Whether anything is corrected."""
        return self.detector is not None or self.factors != SpeciesFactors()

    @property
    def precision(self) -> float:
        """The share of the detections that are animals; 1 where it is not corrected for."""
        return 1.0 if self.detector is None else self.detector.precision

    def of(self, count: float, searched_mpx: float = 0.0) -> float:
        """The corrected `count` of boxes on ground of which one look has `searched_mpx` megapixels; never below 0."""
        alarms = 0.0 if self.ground is None else self.ground.rate * searched_mpx
        return max(count - alarms, 0.0) * self.factor

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
    background: BackgroundCounts | None = None,
) -> Correction:
    """The correction of `species`, which the model knows as `classes`, searched at thresholds `conf` and `iou`.

    The detector's errors are corrected only where the validation counts are for these very thresholds. Where the false
    alarms on empty ground (`background`) are known at them too, these are corrected by ground, and of the validation
    images' false positives only those beside animals count.
    """
    factors = factors or SpeciesFactors()
    detector, ground, note = None, None, _why_not(classes, counts, conf, iou)
    if counts is not None and not note:
        if background is not None and _at(background, conf, iou) and counts.beside is not None:
            ground = ground_alarms(classes, background)
        detector = detector_error(classes, counts, beside_only=ground is not None)
        if detector.images < _FEW_IMAGES:
            note = f"Precision and recall of {species} rest on {detector.images} validation images only."
    squares = [_factors_cv(factors)]
    factor = 1 / (factors.availability * factors.perception)
    if detector is not None:
        factor *= detector.factor
        squares.append(detector.cv)
    return Correction(species, factor, math.hypot(*squares), detector, factors, note, ground)


def without_detector(correction: Correction, note: str) -> Correction:
    """The same correction by the user's factors alone; `note` says why the detector's errors are left out."""
    factors = correction.factors
    factor = 1 / (factors.availability * factors.perception)
    return Correction(correction.species, factor, _factors_cv(factors), None, factors, note)


def detector_error(classes: Sequence[str], counts: ValidationCounts, *, beside_only: bool = False) -> DetectorError:
    """Precision and recall of `classes` taken together, with errors and limits by `factor_known`.

    Images, not boxes, are what was drawn, because the animals of one image are missed and confused together; images
    without the species count too, since false alarms come with the ground. With `beside_only` those that touch no
    animal are left out. Raises ValueError where nothing was found rightly.
    """
    images = np.array([row[0] for name in classes for row in counts.counts.get(name, ())], np.int64)
    rows = np.array([row[1:] for name in classes for row in counts.counts.get(name, ())], np.float64).reshape(-1, 3)
    right, wrong, missed = np.zeros((3, counts.images))
    for column, sums in enumerate((right, wrong, missed)):
        np.add.at(sums, images, rows[:, column])
    if beside_only:
        wrong = np.zeros(counts.images)
        for image, number in (row for name in classes for row in (counts.beside or {}).get(name, ())):
            wrong[image] += number
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


def corrected(estimate: Estimate, correction: Correction, searched: Searched | None = None) -> Estimate:
    """The estimate after the correction; squared coefficients of variation add (Goodman 1960, to first order).

    `estimate` is made from what one look would have shown where the detector's errors are corrected, else from unique
    animals. Where the correction knows the alarms of the ground, they are taken off first (`less_ground`), for which
    `searched` is needed: else ValueError. The chance errors of the survey's own photos are within the variance between
    transects but for the finite population correction, which takes their share in the sampled ground out: they are
    added there (two stages: Cochran 1977, ch. 10), and wholly where everything was photographed.

    Limits: for `jolly2` estimate -+ t SE. Else the distances of the limits from the estimate on the log scale and
    the correction's own are added as squares, which keeps the asymmetry of each (MOVER: Zou and Donner 2008,
    Stat. Med. 27: 1693-1702). Those of the detector are the distances of `factor_ci95`, for the validation images and,
    in proportion to the standard errors, for the survey's own; those of the other factors are log-normal. The lower
    limit is never below the boxes of one look that are animals: times precision, or those beyond the alarms of the
    ground, which has its own doubt.
    """
    if estimate.estimate is None or not correction.applies:
        return estimate
    counted = _counted(estimate, correction, searched)
    value = counted.value * correction.factor
    density = None if estimate.density is None else value * _per_area(estimate)
    note = f"{estimate.note} {counted.note}".strip()
    scaled = replace(estimate, estimate=value, density=density, variance=None, se=None, ci95=None, note=note)
    if estimate.variance is None and estimate.method != "total":
        return scaled
    own2 = correction.cv**2 + _sampled(estimate) * correction.chance_variance(counted.seen)
    variance = correction.factor**2 * (counted.variance + counted.value**2 * own2)
    scaled = replace(scaled, variance=variance, se=math.sqrt(variance))
    if estimate.method == "total":
        note = note.replace(", so no interval", "")
        scaled = replace(scaled, note=f"{note} The limits hold the error of the correction alone.".strip())
    limits = _limits(estimate, correction, counted, math.sqrt(variance))
    return scaled if limits is None else replace(scaled, ci95=limits)


def spread_factor(estimate: Estimate, correction: Correction) -> float:
    """How many times larger the sampling error is than boxes show of which a fixed share is no animal; 1 or more.

    With n of N transects, precision p, and counts A_i of boxes that are animals, A and F in all of the area, p (A + F)
    stands for A. Boxes that come with the ground do not vary with A: where the survey's ground happens to hold more
    animals than p stands for, the corrected count follows with p of the surplus alone, and misses (1 - p) of it. That
    is an error of (1 - p) (A - E A), with the variance (1 - p)2 N s2 against p2 N2 (1 - n/N) s2 / n of the estimate,
    and so (1 / p - 1)2 n / (N - n) of its relative variance, if all that varies between transects is animals. The
    validation images show such an error too, in the scatter of their animals (`chance_variance`): what is in that
    already is not added again.
    """
    share, precision, own = _sampled(estimate), correction.precision, 0.0
    if estimate.method == "total" or not estimate.variance or not estimate.estimate or not share < 1:
        return 1.0
    if correction.detector is not None:
        own = share * correction.detector.cv**2 * correction.survey_share(estimate.seen)
    relative = estimate.variance / estimate.estimate**2
    return math.sqrt(1 + max((1 / precision - 1) ** 2 * share / (1 - share) - own / relative, 0.0))


def correction_record(correction: Correction) -> dict[str, object]:
    """A correction as JSON, unrounded.

    `basis` says how false alarms were corrected: by `ground`, by the precision of the `validation`, or `none` at all.
    """
    detector, factors, ground = correction.detector, correction.factors, correction.ground
    basis = "none" if detector is None else "validation" if ground is None else "ground"
    return {
        "species": correction.species,
        "basis": basis,
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
        "alarms_per_mpx": None if ground is None else ground.rate,
        "alarms_per_mpx_se": None if ground is None else ground.se,
        "alarms_per_mpx_ci95": None if ground is None else list(ground.ci95),
        "background_images": None if ground is None else ground.images,
        "background_mpx": None if ground is None else ground.mpx,
        "background_alarms": None if ground is None else ground.alarms,
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


def _at(background: BackgroundCounts, conf: float, iou: float) -> bool:
    return abs(background.conf - conf) <= _SAME and abs(background.iou - iou) <= _SAME


@dataclass(frozen=True)
class _Counted:
    """What is multiplied: in the sampled ground and in all, its variance, sampling limits, and the least there is.

    `note` is for the reader.
    """

    seen: float
    value: float
    variance: float
    limits: Limits | None
    floor: float
    note: str = ""


def _counted(estimate: Estimate, correction: Correction, searched: Searched | None) -> _Counted:
    boxes = estimate.estimate or 0.0
    if correction.ground is None:
        limits = (boxes, boxes) if estimate.method == "total" else estimate.ci95
        floor, spread = estimate.seen * correction.precision, spread_factor(estimate, correction)
        if limits is not None and boxes > 0 and spread > 1:
            down, up = (spread * math.log(limit / boxes) if limit > 0 else -math.inf for limit in limits)
            limits = boxes * math.exp(down), boxes * math.exp(up)
        return _Counted(estimate.seen, boxes, spread**2 * (estimate.variance or 0.0), limits, floor)
    if searched is None:
        raise ValueError("the alarms of the ground cannot be taken off without the area that was searched")
    net = less_ground(estimate, correction.ground, searched, _sampled(estimate))
    note = _MORE_ALARMS if net.surplus < 0 < boxes else ""
    return _Counted(net.seen, net.value, net.variance, net.limits, net.sure * correction.precision, note)


def _per_area(estimate: Estimate) -> float:
    """One over the area in km2 that the estimate is of."""
    if estimate.stratum_km2 is not None:
        return 1 / estimate.stratum_km2
    return (estimate.density or 0.0) / estimate.estimate if estimate.estimate else 0.0


def _own_reach(estimate: Estimate, correction: Correction, seen: float) -> Limits:
    """How far the correction's own limits lie down and up on the log scale, for a count of `seen`."""
    share = _sampled(estimate)
    other = _factors_cv(correction.factors) ** 2 + share * correction.unseen_variance(seen)
    squares = _Z**2 * math.log1p(other)
    if correction.detector is None:
        return math.sqrt(squares), math.sqrt(squares)
    detector = correction.detector
    times = math.sqrt(1 + share * correction.survey_share(seen))
    down, up = (times * abs(math.log(limit / detector.factor)) for limit in detector.factor_ci95)
    return math.hypot(down, math.sqrt(squares)), math.hypot(up, math.sqrt(squares))


def _limits(estimate: Estimate, correction: Correction, counted: _Counted, se: float) -> Limits | None:
    """Limits of a corrected count whose standard error in all is `se`; None where the count had none."""
    value = counted.value * correction.factor
    if counted.limits is None or estimate.estimate == 0:
        return None
    if estimate.method == "jolly2":
        if estimate.df is None:
            return None
        reach = float(stdtrit(estimate.df, 0.975)) * se
        return max(value - reach, counted.floor), max(value + reach, counted.floor)
    low, high = counted.limits
    if counted.value == 0:
        return 0.0, max(high * correction.factor, counted.floor)
    own_down, own_up = _own_reach(estimate, correction, counted.seen)
    down = math.hypot(math.log(counted.value / low), own_down) if low > 0 else math.inf
    up = math.hypot(math.log(high / counted.value), own_up)
    return max(value * math.exp(-down), counted.floor), max(value * math.exp(up), counted.floor)
