"""Correct a count for the detector's errors and for animals that cannot be seen. Pure.

A count C becomes C precision / recall / (availability perception). Precision and recall of one species come from
the validation images of the model's own training; availability (the share of animals that could be seen at all)
and perception (the share of those that a perfect reader of the photos would mark) from the user, with their errors.

Precision and recall are of one look, so they correct the expected count of one look at each place (multiplicity.py),
and not the unique animals of overlapping photos: more looks miss fewer animals, and each look adds false ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import stdtrit

from transect.census.estimates.estimate import Estimate
from transect.census.estimates.factor import estimate_factor
from transect.census.estimates.ground import GroundAlarms, SearchEffort, ground_alarms, less_ground
from transect.census.estimates.intervals import Limits
from transect.census.estimates.rates import IntervalEstimate
from transect.config_models import ConfigModel
from transect.engine.validation import BackgroundCounts, ValidationCounts

_FEW_IMAGES = 10
_SAME = 1e-9
_Z = 1.959963984540054

_MORE_ALARMS = "There are fewer boxes than false alarms on as much empty ground, so the number is zero."

_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
_Error = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]


class SpeciesFactors(ConfigModel):
    """Availability and perception of a species, given by the user: shares of 0..1 with their standard errors."""

    availability: _Share = 1.0
    availability_se: _Error = 0.0
    perception: _Share = 1.0
    perception_se: _Error = 0.0


@dataclass(frozen=True, kw_only=True)
class DetectorError:
    """Precision and recall of one species with their standard errors and 95% limits; never without error.

    `factor` is precision / recall = labelled animals / detections, and `cv` its coefficient of variation, which is
    less than that of its parts where their errors correlate; `factor_ci95` are asymmetric. `images` have a label or a
    detection of the species; `objects` are the animals labelled in them.
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


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The factor on a species' count, its coefficient of variation and its parts; `note` is for the reader.

    `factor` is 1 and `cv` 0 where nothing is corrected. `detector` is None where the detector's errors are not. Where
    `ground` is known, the expected false alarms of the ground are subtracted from a count before it is multiplied, and
    the precision of `detector` is that among the other boxes.
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
        """The corrected `count` of boxes of one look at `searched_mpx` megapixels of ground; never below 0."""
        alarms = 0.0 if self.ground is None else self.ground.rate * searched_mpx
        return max(count - alarms, 0.0) * self.factor

    def chance_variance(self, count: float) -> float:
        """The relative variance of a corrected `count` by chance alone, were every factor known exactly.

        A survey has its own chance errors: as those of the validation images scatter, the count of C animals scatters
        with the variance cv2 objects / C, since the cv of precision / recall, a ratio over images, falls as one over
        the root of the animals in them (Cochran 1977, Sampling Techniques, ch. 6). Where the validation images hold no
        error, cv is an upper bound that is compatible with none. Each animal is assumed to be in one photo, which is
        conservative where more photos show it. Each of N animals is available and perceived independently, which adds
        the binomial (1 - availability perception) / C.
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
        """The relative variance by chance from animals that cannot be seen or are overlooked on the photo."""
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
    """The correction of `species`, which are the model's `classes`, searched at thresholds `conf` and `iou`.

    The detector's errors are corrected only where the validation counts are for exactly these thresholds. Where the
    false alarms on empty ground (`background`) are known at them too, these are corrected by ground, and of the
    validation images' false positives only those beside animals count.
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
    cv = math.hypot(*squares)
    return Correction(
        species=species, factor=factor, cv=cv, detector=detector, factors=factors, note=note, ground=ground
    )


def without_detector(correction: Correction, note: str) -> Correction:
    """The same correction by the user's factors alone; `note` is the reason for leaving out the detector's errors."""
    factors = correction.factors
    factor = 1 / (factors.availability * factors.perception)
    return Correction(
        species=correction.species, factor=factor, cv=_factors_cv(factors), detector=None, factors=factors, note=note
    )


