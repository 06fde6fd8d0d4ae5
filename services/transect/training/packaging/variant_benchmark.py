"""Faster variants of a trained model: conversion, and measurement against fp32 on the validation split."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from transect.datasets import Dataset
from transect.engine import (
    MODEL_FILE,
    Detector,
    Evaluation,
    FastPrecision,
    ModelRef,
    PackageManifest,
    Precision,
    hash_files,
    search_split,
)
from transect.engine.backends import Backend, BackendName, native_precisions, open_backend
from transect.errors import TransectError
from transect.registry.versions.package_parts import ExportedModel, ModelMeasurements, PackageOrigin, describe_package
from transect.settings import Settings
from transect.training.config.recipe import PrecisionRecipe
from transect.training.packaging.half_precision import convert_to_fp16
from transect.training.packaging.int8 import calibration_images, calibration_square, quantize_int8
from transect.training.packaging.score_calibration import fit_score_shift
from transect.training.packaging.variants import MeasuredVariant, VariantReport, compare_with_fp32, rejection_reasons
from transect.wording import one_line

logger = logging.getLogger(__name__)

# The variants by backend, each with the reason when it cannot be measured here.
_VARIANTS: dict[BackendName, dict[FastPrecision, str]] = {
    "openvino": {
        "bf16": "this CPU does not compute bfloat16 in hardware",
        "int8": "this CPU sums products of bytes with saturation",
    },
    "cuda": {
        "fp16": "ONNX Runtime finds no NVIDIA GPU",
        "tf32": "ONNX Runtime finds no NVIDIA GPU that computes TF32",
    },
}

_ROUNDS = 5
_ROUND_S = 0.3
_SPEED_IMAGES = 8


@dataclass(frozen=True)
class DraftPackage:
    """An exported model, not yet packaged: its manifest so far, and the folder of its files."""

    manifest: PackageManifest
    folder: Path

    @classmethod
    def of(cls, model: ExportedModel, conf: float) -> "DraftPackage":
        """The draft of `model`, whose ONNX file is a folder's model.onnx; `conf` is its score threshold."""
        folder = model.onnx.parent
        files = hash_files(folder, [MODEL_FILE])
        return cls(describe_package(model, ModelMeasurements(conf=conf), PackageOrigin(), files), folder)


def make_variants(
    model: DraftPackage,
    dataset: Dataset,
    recipe: PrecisionRecipe,
    settings: Settings,
    *,
    known: Mapping[str, Evaluation] | None = None,
) -> VariantReport:
    """Make and measure the variants that the recipe enables and this machine can compute, and accept or reject them.

    Each is compared with fp32 by this engine on the validation split, both in the variant's backend:
    OpenVINO on the CPU, CUDA on a GPU. `known` are existing evaluations of fp32, by backend. The
    variants' files are written into the model's folder. A variant that cannot be made or measured does
    not stop the training: the report has the reason.
    """
    work = _VariantBenchmark(model, dataset, recipe, settings)
    measured: list[MeasuredVariant] = []
    absent: dict[str, str] = {}
    for backend, precisions in _VARIANTS.items():
        wanted = {precision: why for precision, why in precisions.items() if getattr(recipe, precision)}
        absent |= {precision: "the recipe turns it off" for precision in precisions if precision not in wanted}
        native = native_precisions(backend) if wanted else frozenset[Precision]()
        made: list[FastPrecision] = []
        for precision, why in wanted.items():
            if precision not in native:
                absent[precision] = f"{why}, so that it cannot be measured here"
            elif (failure := work.make(precision)) is not None:
                absent[precision] = failure
            else:
                made.append(precision)
        try:
            measured += work.measure(backend, made, (known or {}).get(backend))
        except TransectError as error:
            if backend != "cuda":
                raise
            # A failing GPU must not lose a finished training.
            absent |= dict.fromkeys(made, f"it could not be measured ({str(error).rstrip('.')})")
    report = VariantReport(tuple(measured), absent)
    for sentence in report.sentences:
        logger.info("%s", sentence)
    return report


