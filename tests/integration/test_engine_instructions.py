"""Identity of a backend's arithmetic: two that may give different numbers never report the same."""

import ctypes
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transect.engine import Detector
from transect.engine.backends import native_precisions, open_backend
from transect.engine.backends.cuda import runtime as cuda_runtime
from transect.engine.backends.instructions import cpu_instructions, onednn_limit

SKYLAKE = "avx avx2 avx512f avx512bw avx512vl avx512dq"


@pytest.mark.parametrize(
    ("flags", "newest"),
    [
        ("sse4_1", "SSE41"),
        ("sse4_1 avx avx2", "AVX2"),
        ("avx avx2 avx_vnni", "AVX2_VNNI"),
        ("avx avx2 avx512f", "AVX2"),
        (SKYLAKE, "AVX512_CORE"),
        (f"{SKYLAKE} avx512_vnni", "AVX512_CORE_VNNI"),
        (f"{SKYLAKE} avx512_vnni avx512_bf16 avx_vnni", "AVX512_CORE_BF16"),
        (f"{SKYLAKE} avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16", "AVX512_CORE_AMX"),
    ],
)
def test_a_cpu_is_named_by_its_newest_instruction_set(flags: str, newest: str) -> None:
    cpuinfo = f"processor\t: 0\nmodel name\t: avx512_bf16 by name alone\nflags\t\t: fpu {flags}\nbugs\t\t: amx_fp16\n"
    assert cpu_instructions(cpuinfo=cpuinfo) == newest


def test_an_arm_cpu_is_named_by_all_that_matters() -> None:
    assert cpu_instructions(cpuinfo="Features\t: fp asimd bf16 asimddp\n") == "ASIMD_ASIMDDP_BF16"
    assert cpu_instructions(cpuinfo="Features\t: fp asimd\n") == "ASIMD"


@pytest.mark.parametrize(
    ("limit", "newest"),
    [
        ("", "AVX512_CORE_BF16"),
        ("DEFAULT", "AVX512_CORE_BF16"),
        ("AVX512_CORE_AMX", "AVX512_CORE_BF16"),
        ("AVX512_CORE", "AVX512_CORE"),
        ("AVX2_VNNI_2", "AVX2"),
        ("AVX", "AVX"),
    ],
)
def test_a_limit_leaves_newer_instructions_unused(limit: str, newest: str) -> None:
    assert cpu_instructions(limit, f"flags : {SKYLAKE} avx512_vnni avx512_bf16") == newest


def test_a_system_that_lists_no_flags_names_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    monkeypatch.setattr("platform.processor", lambda: "Intel64 Family 6 Model 85")
    assert cpu_instructions(cpuinfo="") == "AMD64 Intel64 Family 6 Model 85"


def test_the_older_name_of_the_limit_counts_where_the_newer_is_not_set() -> None:
    assert onednn_limit({"DNNL_MAX_CPU_ISA": "avx2"}) == "AVX2"
    assert onednn_limit({"ONEDNN_MAX_CPU_ISA": "AVX", "DNNL_MAX_CPU_ISA": "AVX2"}) == "AVX"
    assert onednn_limit({}) == ""


LIMITED = """
import sys
from pathlib import Path
from transect.engine import Detector
for backend in ("openvino", "onnxruntime"):
    with Detector.open(Path(sys.argv[1]), backend=backend) as detector:
        print(detector.instructions)
"""


@pytest.mark.skipif(not cpu_instructions().startswith("AVX"), reason="no x86 CPU with AVX, or no /proc/cpuinfo")
def test_a_limit_changes_the_instructions_of_openvino_alone(
    make_package: Callable[..., Path],
) -> None:
    package, limit = make_package(), lower_limit()
    environ = os.environ | {"ONEDNN_MAX_CPU_ISA": limit}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, package], env=environ, capture_output=True, text=True, check=True
    )
    limited, other = done.stdout.splitlines()
    with Detector.open(package, backend="openvino") as detector:
        newest, kernels = detector.instructions.split()
        assert detector.library.startswith("openvino 20")
    with Detector.open(package, backend="onnxruntime") as detector:
        assert detector.instructions == other == cpu_instructions()
        assert detector.library.startswith("onnxruntime 1.")
    assert newest == cpu_instructions(onednn_limit(os.environ))
    assert limited.split()[0] == limit
    assert limited.split()[1] != kernels


def lower_limit() -> str:
    """An instruction set below what this CPU has, with which OpenVINO computes other kernels."""
    return "AVX2" if cpu_instructions(onednn_limit(os.environ)).startswith("AVX512") else "AVX"


def test_the_kernels_are_the_same_whenever_a_network_is_opened(make_package: Callable[..., Path]) -> None:
    model = make_package() / "model.onnx"
    said = {open_backend(model, 64, backend="openvino", threads=threads).instructions for threads in (1, 1, 2)}
    assert len(said) == 1


@pytest.mark.skipif("bf16" not in native_precisions("openvino"), reason="this CPU does not compute bfloat16 itself")
def test_the_kernels_tell_precisions_apart(make_package: Callable[..., Path]) -> None:
    model = make_package() / "model.onnx"
    said = [open_backend(model, 64, backend="openvino", precision=one).instructions for one in ("fp32", "bf16")]
    assert said[0] != said[1]


class _Driver:
    """The calls of libcuda for one GPU, or for none (`status` 100)."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:  # noqa: N802 - NVIDIA's name
        assert flags == 0
        return self.status

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802 - NVIDIA's name
        device._obj.value = 7 + ordinal
        return self.status

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802 - NVIDIA's name
        assert device.value == 7
        value._obj.value = {75: 9, 76: 0}[attribute]
        return self.status

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802 - NVIDIA's name
        assert (size, device.value) == (256, 7)
        name.value = b"NVIDIA H200"
        return self.status


def test_a_gpu_is_named_by_architecture_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_runtime, "_open", lambda _library: _Driver())
    assert cuda_runtime.gpu_instructions() == "sm_90 NVIDIA H200"


def test_a_gpu_that_is_not_known_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda_runtime, "_open", lambda _library: _Driver(100))
    with caplog.at_level(logging.WARNING):
        assert cuda_runtime.gpu_instructions() == "unknown"
    assert "does not report its GPU (CUDA error 100)" in caplog.text


class _Versions:
    """Three libraries in one."""

    def cudaRuntimeGetVersion(self, version: Any) -> int:  # noqa: N802 - NVIDIA's name
        ctypes.memmove(version, ctypes.byref(ctypes.c_int(13020)), 4)
        return 0

    def cudnnGetVersion(self) -> int:  # noqa: N802 - NVIDIA's name
        return 92600

    def getInferLibVersion(self) -> int:  # noqa: N802 - NVIDIA's name
        return 101400


def test_the_libraries_of_a_gpu_are_named_with_their_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_tensorrt(library: str) -> _Versions:
        if library.startswith("libnvinfer"):
            raise OSError("no such file")
        return _Versions()

    monkeypatch.setattr(cuda_runtime, "_library", _Versions)
    monkeypatch.setattr(cuda_runtime, "_open", lambda _library: _Versions())
    assert cuda_runtime.gpu_libraries(tensorrt=False) == ("CUDA 13020", "cuDNN 92600")
    assert cuda_runtime.gpu_libraries(tensorrt=True) == ("CUDA 13020", "cuDNN 92600", "TensorRT 101400")
    monkeypatch.setattr(cuda_runtime, "_open", without_tensorrt)
    assert cuda_runtime.gpu_libraries(tensorrt=True) == ("CUDA 13020", "cuDNN 92600")
