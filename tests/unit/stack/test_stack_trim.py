"""What is taken out of the detector image, and that a list which no longer fits stops the build."""

import runpy
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "docker" / "detector" / "trim.py"
MODULE = runpy.run_path(str(PROGRAM))
trim: Callable[[Path, str, str], int] = MODULE["trim"]
X86, ARM = "x86_64", "aarch64"
STAY = [
    "nvidia/cu13/lib/libcublas.so.7",
    "onnxruntime/capi/libonnxruntime_providers_shared.so",
    "openvino/libs/libopenvino_ir_frontend.so.7",
    "openvino/libs/libopenvino_onnx_frontend.so.7",
]


def fill(packages: Path, accelerator: str, machine: str = X86) -> int:
    """Make site-packages with 10 bytes for every pattern, and a few files that must stay; the number of patterns."""
    patterns = MODULE["patterns"](accelerator, machine)
    for pattern in patterns:
        name = pattern.replace("**", "core").replace("*", "7")
        path = packages / name if "." in Path(name).name else packages / name / "inside"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123456789")
    for name in STAY:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_bytes(b"stays")
    return len(patterns)


def files(packages: Path) -> list[str]:
    return sorted(str(file.relative_to(packages)) for file in packages.rglob("*") if file.is_file())


@pytest.mark.parametrize(("accelerator", "machine"), [("cpu", X86), ("cuda", X86), ("cpu", ARM)])
def test_only_what_the_list_names_goes(tmp_path: Path, accelerator: str, machine: str) -> None:
    patterns = fill(tmp_path, accelerator, machine)
    assert trim(tmp_path, accelerator, machine) == 10 * patterns
    assert files(tmp_path) == STAY


def test_what_cuda_brings_is_looked_for_in_its_image_alone(tmp_path: Path) -> None:
    fill(tmp_path, "cpu")
    (tmp_path / "nvidia/cu13/lib/libcufft.so.12").touch()
    trim(tmp_path, "cpu", X86)
    assert "nvidia/cu13/lib/libcufft.so.12" in files(tmp_path)
    fill(tmp_path, "cpu")
    (tmp_path / "nvidia/cu13/lib/libcufft.so.12").unlink()
    with pytest.raises(SystemExit, match=r"nvidia/cu13/lib/libcufft\* matches nothing any more"):
        trim(tmp_path, "cuda", X86)


def test_what_the_wheels_of_arm64_lack_is_looked_for_on_x86_64_alone(tmp_path: Path) -> None:
    fill(tmp_path, "cpu", ARM)
    with pytest.raises(SystemExit, match=r"libopenvino_intel_gpu_plugin\.so matches nothing any more"):
        trim(tmp_path, "cpu", X86)


def test_a_pattern_that_matches_nothing_stops_the_build(tmp_path: Path) -> None:
    fill(tmp_path, "cpu")
    (tmp_path / "openvino/libs/cache.json").unlink()
    with pytest.raises(SystemExit, match=r"openvino/libs/cache\.json matches nothing any more"):
        trim(tmp_path, "cpu", X86)


def test_an_unknown_accelerator_stops_the_build(tmp_path: Path) -> None:
    fill(tmp_path, "cpu")
    before = files(tmp_path)
    with pytest.raises(SystemExit, match="ACCELERATOR=rocm is not one of cpu, cuda"):
        trim(tmp_path, "rocm", X86)
    assert files(tmp_path) == before


def test_no_library_that_stays_names_the_runtime_for_programs_in_c() -> None:
    site = Path(onnxruntime.__file__).parents[1]
    pattern = "onnxruntime/capi/libonnxruntime.so.1.*"
    assert pattern in MODULE["UNUSED"]
    (gone,) = site.glob(pattern)
    name = b"libonnxruntime.so"  # how another file would link it, or open it by name
    assert name in gone.read_bytes()
    stay = [file for folder in ("onnxruntime", "openvino") for file in (site / folder).rglob("*.so*") if file != gone]
    assert len(stay) > 5
    assert [file for file in stay if name in file.read_bytes()] == []