def detector_error(classes: Sequence[str], counts: ValidationCounts, *, beside_only: bool = False) -> DetectorError:
    """Precision and recall of `classes` taken together, with errors and limits by `estimate_factor`.

    The sampling units are images, not boxes, because the animals of one image are missed and confused together; images
    without the species count too, since false alarms come with the ground. With `beside_only`, false alarms that touch
    no animal are left out. Raises ValueError without a true positive.
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
    known = estimate_factor(right, wrong, missed)
    return DetectorError(
        precision=float(known.precision.value),
        precision_se=float(known.precision.se),
        recall=float(known.recall.value),
        recall_se=float(known.recall.se),
        factor=float(known.factor.value),
        cv=float(known.factor.cv),
        images=int(((right + wrong + missed) > 0).sum()),
        objects=round(float(right.sum() + missed.sum())),
        precision_ci95=_ci95(known.precision),
        recall_ci95=_ci95(known.recall),
        factor_ci95=_ci95(known.factor),
    )


def corrected(estimate: Estimate, correction: Correction, searched: SearchEffort | None = None) -> Estimate:
    """The estimate after the correction; squared coefficients of variation add (Goodman 1960, to first order).

    `estimate` is made from the expected count of one look where the detector's errors are corrected, else from unique
    animals. Where the correction has the alarms of the ground, they are subtracted first (`less_ground`); raises
    ValueError where `searched` is then None. The chance errors of the survey's own photos are within the variance
    between transects except for the finite population correction, which removes their share in the sampled ground: they
    are added there (two stages: Cochran 1977, ch. 10), and wholly where everything was photographed.

    Limits: for `jolly2` estimate -+ t SE. Else the distances of the limits from the estimate on the log scale and
    the correction's own are added as squares, which keeps the asymmetry of each (MOVER: Zou and Donner 2008,
    Stat. Med. 27: 1693-1702). Those of the detector are the distances of `factor_ci95`, for the validation images and,
    in proportion to the standard errors, for the survey's own; those of the other factors are log-normal. The lower
    limit is never below the boxes of one look that are animals: times precision, or those in excess of the ground's
    alarms at the 2.5% level.
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
    return replace(scaled, ci95=_limits(estimate, correction, counted, math.sqrt(variance)))


def spread_factor(estimate: Estimate, correction: Correction) -> float:
    """The ratio of the sampling error to that of boxes of which a fixed share is false; 1 or more.

    With n of N transects, precision p, and counts A_i of boxes that are animals, A and F in all of the area, p (A + F)
    estimates A. Boxes that come with the ground do not vary with A: where the survey's ground happens to have more
    animals than p implies, the corrected count follows with p of the surplus alone, and misses (1 - p) of it. That
    is an error of (1 - p) (A - E A), with the variance (1 - p)2 N s2 against p2 N2 (1 - n/N) s2 / n of the estimate,
    and so (1 / p - 1)2 n / (N - n) of its relative variance, if all that varies between transects is animals. The
    validation images show such an error too, in the scatter of their animals (`chance_variance`): the part in that is
    not added again.
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

    `basis` is how false alarms were corrected: by `ground`, by the precision of the `validation`, or `none` at all.
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


def _ci95(known: IntervalEstimate) -> Limits:
    return float(known.low), float(known.high)


def _factors_cv(factors: SpeciesFactors) -> float:
    return math.hypot(factors.availability_se / factors.availability, factors.perception_se / factors.perception)


def _sampled(estimate: Estimate) -> float:
    """The share of the ground whose chance errors are not yet within the sampling error: all of a total coverage."""
    return 1.0 if estimate.method == "total" or estimate.sampled_share is None else min(estimate.sampled_share, 1.0)


def _at(background: BackgroundCounts, conf: float, iou: float) -> bool:
    return abs(background.conf - conf) <= _SAME and abs(background.iou - iou) <= _SAME


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """The count before the factor: in the sampled ground (`seen`) and in all (`value`), its variance and limits.

    `floor` is the least possible value of the corrected count; `note` is for the reader.
    """

    seen: float
    value: float
    variance: float
    limits: Limits | None
    floor: float
    note: str = ""


def _counted(estimate: Estimate, correction: Correction, searched: SearchEffort | None) -> _Counted:
    boxes = estimate.estimate or 0.0
    if correction.ground is None:
        limits = (boxes, boxes) if estimate.method == "total" else estimate.ci95
        floor, spread = estimate.seen * correction.precision, spread_factor(estimate, correction)
        if limits is not None and boxes > 0 and spread > 1:
            down, up = (spread * math.log(limit / boxes) if limit > 0 else -math.inf for limit in limits)
            limits = boxes * math.exp(down), boxes * math.exp(up)
        return _Counted(
            seen=estimate.seen, value=boxes, variance=spread**2 * (estimate.variance or 0.0), limits=limits, floor=floor
        )
    if searched is None:
        raise ValueError("the alarms of the ground cannot be taken off without the area that was searched")
    net = less_ground(estimate, correction.ground, searched, _sampled(estimate))
    note, floor = _MORE_ALARMS if net.surplus < 0 < boxes else "", net.sure * correction.precision
    return _Counted(seen=net.seen, value=net.value, variance=net.variance, limits=net.limits, floor=floor, note=note)


def _per_area(estimate: Estimate) -> float:
    """The inverse of the estimate's area in km2."""
    if estimate.stratum_km2 is not None:
        return 1 / estimate.stratum_km2
    return (estimate.density or 0.0) / estimate.estimate if estimate.estimate else 0.0


def _own_reach(estimate: Estimate, correction: Correction, seen: float) -> Limits:
    """The distances of the correction's own limits, down and up on the log scale, for a count of `seen`."""
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
    """Limits of a corrected count with the total standard error `se`; None where the count had none."""
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
