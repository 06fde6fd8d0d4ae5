"""What is taken out of the detector image, and that a list which no longer fits stops the build."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "docker" / "detector" / "trim.py"
MODULE = runpy.run_path(str(PROGRAM))
trim: Callable[[Path], int] = MODULE["trim"]


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Site-packages with a file of 10 bytes for every pattern, and two that must stay."""
    for pattern in MODULE["UNUSED"]:
        name = pattern.replace("**", "core").replace("*", "7")
        path = tmp_path / name if "." in Path(name).name else tmp_path / name / "inside"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123456789")
    for name in ("openvino/libs/libopenvino_ir_frontend.so.7", "openvino/libs/libopenvino_onnx_frontend.so.7"):
        (tmp_path / name).write_bytes(b"stays")
    return tmp_path


def test_only_what_the_list_names_goes(packages: Path) -> None:
    assert trim(packages) == 10 * len(MODULE["UNUSED"])
    assert sorted(file.name for file in packages.rglob("*") if file.is_file()) == [
        "libopenvino_ir_frontend.so.7",
        "libopenvino_onnx_frontend.so.7",
    ]


def test_a_pattern_that_matches_nothing_stops_the_build(packages: Path) -> None:
    (packages / "openvino/libs/cache.json").unlink()
    with pytest.raises(SystemExit, match=r"openvino/libs/cache\.json matches nothing any more"):
        trim(packages)
