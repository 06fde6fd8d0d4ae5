"""A training on a machine whose GPU is a stand-in: killed in its second epoch, resumed, and registered.

What computes is the CPU, in half precision; everything else is what runs with a GPU (see gpu_stand_in/torch_cuda.py).
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest

from integration.servers import MlflowServer
from tiny_datasets import write_spots_dataset
from transect.registry import connect
from transect.settings import load_settings

STAND_IN = Path(__file__).parents[1] / "gpu_stand_in"
# A step a batch, so that the scaler of half precision works in each of them.
RECIPE = (
    "train: {epochs: 2, imgsz: 64, batch: 2, nbs: 2, workers: 2, plots: false, deterministic: false}\n"
    "precision: {int8: false, bf16: false}\n"
)

DEVICES = """
import numpy, torch
model = torch.nn.Linear(4, 2).to("cuda")
for wrong in (lambda: model(torch.ones(3, 4)), lambda: numpy.asarray(model.weight.detach())):
    try:
        wrong()
    except (RuntimeError, TypeError) as error:
        print(error)
with torch.autocast("cuda"):
    made = model(torch.ones(3, 4).cuda())
made.sum().backward()
print(made.dtype, made.device, model.weight.grad.device, made.cpu().device, torch.ones(1).device)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Working directory, home directories of the user and of Transect, and what the stand-in was asked."""
    for name in ("place", "user", "gpu", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "place" / "tiny.yaml").write_text(RECIPE)
    write_spots_dataset(tmp_path / "place" / "spots", images=2, size=64)
    return tmp_path


def environ(place: Path, **more: str) -> dict[str, str]:
    told = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    paths = os.pathsep.join([str(STAND_IN), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **told,
        "PYTHONPATH": paths,
        "TORCH_STAND_IN": str(place / "gpu"),
        "HOME": str(place / "user"),
        "TMPDIR": str(place / "tmp"),
        "TRANSECT_HOME": str(place / "home"),
        "TRANSECT_PRETRAINED": "none",
        "TRANSECT_DEVICE": "cuda",
        "TRANSECT_THREADS": "2",
        **more,
    }


def calls(place: Path) -> list[dict[str, Any]]:
    """What was asked of the GPU since the last time."""
    path = place / "gpu" / "calls.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    return found


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def needs_gpu(checkpoint: Path) -> bool:
    """Whether tensors of a checkpoint go to a GPU when it is loaded."""
    with zipfile.ZipFile(checkpoint) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return b"cuda:0" in archive.read(name)


def test_the_stand_in_tells_a_gpu_from_the_cpu(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEVICES], env=environ(place), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    mixed, numpy, devices = done.stdout.splitlines()
    assert mixed.startswith("Expected all tensors to be on the same device")
    assert numpy.startswith("can't convert cuda:0 device type tensor to numpy")
    assert devices == "torch.float16 cuda:0 cuda:0 cpu cpu"


@pytest.mark.rotating
def test_a_training_that_is_killed_on_the_gpu_goes_on_there_and_is_registered(
    place: Path, mlflow_on_sqlite: MlflowServer
) -> None:
    settings = {**mlflow_on_sqlite.environment(), "TRANSECT_MODEL_NAME": f"detector-{uuid.uuid4().hex[:8]}"}
    variables = environ(place, **settings)
    before = files(place / "place")
    command = [sys.executable, "-m", "transect", "train", "--config", "tiny.yaml", "--data", "spots/data.yaml"]
    log = place / "log.txt"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=place / "place", env=variables, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        deadline = time.monotonic() + 300
        while not (found := [*(place / "home").glob("train/*/weights/last.pt")]):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (checkpoint,) = found
    assert needs_gpu(checkpoint)
    _check_half_precision(calls(place))

    done = subprocess.run(
        [*command, "--resume"], cwd=place / "place", env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Epoch 1/2" not in done.stderr
    _check_half_precision(calls(place))
    # Nothing lies outside the home: no identity for telemetry, no settings, no weights.
    assert files(place / "user") == set()
    assert files(place / "place") == before

    registry = connect(load_settings({"TRANSECT_HOME": str(place / "reader"), **settings}, env_file=None))
    candidate = registry.resolve("@candidate")
    run = registry.client.get_run(candidate.run_id)
    assert (candidate.version, run.info.status) == ("1", "FINISHED")
    assert {name: run.data.params[name] for name in ("device", "amp", "forward_precision", "optimizer_used")} == {
        "device": "0",
        "amp": "True",
        "forward_precision": "fp16",
        "optimizer_used": "AdamW",
    }
    assert run.data.tags["transect.gpu"] == "NVIDIA Stand-in"
    assert [metric.step for metric in registry.client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]
    # Whoever loads the weights elsewhere needs no GPU.
    assert not needs_gpu(registry.fetch(candidate) / "weights.pt")


def _check_half_precision(asked: list[dict[str, Any]]) -> None:
    """The check of AMP and the training computed on the GPU, fed from locked pages, and nobody asked the network."""
    assert {"call": "torch.cuda.get_device_name"} in asked
    assert {"call": "to", "device": "cuda:0"} in asked
    for precision in ("float32", "float16"):
        assert {"call": "conv2d", "device": "cuda:0", "dtype": f"torch.{precision}"} in asked
    assert {"call": "_amp_update_scale_", "device": "cuda:0", "dtype": "torch.float32"} in asked
    assert {"call": "pin_memory", "thread": True} in asked
    assert [call for call in asked if call["call"] == "network"] == []
