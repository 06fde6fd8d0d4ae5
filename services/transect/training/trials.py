"""Faster variants of a trained model: made, and measured against fp32 on the validation split."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transect.datasets import Dataset, Split
from transect.engine import (
    INT8_FILES,
    MODEL_FILE,
    Detector,
    Evaluation,
    ModelRef,
    PackageManifest,
    Precision,
    hash_files,
    search_split,
)
from transect.engine.backends import Backend, BackendName, native_precisions, open_backend
from transect.settings import Settings
from transect.training.quantize import calibration_images, calibration_square, quantize_int8
from transect.training.recipe import PrecisionRecipe
from transect.training.score_shift import fit_score_shift
from transect.training.variants import Trial, VariantReport, compare, judge

logger = logging.getLogger(__name__)

# What variants run in.
VARIANT_BACKEND: BackendName = "openvino"

_ROUNDS = 5
_ROUND_S = 0.3
_SPEED_IMAGES = 8


@dataclass(frozen=True)
class TrialModel:
    """An exported model, not yet packaged: `manifest` describes it, `folder` holds its files."""

    manifest: PackageManifest
    folder: Path

    @classmethod
    def describe(cls, folder: Path, *, conf: float, **package: Any) -> "TrialModel":
        """The model.onnx in `folder`; `package` as build_package takes, `conf` is its working threshold."""
        fields = {name: value for name, value in package.items() if name not in ("onnx", "weights")}
        files = hash_files(folder, [MODEL_FILE])
        return cls(PackageManifest(**fields, conf=conf, files=files, created_at=datetime.now(UTC)), folder)


def make_variants(
    model: TrialModel,
    dataset: Dataset,
    recipe: PrecisionRecipe,
    settings: Settings,
    *,
    fp32: Evaluation | None = None,
) -> VariantReport:
    """Make, measure and judge the variants that the recipe asks for and this CPU can compute.

    Each is compared with fp32 by this engine on the validation split, both in OpenVINO on the CPU,
    where variants run; `fp32` is fp32's evaluation there, if it is known already. INT8's files are
    written into the model's folder. A variant that cannot be made does not stop the training: the
    report says why.
    """
    absent: dict[str, str] = {}
    native = native_precisions(VARIANT_BACKEND) if recipe.bf16 or recipe.int8 else frozenset[Precision]()
    files: dict[Precision, Path] = {"fp32": model.folder / MODEL_FILE}
    if not recipe.bf16:
        absent["bf16"] = "the recipe turns it off"
    elif "bf16" not in native:
        absent["bf16"] = "this CPU does not compute bfloat16 in hardware, so that it cannot be measured here"
    else:
        files["bf16"] = model.folder / MODEL_FILE
    if not recipe.int8:
        absent["int8"] = "the recipe turns it off"
    elif "int8" not in native:
        absent["int8"] = "this CPU sums products of bytes with saturation, so that it cannot be measured here"
    elif (why := _make_int8(model, dataset.splits["train"], recipe, settings)) is not None:
        absent["int8"] = why
    else:
        files["int8"] = model.folder / INT8_FILES[0]
    report = VariantReport(_measure(model, files, dataset, recipe, settings, fp32=fp32), absent)
    for sentence in report.sentences:
        logger.info("%s", sentence)
    return report


def _make_int8(model: TrialModel, split: Split, recipe: PrecisionRecipe, settings: Settings) -> str | None:
    """Write INT8's files; None, or why there are none."""
    images = calibration_images(split, recipe.calibration_images)
    source, target = model.folder / MODEL_FILE, model.folder / INT8_FILES[0]
    try:
        quantize_int8(source, target, model.manifest.image_size, images, max_pixels=settings.max_pixels)
    except ImportError:
        return "NNCF is not installed (transect[train])"
    except Exception as error:  # noqa: BLE001 - hours of training must not be lost to an optional extra
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"NNCF cannot quantise this model ({reason[:200].rstrip('.')})"
    return None


def _measure(
    model: TrialModel,
    files: Mapping[Precision, Path],
    dataset: Dataset,
    recipe: PrecisionRecipe,
    settings: Settings,
    *,
    fp32: Evaluation | None,
) -> tuple[Trial, ...]:
    if len(files) == 1:
        return ()
    split, size = dataset.splits["val"], model.manifest.image_size
    with ExitStack() as stack:
        backends: dict[Precision, Backend] = {}
        for precision, path in files.items():
            backend = open_backend(path, size, backend=VARIANT_BACKEND, precision=precision, threads=settings.threads)
            stack.callback(backend.close)
            backends[precision] = backend
        squares = [
            calibration_square(path, 0, size, max_pixels=settings.max_pixels) for path in split.images[:_SPEED_IMAGES]
        ]
        speedups = measure_speedups(backends, squares)
        ref = ModelRef(model.manifest.architecture)
        images = calibration_images(dataset.splits["train"], recipe.calibration_images)
        reference = stack.enter_context(Detector(model.manifest, ref, backends["fp32"]))
        expected = fp32 or _evaluate(reference, dataset, settings)
        trials = []
        for precision, backend in backends.items():
            if precision == "fp32":
                continue
            plain = stack.enter_context(Detector(model.manifest, ref, backend))
            shift = fit_score_shift(reference, plain, images, conf=model.manifest.conf, max_pixels=settings.max_pixels)
            shifted = stack.enter_context(Detector(model.manifest, ref, backend, score_shift=shift))
            found = _evaluate(shifted, dataset, settings)
            variant = compare(precision, found, expected, speedups[precision], recipe.limits, score_shift=shift)
            trials.append(Trial(variant, judge(variant)))
    return tuple(trials)


def _evaluate(detector: Detector, dataset: Dataset, settings: Settings) -> Evaluation:
    return search_split(
        detector,
        dataset.splits["val"],
        dataset.names,
        max_pixels=settings.max_pixels,
        title=f"Evaluating {detector.precision} on val",
    ).evaluation()


def measure_speedups(backends: Mapping[Precision, Backend], squares: list[NDArray[np.uint8]]) -> dict[Precision, float]:
    """Throughput of each backend over that of fp32.

    They take turns for some seconds, so that a machine that grows slower does so for all of them;
    the median of the turns counts.
    """
    rates: dict[Precision, list[float]] = {precision: [] for precision in backends}
    for turn in range(_ROUNDS + 1):
        for precision, backend in backends.items():
            rate = _rate(backend, squares, 0.0 if turn == 0 else _ROUND_S)
            if turn:  # the first one only warms up
                rates[precision].append(rate)
    return {precision: median(rates[precision]) / median(rates["fp32"]) for precision in backends}


def _rate(backend: Backend, squares: list[NDArray[np.uint8]], seconds: float) -> float:
    """Inferences a second with as many callers as the backend works best with."""
    start = time.perf_counter()

    def work(first: int) -> int:
        done = 0
        while not done or time.perf_counter() - start < seconds:
            backend.infer(squares[(first + done) % len(squares)])
            done += 1
        return done

    with ThreadPoolExecutor(backend.parallel) as pool:
        done = sum(pool.map(work, range(backend.parallel)))
    return done / (time.perf_counter() - start)
