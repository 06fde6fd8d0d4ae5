"""What the trained model is worth: our engine on the exported model, as it will be served."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.datasets import Dataset
from transect.engine import Detector, Evaluation, evaluate_package
from transect.registry import build_package
from transect.settings import Settings

logger = logging.getLogger(__name__)

# Beyond this the exported model is not the one that was trained.
MAP50_TOLERANCE = 0.02


@dataclass(frozen=True)
class Evaluations:
    """The package on the validation and on the test split."""

    val: Evaluation
    test: Evaluation


def evaluate_model(dataset: Dataset, settings: Settings, **package: Any) -> Evaluations:
    """Build a package that is thrown away again (`package`: as build_package takes) and evaluate it.

    Its confidence threshold is the one that counts as the operating point.
    """
    with tempfile.TemporaryDirectory(prefix="transect-evaluation-") as folder:
        scratch = build_package(Path(folder) / "package", **package)
        detector = Detector.open(scratch, backend=settings.backend, threads=settings.threads, verify=False)
        try:
            val = evaluate_package(detector, dataset.splits["val"])
            test = val if dataset.test_is_val else evaluate_package(detector, dataset.splits["test"])
        finally:
            detector.close()
    return Evaluations(val, test)


def recommend_confidence(best_f1: float) -> float:
    """The package's score threshold: that of the best F1 on the validation split, within 0.05..0.6.

    The bounds keep a hardly trained model from calling everything or nothing an animal.
    """
    return round(min(max(best_f1, 0.05), 0.6), 3)


def warn_of_difference(ours: Evaluation, theirs: dict[str, float]) -> None:
    """Say so when Ultralytics measured another mAP50 on the same split than our engine did."""
    if abs(ours.map50 - theirs["mAP50"]) > MAP50_TOLERANCE:
        logger.warning(
            "On the validation split our engine finds mAP50 %.3f and Ultralytics %.3f: look at image size and export.",
            ours.map50,
            theirs["mAP50"],
        )
