"""Comparison of variants with fp32, and their acceptance."""

import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from package_fixtures import make_variant
from tiny_datasets import write_spots_dataset
from toy_model import CELL, COLOURS, toy_export, write_toy_onnx
from transect.datasets import load_dataset
from transect.engine import Detector, Evaluation, Precision, VariantLimits, read_manifest, search_split
from transect.engine.backends import BackendUnavailableError, choice, native_precisions
from transect.engine.backends.cuda.session import Gpu
from transect.settings import load_settings
from transect.training.config.recipe import PrecisionRecipe
from transect.training.packaging import variant_benchmark
from transect.training.packaging.variant_benchmark import DraftPackage, make_variants
from transect.training.packaging.variants import MeasuredVariant, VariantReport, compare_with_fp32, rejection_reasons


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of a millisecond need not be timed for long."""
    monkeypatch.setattr(variant_benchmark, "_ROUND_S", 0.01)


def _evaluation(map50_95: float, recall: float | None, detections: int, objects: int = 200) -> Evaluation:
    return Evaluation(
        images=20,
        instances=objects,
        map50=map50_95,
        map50_95=map50_95,
        precision=0.9,
        recall=0.8,
        best_conf=0.4,
        conf=0.4,
        precision_at_conf=None,
        recall_at_conf=recall,
        count_error=(detections - objects) / objects if objects else None,
        per_class={},
    )


def test_a_variant_is_compared_with_fp32_and_not_with_the_truth() -> None:
    reference, found = _evaluation(0.7, 0.9, 190), _evaluation(0.69, 0.91, 187)
    variant = compare_with_fp32("int8", found, reference, 2.5, VariantLimits())
    assert variant.map50_95_change == pytest.approx(-0.01)
    assert variant.recall_change == pytest.approx(0.01)
    assert variant.count_error == pytest.approx(3 / 200)
    assert (variant.images, variant.objects, variant.speedup) == (20, 200, 2.5)
    assert variant.files == ("model.int8.xml", "model.int8.bin")
    assert compare_with_fp32("bf16", found, reference, 2.5, VariantLimits()).files == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"map50_95_change": -0.005, "recall_change": -0.005, "count_error": 0.005}, []),
        ({"map50_95_change": 0.3, "recall_change": 0.3}, []),
        ({"map50_95_change": -0.0051}, ["loses 0.0051 of mAP50-95 and 0.005 is allowed"]),
        ({"recall_change": -0.02}, ["loses 0.0200 of recall and 0.005 is allowed"]),
        ({"count_error": 0.0101}, ["its count is 1.01% off and 0.50% is allowed"]),
        ({"map50_95_change": -0.1, "recall_change": -0.1, "count_error": 0.1}, ["mAP50-95", "recall", "count"]),
        ({"objects": 0}, ["no labelled animal"]),
        ({"map50_95_change": -0.1, "limits": VariantLimits(map50_95_loss=0.2)}, []),
    ],
)
def test_the_limits(fields: dict[str, float], expected: list[str]) -> None:
    reasons = rejection_reasons(make_variant("bf16", **fields))
    assert len(reasons) == len(expected)
    assert all(text in reason for text, reason in zip(expected, reasons, strict=True))


@given(change=st.floats(-1, 1), recall=st.floats(-1, 1), count=st.floats(0, 1))
def test_a_gain_is_no_reason_to_refuse_and_a_loss_beyond_the_limit_is(
    change: float, recall: float, count: float
) -> None:
    refused = bool(
        rejection_reasons(make_variant("int8", map50_95_change=change, recall_change=recall, count_error=count))
    )
    assert refused == (change < -0.005 - 1e-9 or recall < -0.005 - 1e-9 or count > 0.005 + 1e-9)


def test_the_report_says_of_each_variant_what_came_of_it() -> None:
    bad = make_variant("int8", map50_95_change=-0.02)
    report = VariantReport((MeasuredVariant(bad, rejection_reasons(bad)),), {"bf16": "the recipe turns it off"})
    assert report.passed == ()
    assert report.sentences[0].startswith("int8 is not in the package, because it loses 0.0200 of mAP50-95")
    assert "(96 images, 500 animals)" in report.sentences[0]
    assert report.tags()["transect.bf16"] == "bf16 is not in the package: the recipe turns it off."
    assert report.metrics()["int8/mAP50-95_change"] == -0.02
    assert report.metrics()["int8/passed"] == 0.0
    good = make_variant("bf16")
    passed = VariantReport((MeasuredVariant(good, rejection_reasons(good)),))
    assert passed.passed == (good,)
    assert passed.sentences[0].startswith("bf16 is in the package: mAP50-95 -0.0010")


def test_a_draft_describes_the_exported_model_and_lists_its_onnx_file_alone(tmp_path: Path) -> None:
    onnx_path = write_toy_onnx(tmp_path / "model.onnx")
    draft = DraftPackage.of(toy_export(onnx_path, tmp_path / "not there yet.pt"), 0.3)
    assert draft.folder == tmp_path
    assert (draft.manifest.names, draft.manifest.conf, draft.manifest.stride) == (tuple(COLOURS), 0.3, CELL)
    assert list(draft.manifest.files) == ["model.onnx"]


def test_a_cpu_that_computes_neither_ends_its_training_without_variants(
    dot_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    dataset = load_dataset(write_spots_dataset(tmp_path / "spots", images=1, size=64))
    model = DraftPackage(read_manifest(dot_package), tmp_path)
    report = make_variants(model, dataset, PrecisionRecipe(), load_settings({}, env_file=None))
    assert report.passed == ()
    assert report.sentences == (
        "bf16 is not in the package: this CPU does not compute bfloat16 in hardware, so that it cannot be measured "
        "here.",
        "int8 is not in the package: this CPU sums products of bytes with saturation, so that it cannot be measured "
        "here.",
        "fp16 is not in the package: ONNX Runtime finds no NVIDIA GPU, so that it cannot be measured here.",
        "tf32 is not in the package: ONNX Runtime finds no NVIDIA GPU that computes TF32, so that it cannot be "
        "measured here.",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["spots"]


@pytest.mark.skipif("bf16" not in native_precisions("openvino"), reason="this CPU does not compute bfloat16")
def test_what_is_known_of_fp32_is_not_measured_again(
    dot_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset(write_spots_dataset(tmp_path / "spots", images=2, size=64))
    settings = load_settings({}, env_file=None)
    real, searched = variant_benchmark._evaluate, []

    def evaluate(detector: Detector, *others: Any) -> Evaluation:
        searched.append(detector.precision)
        return real(detector, *others)

    monkeypatch.setattr(variant_benchmark, "_evaluate", evaluate)
    model = DraftPackage(read_manifest(dot_package), dot_package)
    recipe = PrecisionRecipe(int8=False)
    with Detector.open(dot_package, backend="openvino", precision="fp32") as detector:
        known = search_split(detector, dataset.splits["val"], dataset.names).evaluation()
    measured = make_variants(model, dataset, recipe, settings).measured[0].variant
    assert searched == ["fp32", "bf16"]
    reused = make_variants(model, dataset, recipe, settings, known={"openvino": known}).measured[0].variant
    assert searched == ["fp32", "bf16", "bf16"]
    assert reused.model_copy(update={"speedup": measured.speedup}) == measured


class _GpuMachine:
    """A machine whose GPU is ONNX Runtime's CPU provider; `fault` is what opening it raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[tuple[str, str]] = []
        self.fault: Exception | None = None
        native = native_precisions
        cuda = frozenset[Precision]({"fp32", "fp16", "tf32"})
        monkeypatch.setattr(
            variant_benchmark, "native_precisions", lambda name: cuda if name == "cuda" else native(name)
        )
        monkeypatch.setattr(choice, "native_precisions", lambda name: cuda if name == "cuda" else native(name))
        monkeypatch.setattr(Gpu, "open", self.open)

    def open(self, name: str, model: Path, size: int, precision: Precision, *, max_batch: int, wait_s: float) -> Gpu:
        if self.fault is not None:
            raise self.fault
        self.opened.append((model.name, precision))
        on_cpu: list[tuple[str, dict[str, Any]]] = [("CPUExecutionProvider", {})]
        return Gpu("cuda", model, size, precision, providers=on_cpu, device="cpu", max_batch=max_batch, wait_s=wait_s)


