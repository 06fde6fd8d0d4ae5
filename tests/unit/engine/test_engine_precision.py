"""Which precision runs: as the package and the machine allow, and never another one than was asked for."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from package_fixtures import make_variant, with_variants
from transect.engine import Detector, ModelRef, PackageManifest, Precision, read_manifest
from transect.engine.backends import choose_precision, native_precisions, open_backend, openvino_cpu
from transect.engine.backends.cuda import session
from transect.errors import InputError, PackageError
from transect.settings import load_settings

ALL: frozenset[Precision] = frozenset({"fp32", "bf16", "int8"})
GPU: frozenset[Precision] = frozenset({"fp32", "fp16", "tf32"})
FP32: frozenset[Precision] = frozenset({"fp32"})


def manifest(dot_package: Path, **speedups: float) -> PackageManifest:
    package = read_manifest(dot_package)
    extra = ("model.int8.xml", "model.int8.bin", "model.fp16.onnx")
    listed = dict.fromkeys((*package.files, *extra), package.files["model.onnx"])
    variants = tuple(make_variant(name, speedup=speedup) for name, speedup in speedups.items())
    return package.model_copy(update={"files": listed, "variants": variants})


@pytest.mark.parametrize(
    ("speedups", "native", "chosen"),
    [
        ({}, ALL, "fp32"),
        ({"bf16": 1.8, "int8": 1.9}, ALL, "int8"),
        ({"bf16": 1.9, "int8": 1.8}, ALL, "bf16"),
        ({"bf16": 1.9, "int8": 1.8}, frozenset({"fp32", "int8"}), "int8"),
        ({"bf16": 1.9, "int8": 1.8}, FP32, "fp32"),
        ({"bf16": 1.0, "int8": 0.7}, ALL, "fp32"),
        ({"bf16": 1.5, "int8": 1.5}, ALL, "int8"),
        ({"bf16": 1.9, "int8": 2.8, "fp16": 2.5, "tf32": 1.6}, GPU, "fp16"),
        ({"bf16": 1.9, "int8": 2.8, "fp16": 2.5, "tf32": 1.6}, GPU - {"fp16"}, "tf32"),
        ({"fp16": 2.5, "tf32": 1.6}, ALL, "fp32"),
    ],
)
def test_auto_takes_the_fastest_that_this_machine_computes(
    dot_package: Path, speedups: dict[str, float], native: frozenset[Precision], chosen: str
) -> None:
    assert choose_precision(manifest(dot_package, **speedups), "auto", native, "openvino") == chosen


def test_what_was_asked_for_is_what_runs_or_a_sentence(dot_package: Path) -> None:
    package = manifest(dot_package, bf16=0.5)
    assert choose_precision(package, "bf16", ALL, "openvino") == "bf16"
    assert choose_precision(package, "fp32", ALL, "openvino") == "fp32"
    with pytest.raises(PackageError, match=r"no variant int8 .*it has fp32, bf16"):
        choose_precision(package, "int8", ALL, "openvino")
    with pytest.raises(InputError, match="bf16 is not what backend openvino computes in hardware"):
        choose_precision(package, "bf16", FP32, "openvino")


def test_a_package_without_variants_runs_in_fp32_alone(dot_package: Path) -> None:
    with Detector.open(dot_package, precision="auto") as detector:
        assert (detector.precision, detector.ref.precision) == ("fp32", "fp32")
    for precision in ("bf16", "int8"):
        with pytest.raises(PackageError, match=f"no variant {precision}"):
            Detector.open(dot_package, precision=precision)
    with pytest.raises(InputError, match="fp8"):
        Detector.open(dot_package, precision="fp8")


@pytest.mark.usefixtures("int8_on_any_cpu")
def test_int8_is_read_from_its_own_files(int8_package: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:16, 8:16, 0] = 255
    with Detector.open(int8_package, precision="int8") as detector:
        found = detector.detect(image)
    assert found.model.precision == "int8"
    assert [detection.class_name for detection in found.detections] == ["sheep"]
    with pytest.raises(InputError, match="int8 is not what backend onnxruntime computes"):
        Detector.open(int8_package, precision="int8", backend="onnxruntime")
    with Detector.open(int8_package, backend="onnxruntime") as detector:
        assert detector.precision == "fp32"


@pytest.mark.usefixtures("int8_on_any_cpu")
def test_the_settings_decide(int8_package: Path) -> None:
    for precision in ("fp32", "int8"):
        settings = load_settings({"TRANSECT_PRECISION": precision, "TRANSECT_THREADS": "1"}, env_file=None)
        with Detector.from_settings(int8_package, settings, ref=ModelRef("mine", "3", "run")) as detector:
            assert detector.ref == ModelRef("mine", "3", "run", precision)


@pytest.mark.skipif("bf16" not in native_precisions("openvino"), reason="this CPU does not compute bfloat16 itself")
def test_bf16_is_the_same_file_in_fewer_bits(dot_package: Path, tmp_path: Path) -> None:
    package = with_variants(dot_package, tmp_path / "package", make_variant("bf16", speedup=2.0))
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :, 0] = 173
    with Detector.open(package) as detector:
        assert detector.precision == "bf16"
    network = open_backend(package / "model.onnx", 64, backend="openvino", precision="bf16")
    score = float(network.infer(image)[0, 4].max())
    assert 1e-6 < abs(score - 173 / 255) < 0.005


def test_a_machine_without_bf16_does_not_run_it(
    dot_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = with_variants(dot_package, tmp_path / "package", make_variant("bf16", speedup=2.0))
    monkeypatch.setattr("transect.engine.backends.choice.openvino_precisions", lambda: FP32)
    with Detector.open(package) as detector:
        assert detector.precision == "fp32"
    with pytest.raises(InputError, match="computes in hardware"):
        Detector.open(package, precision="bf16")
    with pytest.raises(InputError, match="does not compute bf16"):
        open_backend(package / "model.onnx", 64, precision="bf16")


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni", True),
        ("flags : fpu avx2 avx_vnni", True),
        ("Features : fp asimd asimddp", True),
        ("flags : fpu avx2 fma", False),
        ("", False),
    ],
)
def test_int8_needs_a_cpu_that_sums_bytes_without_overflow(cpuinfo: str, has: bool) -> None:
    assert openvino_cpu.has_byte_dot_products(cpuinfo) is has


@pytest.mark.parametrize(
    ("environ", "forbidden"),
    [
        ({}, set()),
        ({"ONEDNN_MAX_CPU_ISA": ""}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core_vnni"}, {"bf16"}),
        ({"DNNL_MAX_CPU_ISA": "AVX2_VNNI"}, {"bf16"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"bf16", "int8"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "DNNL_MAX_CPU_ISA": "AVX2_VNNI"}, {"bf16", "int8"}),
    ],
)
def test_precisions_beyond_the_limit_are_not_native(environ: dict[str, str], forbidden: set[Precision]) -> None:
    assert openvino_cpu.forbidden_precisions(environ) == forbidden


def test_openvino_below_a_limit_of_onednn_runs_in_what_the_limit_has(
    dot_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert native_precisions("openvino") == FP32
    with pytest.raises(InputError, match="does not compute bf16"):
        open_backend(dot_package / "model.onnx", 64, backend="openvino", precision="bf16")


@pytest.mark.parametrize(
    ("capability", "native"),
    [((0, 0), {"fp32"}), ((6, 1), {"fp32"}), ((7, 5), {"fp32", "fp16"}), ((8, 0), set(GPU)), ((12, 0), set(GPU))],
)
def test_a_gpu_computes_what_its_generation_has(
    capability: tuple[int, int], native: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native_precisions("cuda") == FP32  # there is none here
    monkeypatch.setattr(session, "gpu_is_present", lambda: True)
    monkeypatch.setattr(session, "compute_capability", lambda: capability)
    assert native_precisions("cuda") == native
    assert native_precisions("tensorrt") == FP32


@pytest.mark.parametrize(
    ("precision", "file", "tf32"), [("fp32", "model.onnx", "0"), ("tf32", "model.onnx", "1"), ("fp16", "half", "0")]
)
def test_a_gpu_opens_the_file_and_the_options_of_a_precision(
    dot_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, file: str, tf32: str
) -> None:
    (tmp_path / "package").mkdir()
    shutil.copy(dot_package / "model.onnx", tmp_path / "package" / "model.fp16.onnx")
    package = with_variants(dot_package, tmp_path / "package", make_variant("fp16"), make_variant("tf32"))
    opened: list[tuple[str, str]] = []
    real = onnxruntime.InferenceSession

    class Session:
        """A session that takes the CPU for CUDA."""

        def __init__(self, model: str | bytes, options: Any, providers: list[tuple[str, dict[str, Any]]]) -> None:
            self._real = real(model, options, providers=["CPUExecutionProvider"])
            if isinstance(model, str):
                opened.append((Path(model).name, providers[0][1]["use_tf32"]))

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider"]

        def io_binding(self) -> Any:
            binding = self._real.io_binding()
            bind = binding.bind_output
            binding.bind_output = lambda name, device="cpu": bind(name, "cpu")
            return binding

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda directory: None)
    monkeypatch.setattr(session, "gpu_is_present", lambda: True)
    monkeypatch.setattr(session, "compute_capability", lambda: (8, 9))
    with Detector.open(package, precision=precision) as detector:
        assert (detector.backend, detector.precision) == ("cuda", precision)
        assert detector.detect(np.zeros((64, 64, 3), np.uint8)).model.precision == precision
    assert set(opened) == {(file.replace("half", "model.fp16.onnx"), tf32)}


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_what_only_a_gpu_computes_is_refused_without_one(dot_package: Path, tmp_path: Path, precision: str) -> None:
    (tmp_path / "package").mkdir()
    shutil.copy(dot_package / "model.onnx", tmp_path / "package" / "model.fp16.onnx")
    package = with_variants(dot_package, tmp_path / "package", make_variant("fp16"), make_variant("tf32"))
    with pytest.raises(InputError, match=f"{precision} is not what backend cuda computes in hardware"):
        Detector.open(package, precision=precision)
    with pytest.raises(InputError, match=f"{precision} is not what backend openvino computes in hardware"):
        Detector.open(package, precision=precision, backend="openvino")
    with Detector.open(package) as detector:
        assert detector.precision == "fp32"
