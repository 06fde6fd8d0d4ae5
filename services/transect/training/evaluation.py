"""What the trained model is worth: our engine on the exported model, as it will be served."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.datasets import Dataset
from transect.engine import DetectOptions, Detector, Evaluation, ValidationCounts, search_split
from transect.registry import build_package
from transect.settings import Settings

logger = logging.getLogger(__name__)

# Beyond this the exported model is not the one that was trained.
MAP50_TOLERANCE = 0.02

MIN_CONF, MAX_CONF = 0.05, 0.6


@dataclass(frozen=True)
class Evaluations:
    """The model on the validation split and, at the threshold `conf` that follows from it, on the test split.

    `counts` are what was right, wrong and missed in each validation image at `conf`: what a census corrects with.
    """

    val: Evaluation
    test: Evaluation
    conf: float
    counts: ValidationCounts


def evaluate_model(dataset: Dataset, settings: Settings, **package: Any) -> Evaluations:
    """Build a package that is thrown away again (`package`: as build_package takes) and evaluate it in fp32.

    The errors are counted on the validation split, which also chose the threshold and the epoch: precision and recall
    come out a little too good for it. The test split stays what it is for, the comparison of one version with another.
    """
    with tempfile.TemporaryDirectory(prefix="transect-evaluation-") as folder:
        scratch = build_package(Path(folder) / "package", **package, conf=MAX_CONF)
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
        finally:
            detector.close()
    return Evaluations(val.evaluation(), test, conf, val.validation_counts())


def recommend_confidence(best_f1: float) -> float:
    """The package's score threshold: that of the best F1 on the validation split, within 0.05..0.6.

    The bounds keep a hardly trained model from calling everything or nothing an animal.
    """
    return round(min(max(best_f1, MIN_CONF), MAX_CONF), 3)


def warn_of_difference(ours: Evaluation, theirs: dict[str, float]) -> None:
    """Say so when Ultralytics measured another mAP50 on the same split than our engine did."""
    if abs(ours.map50 - theirs["mAP50"]) > MAP50_TOLERANCE:
        logger.warning(
            "On the validation split our engine finds mAP50 %.3f and Ultralytics %.3f: look at image size and export.",
            ours.map50,
            theirs["mAP50"],
        )
