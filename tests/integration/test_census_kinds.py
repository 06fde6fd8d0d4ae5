"""What is kept of a photo belongs to one kind of computing: backend, precision, instruction set, library."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kept_parts import kept_photos
from package_fixtures import make_variant, with_variants
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.photos import LocalPhoto
from transect.census.manifest import run_name
from transect.census.sightings.detect import parts_below, search_frames, search_key
from transect.census.sightings.found import FrameDetections
from transect.engine import DetectOptions, Detector
from transect.engine.backends import native_precisions
from transect.engine.backends.instructions import cpu_instructions, onednn_limit

OPTIONS = DetectOptions(conf=0.01)
SIDE = 64


@pytest.fixture
def package(make_package: Callable[..., Path], tmp_path: Path) -> Path:
    return with_variants(make_package(lively=True), tmp_path / "package", make_variant("bf16"))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    return paths


def search(detector: Detector, photos: list[Path], work: Path) -> Sequence[FrameDetections]:
    frames = [
        Frame(
            name=path.name,
            photo=LocalPhoto(path),
            transect=None,
            taken_at=None,
            width=SIDE,
            height=SIDE,
            placement=None,
        )
        for path in photos
    ]
    return search_frames(
        frames,
        detector=detector,
        options=OPTIONS,
        parts=parts_below(work, detector, OPTIONS),
        workers=1,
        max_pixels=10**6,
    )


def kinds() -> list[tuple[str, str]]:
    more = [("openvino", "bf16")] if "bf16" in native_precisions("openvino") else []
    return [("openvino", "fp32"), ("onnxruntime", "fp32"), *more]


def test_kinds_keep_apart_what_they_found(package: Path, photos: list[Path], tmp_path: Path) -> None:
    work, runs = tmp_path / "work", set()
    for number, (backend, precision) in enumerate(kinds(), 1):
        with Detector.open(package, backend=backend, precision=precision) as detector:
            first, again = (search(detector, photos, work) for _ in range(2))
            runs.add(run_name("survey", detector, OPTIONS, CensusConfig()))
        assert not any(one.reused for one in first)
        assert all(one.reused for one in again)
        assert all((one.scores == other.scores).all() for one, other in zip(first, again, strict=True))
        assert any(len(one.scores) for one in first)
        assert len(list(work.iterdir())) == len(runs) == number
        assert len(kept_photos(work)) == number * len(photos)


def test_a_run_is_named_by_what_changes_its_numbers(package: Path) -> None:
    with Detector.open(package, backend="openvino", precision="fp32") as detector:
        name, refusing, resampled = (
            run_name("survey", detector, OPTIONS, config)
            for config in (CensusConfig(), CensusConfig(trust="refuse"), CensusConfig(gsd="auto"))
        )
    assert refusing == name != resampled


ELSEWHERE = """
import json, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[4])
from test_census_kinds import OPTIONS, search, search_key
from transect.engine import Detector
with Detector.open(Path(sys.argv[1]), backend="openvino", precision="fp32") as detector:
    found = search(detector, [Path(one) for one in json.loads(sys.argv[2])], Path(sys.argv[3]))
    print(json.dumps([search_key(detector, OPTIONS), [one.reused for one in found]]))
"""


@pytest.mark.skipif(not cpu_instructions().startswith("AVX"), reason="no x86 CPU with AVX, or no /proc/cpuinfo")
def test_instruction_sets_keep_apart_what_they_found(package: Path, photos: list[Path], tmp_path: Path) -> None:
    work = tmp_path / "work"
    with Detector.open(package, backend="openvino", precision="fp32") as detector:
        key, instructions = search_key(detector, OPTIONS), detector.instructions
        search(detector, photos, work)
        lower = "AVX2" if instructions.startswith("AVX512") else "AVX"
        paths = json.dumps([str(Path(__file__).parent), str(Path(__file__).parents[1])])
        arguments = [str(package), json.dumps([str(path) for path in photos]), str(work), paths]

        def elsewhere(limit: str) -> tuple[str, list[bool]]:
            """The key, and which photos were found earlier, of a process that may use this instruction set alone."""
            command = [sys.executable, "-c", ELSEWHERE, *arguments]
            environ = os.environ | {"ONEDNN_MAX_CPU_ISA": limit}
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
            other, reused = json.loads(done.stdout)
            return other, reused

        assert elsewhere(onednn_limit(os.environ)) == (key, [True] * 3)
        other, reused = elsewhere(lower)
        assert other != key
        assert reused == [False] * 3
        assert elsewhere(lower) == (other, [True] * 3)
    assert len(list(work.iterdir())) == 2
    assert len(kept_photos(work)) == 2 * len(photos)


@pytest.mark.parametrize("decides", ["backend", "precision", "instructions", "library", "package_sha256"])
def test_the_key_changes_with_all_that_decides(package: Path, decides: str) -> None:
    with Detector.open(package, backend="openvino", precision="fp32") as detector:
        key = search_key(detector, OPTIONS)
        other = type("Other", (), {"__getattr__": lambda _, name: getattr(detector, name), decides: "another"})()
        assert search_key(other, OPTIONS) != key