@dataclass(frozen=True)
class _VariantBenchmark:
    """Converts and measures the variants of one model."""

    model: DraftPackage
    dataset: Dataset
    recipe: PrecisionRecipe
    settings: Settings

    def file(self, precision: Precision) -> Path:
        return self.model.folder / self.model.manifest.model_file(precision)

    def make(self, precision: FastPrecision) -> str | None:
        """Write the files of a variant, if it has any; returns None, or the reason of a failure."""
        source, target, size = self.file("fp32"), self.file(precision), self.model.manifest.image_size
        try:
            if precision == "int8":
                quantize_int8(source, target, size, self.calibration(), max_pixels=self.settings.max_pixels)
            elif precision == "fp16":
                convert_to_fp16(source, target)
        except ImportError as error:
            return f"{error.name} is not installed (transect[train])"
        except Exception as error:  # noqa: BLE001 - hours of training must not be lost to an optional extra
            return f"this model cannot be converted ({one_line(error, 200) or type(error).__name__})"
        return None

    def calibration(self) -> list[Path]:
        return calibration_images(self.dataset.splits["train"], self.recipe.calibration_images)

    def measure(
        self, backend: BackendName, made: Sequence[FastPrecision], fp32: Evaluation | None
    ) -> tuple[MeasuredVariant, ...]:
        """Compare each variant in `made` with fp32 in this backend; `fp32` is its evaluation if it exists."""
        if not made:
            return ()
        manifest, limit = self.model.manifest, self.settings.max_pixels
        ref = ModelRef(manifest.architecture)
        with ExitStack() as stack:
            backends: dict[Precision, Backend] = {}
            precisions: tuple[Precision, ...] = ("fp32", *made)
            for precision in precisions:
                backends[precision] = self.open(backend, precision)
                stack.callback(backends[precision].close)
            photos = self.dataset.splits["val"].images[:_SPEED_IMAGES]
            squares = [calibration_square(path, 0, manifest.image_size, max_pixels=limit) for path in photos]
            speedups = measure_speedups(backends, squares)
            reference = stack.enter_context(Detector(manifest, ref, backends["fp32"]))
            expected = fp32 or _evaluate(reference, self.dataset, self.settings)
            measured = []
            for variant in made:
                network = backends[variant]
                plain = stack.enter_context(Detector(manifest, ref, network))
                shift = fit_score_shift(reference, plain, self.calibration(), conf=manifest.conf, max_pixels=limit)
                shifted = stack.enter_context(Detector(manifest, ref, network, score_shift=shift))
                found = _evaluate(shifted, self.dataset, self.settings)
                speedup, limits = speedups[variant], self.recipe.limits
                compared = compare_with_fp32(variant, found, expected, speedup, limits, score_shift=shift)
                measured.append(MeasuredVariant(compared, rejection_reasons(compared)))
        return tuple(measured)

    def open(self, backend: BackendName, precision: Precision) -> Backend:
        return open_backend(
            self.file(precision),
            self.model.manifest.image_size,
            backend=backend,
            precision=precision,
            threads=self.settings.threads,
            max_batch=self.settings.max_batch,
            batch_wait_ms=self.settings.batch_wait_ms,
        )


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

    The backends are timed in interleaved rounds of seconds, so that a machine that slows down affects
    all of them; the result is the median of the rounds.
    """
    rates: dict[Precision, list[float]] = {precision: [] for precision in backends}
    for number in range(_ROUNDS + 1):
        for precision, backend in backends.items():
            rate = _rate(backend, squares, 0.0 if number == 0 else _ROUND_S)
            if number:  # the first round only warms up
                rates[precision].append(rate)
    return {precision: median(rates[precision]) / median(rates["fp32"]) for precision in backends}


def _rate(backend: Backend, squares: list[NDArray[np.uint8]], seconds: float) -> float:
    """Inferences a second with `backend.parallel` callers."""
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