def test_the_gpus_variants_are_measured_against_fp32_on_the_gpu(
    dot_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _GpuMachine(monkeypatch)
    folder = shutil.copytree(dot_package, tmp_path / "model")
    dataset = load_dataset(write_spots_dataset(tmp_path / "spots", images=2, size=64))
    recipe = PrecisionRecipe(int8=False, bf16=False)
    model = DraftPackage(read_manifest(dot_package), folder)
    report = make_variants(model, dataset, recipe, load_settings({}, env_file=None))
    assert {one.variant.precision: one.variant.files for one in report.measured} == {
        "fp16": ("model.fp16.onnx",),
        "tf32": (),
    }
    assert {one.variant.images for one in report.measured} == {2}
    assert sorted(machine.opened) == [("model.fp16.onnx", "fp16"), ("model.onnx", "fp32"), ("model.onnx", "tf32")]
    # The CPU provider computes tf32 as fp32, and a network of dots is exact in fp16.
    assert {one.variant.map50_95_change for one in report.measured} == {0.0}
    assert onnx.load(folder / "model.fp16.onnx").graph.output[0].name == "output0"
    assert "transect.fp16" in report.tags()


def test_a_gpu_that_fails_does_not_end_a_training_that_is_done(
    dot_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _GpuMachine(monkeypatch)
    machine.fault = BackendUnavailableError("Backend cuda does not work with the GPU of this machine: it is full.")
    folder = shutil.copytree(dot_package, tmp_path / "model")
    dataset = load_dataset(write_spots_dataset(tmp_path / "spots", images=1, size=64))
    model = DraftPackage(read_manifest(dot_package), folder)
    recipe = PrecisionRecipe(int8=False, bf16=False, tf32=False)
    report = make_variants(model, dataset, recipe, load_settings({}, env_file=None))
    assert report.passed == ()
    assert report.absent["fp16"] == (
        "it could not be measured (Backend cuda does not work with the GPU of this machine: it is full)"
    )
    assert report.absent["tf32"] == "the recipe turns it off"
