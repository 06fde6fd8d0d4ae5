"""The benchmark of a GPU as one file that is carried to another machine, and started there."""

import base64
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from benchmarks import gpu
from benchmarks.gpu_bundle import write_bundle
from benchmarks.gpu_place import TILES


def test_no_gpu_is_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, Path(gpu.__file__), "--out", tmp_path / "out"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("There is no GPU to measure here: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    model = folder / "model"
    model.mkdir()
    for name in ("model.onnx", "package.json"):
        (model / name).write_bytes(b"of no use")
    np.save(model / TILES, np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8))
    write_bundle(folder / "out.py", model)
    return folder / "out.py"


def test_the_bundle_starts_in_an_empty_folder(bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", bundle, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--rehearse" in done.stdout
    assert "full memory" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_bundle_runs_a_step_with_what_it_brings(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(bundle), "--rehearse", "--only", "callers", "--out", "found"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    # The step came as far as the model of this test, which is none.
    (line,) = [json.loads(text) for text in (tmp_path / "found" / "results.jsonl").read_text().splitlines()]
    assert (done.returncode, line["step"], line["status"]) == (1, "callers", "failed")
    assert re.search(r"transect-gpu-\w+/bundled/model\.onnx cannot be loaded by onnxruntime", line["sentence"])
    assert (tmp_path / "found" / "report.md").is_file()


def test_the_bundle_holds_no_leftovers(bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_text().split('CONTENT = """\n')[1].split('"""')[0]
    (tmp_path / "content.zip").write_bytes(base64.b64decode(content))
    with zipfile.ZipFile(tmp_path / "content.zip") as archive:
        names = archive.namelist()
    assert {"LICENSE", "benchmarks/gpu.py", "services/transect/__init__.py", "bundled/model.onnx"} <= set(names)
    assert "services/transect/training/starter/yolo11n-starter.pt" in names
    assert not [name for name in names if name.endswith(".pyc")]
