"""Evaluation of the trained model: our engine on the exported model, as it will be served."""

import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transect.datasets import Dataset
from transect.engine import (
    BackgroundCounts,
    DetectOptions,
    Detector,
    Evaluation,
    ValidationCounts,
    ValidationProfile,
    search_background,
    search_split,
)
from transect.registry import ExportedModel, ModelMeasurements, build_package
from transect.settings import Settings
from transect.training.packaging.validation_profile import build_profile

logger = logging.getLogger(__name__)

# The difference in mAP50 that is allowed for any number of labelled objects, and the share of objects that only one of
# two preprocessings finds with the same weights. See `map50_tolerance`.
_SYSTEMATIC, _DISAGREEMENT = 0.02, 0.05

MIN_CONF, MAX_CONF = 0.05, 0.6


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """The model on the validation split and, at the threshold `conf` that follows from it, on the test split.

    `counts` are true positives, false positives and misses in each validation image at `conf`, and `background` the
    false alarms on empty ground (None without any): a census corrects its counts with them. `profile` describes the
    validation images and detections. `backend` computed all of it, in fp32.
    """

    val: Evaluation
    test: Evaluation
    conf: float
    counts: ValidationCounts
    profile: ValidationProfile
    backend: str
    background: BackgroundCounts | None = None


def evaluate_model(
    model: ExportedModel, dataset: Dataset, settings: Settings, background: Sequence[Path] = ()
) -> Evaluations:
    """Build a temporary package of `model` and evaluate it in fp32.

    `background` are images without any animal; they are cut into tiles as a census cuts its photos.

    The errors are counted on the validation split, which also chose the threshold and the epoch: precision and recall
    are slightly optimistic for it. The test split is kept for its purpose, the comparison of versions.
    """
    with tempfile.TemporaryDirectory(prefix="transect-evaluation-") as folder:
        scratch = build_package(Path(folder) / "package", model, ModelMeasurements(conf=MAX_CONF))
        detector = Detector.from_settings(scratch, settings.model_copy(update={"precision": "fp32"}), verify=False)
        try:
            least = DetectOptions(tile="off", conf=MIN_CONF)
            searched = search_split(
                detector, dataset.splits["val"], dataset.names, options=least, title="Evaluating on val"
            )
            conf = recommend_confidence(searched.evaluation().best_conf)
            val = searched.at(conf)
            at_conf = DetectOptions(tile="off", conf=conf)
            test = search_split(
                detector, dataset.splits["test"], dataset.names, options=at_conf, title="Evaluating on test"
            ).evaluation()
            profile = build_profile(detector, dataset, val, max_pixels=settings.max_pixels)
            alarms = None
            if background:
                tiled = DetectOptions(tile="auto", conf=conf)
                alarms = search_background(detector, background, dataset.names, options=tiled)
            backend = detector.backend
        finally:
            detector.close()
    return Evaluations(
        val=val.evaluation(),
        test=test,
        conf=conf,
        counts=val.validation_counts(),
        profile=profile,
        backend=backend,
        background=alarms,
    )


def recommend_confidence(best_f1: float) -> float:
    """The package's score threshold: that of the best F1 on the validation split, within 0.05..0.6.

    The bounds keep a barely trained model from detecting everything or nothing.
    """
    return round(min(max(best_f1, MIN_CONF), MAX_CONF), 3)


def map50_tolerance(instances: Sequence[int]) -> float:
    """The difference in mAP50 between our engine and Ultralytics that is no fault, for the same weights.

    `instances` are the labelled objects of each class that has any. Ultralytics validates in padded rectangles and we
    in squares. That shifts the network's grid: scores change slightly everywhere (0.02), and an object whose score or
    overlap is near the threshold is found by only one of the two. Each of n objects of a class does so independently
    with probability d, and moves the class's average precision by up to 1 / n. So the difference has a standard
    deviation of sqrt(d / n), and that of the mean over C classes sqrt(sum(d / n)) / C. Two of them are added, and at
    least one object of the rarest class. d = 0.05 is an assumption, and meant to be high. A class of 10 objects may
    differ by 0.16, one of 100 by 0.065 and one of 10000 by 0.024.
    """
    spread = math.sqrt(sum(_DISAGREEMENT / count for count in instances)) / len(instances)
    one_object = 1 / min(instances) / len(instances)
    return _SYSTEMATIC + max(2 * spread, one_object)


def warn_of_difference(ours: Evaluation, theirs: dict[str, float]) -> None:
    """Warn when Ultralytics' mAP50 on the same split differs from our engine's by more than chance."""
    allowed = map50_tolerance([values.instances for values in ours.per_class.values() if values.instances])
    if abs(ours.map50 - theirs["mAP50"]) > allowed:
        logger.warning(
            "On the validation split our engine finds mAP50 %.3f and Ultralytics %.3f, and %.3f may be chance: look at "
            "image size and export.",
            ours.map50,
            theirs["mAP50"],
            allowed,
        )
