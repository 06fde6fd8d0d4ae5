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
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import stdtrit

from transect.census.estimates.estimate import Estimate
from transect.config_models import ConfigModel
from transect.engine.validation import ValidationCounts

FloatArray = NDArray[np.float64]

_REPLICATES = 1999
_SEED = 1969
_CHUNK = 2_000_000
_FEW_IMAGES = 10
_SAME = 1e-9

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
    """Precision and recall of one species with their standard errors.

    `factor` is precision / recall = labelled animals / detections, and `cv` its coefficient of variation, which is
    less than that of its parts where they err together. `images` hold the species or were said to; `objects` are
    the animals labelled in them.
    """

    precision: float
    precision_se: float
    recall: float
    recall_se: float
    factor: float
    cv: float
    images: int
    objects: int


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
        the root of the animals in them (Cochran 1977, Sampling Techniques, ch. 6). It takes animals to be seen in
        one photo each, which is on the safe side where more photos show them. Of N animals each is available and
        perceived by itself, which adds the binomial (1 - availability perception) / C.
        """
        detector, factors = self.detector, self.factors
        if not count > 0:
            return 0.0
        missed = 1 - factors.availability * factors.perception
        if detector is None:
            return missed / count
        return (detector.cv**2 * detector.objects + missed) / (count * detector.factor)


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
    squares = [factors.availability_se / factors.availability, factors.perception_se / factors.perception]
    factor = 1 / (factors.availability * factors.perception)
    if detector is not None:
        factor *= detector.factor
        squares.append(detector.cv)
    return Correction(species, factor, math.hypot(*squares), detector, factors, note)


def detector_error(classes: Sequence[str], counts: ValidationCounts) -> DetectorError:
    """Precision and recall of `classes` taken together, with errors by a bootstrap over images.

    Images, not boxes, are drawn, because the animals of one image are missed and confused together (Efron and
    Tibshirani 1993, An Introduction to the Bootstrap, ch. 8). Raises ValueError where nothing was found rightly.
    """
    images = np.array([row[0] for name in classes for row in counts.counts.get(name, ())], np.int64)
    rows = np.array([row[1:] for name in classes for row in counts.counts.get(name, ())], np.float64).reshape(-1, 3)
    numbers, place = np.unique(images, return_inverse=True)
    table = np.stack([np.bincount(place, rows[:, column], len(numbers)) for column in range(3)], axis=1)
    table = table[table.sum(axis=1) > 0]
    if not table[:, 0].sum() > 0:
        raise ValueError("no true positive, so neither precision nor recall is known")
    precision, recall, factor = (float(value) for value in _shares(table.sum(axis=0)[None])[0])
    resampled = _shares(_resampled_sums(table, counts.images))
    # A replicate without a detection or a label says nothing of one of the three.
    errors = np.nanstd(np.where(np.isfinite(resampled), resampled, np.nan), axis=0, ddof=1)
    return DetectorError(
        precision,
        float(errors[0]),
        recall,
        float(errors[1]),
        factor,
        float(errors[2]) / factor,
        len(table),
        round(table[:, 0].sum() + table[:, 2].sum()),
    )


def corrected(estimate: Estimate, correction: Correction) -> Estimate:
    """The estimate times the correction's factor; squared coefficients of variation add (Goodman 1960, to first order).

    `estimate` is made from what one look would have shown where the detector's errors are corrected, else from unique
    animals. The chance errors of the survey's own photos are within the variance between transects but for the finite
    population correction, which takes their share in the sampled ground out: they are added there (two stages: Cochran
    1977, ch. 10), and wholly where everything was photographed.

    Limits: for `jolly2` estimate -+ t SE. Else the distances of the limits from the estimate on the log scale and
    the correction's own are added as squares, which keeps the asymmetry of each (MOVER: Zou and Donner 2008,
    Stat. Med. 27: 1693-1702). The lower limit is never below the count of one look times precision.
    """
    if estimate.estimate is None or not correction.applies:
        return estimate
    value = estimate.estimate * correction.factor
    density = None if estimate.density is None else estimate.density * correction.factor
    scaled = replace(estimate, estimate=value, density=density, variance=None, se=None, ci95=None)
    if estimate.variance is None and estimate.method != "total":
        return scaled
    sampling = 0.0 if estimate.variance is None else estimate.variance
    own = _own_cv(estimate, correction)
    cv = math.hypot(math.sqrt(sampling) / estimate.estimate, own) if estimate.estimate > 0 else 0.0
    scaled = replace(scaled, variance=(cv * value) ** 2, se=cv * value)
    if estimate.method == "total":
        note = estimate.note.replace(", so no interval", "")
        scaled = replace(scaled, note=f"{note} The limits hold the error of the correction alone.".strip())
    limits = _limits(estimate, correction, value, (cv, own))
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
        "recall": None if detector is None else detector.recall,
        "recall_se": None if detector is None else detector.recall_se,
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


def _own_cv(estimate: Estimate, correction: Correction) -> float:
    """The correction's own coefficient of variation: of its factors, and of chance in the ground that was sampled."""
    share = 1.0 if estimate.method == "total" or estimate.sampled_share is None else min(estimate.sampled_share, 1.0)
    return math.sqrt(correction.cv**2 + share * correction.chance_variance(estimate.seen))


def _limits(
    estimate: Estimate, correction: Correction, value: float, cvs: tuple[float, float]
) -> tuple[float, float] | None:
    """Limits around `value`; `cvs` are the coefficients of variation in all, and of the correction alone."""
    cv, own_cv = cvs
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
    df = math.inf if correction.detector is None else float(max(correction.detector.images - 1, 1))
    quantile = 1.959963984540054 if math.isinf(df) else float(stdtrit(df, 0.975))
    own = quantile * math.sqrt(math.log1p(own_cv**2))
    down, up = math.hypot(math.log(low), own), math.hypot(math.log(high), own)
    return max(value * math.exp(-down), floor), max(value * math.exp(up), floor)


def _shares(sums: FloatArray) -> FloatArray:
    """Precision, recall and precision / recall (k, 3) of true positives, false positives, false negatives (k, 3)."""
    found, called, labelled = sums[:, 0], sums[:, 0] + sums[:, 1], sums[:, 0] + sums[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([found / called, found / labelled, labelled / called], axis=1)


def _resampled_sums(table: FloatArray, images: int) -> FloatArray:
    """Sums of `table` (m, 3) over `images` images drawn with replacement; those without a row add nothing."""
    generator = np.random.default_rng(_SEED)
    shares = np.full(len(table) + 1, 1 / images)
    shares[-1] = max(1 - len(table) / images, 0.0)
    sums = np.empty((_REPLICATES, 3))
    step = max(_CHUNK // len(shares), 1)
    for start in range(0, _REPLICATES, step):
        part = slice(start, min(start + step, _REPLICATES))
        drawn = generator.multinomial(images, shares / shares.sum(), part.stop - part.start)
        sums[part] = drawn[:, :-1] @ table
    return sums
