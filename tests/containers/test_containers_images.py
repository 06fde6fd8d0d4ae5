"""What the images hold, asked of the images themselves."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from containers.running import Stack

ROOT = Path(__file__).resolve().parents[2]


def inside(image: str, *command: str) -> subprocess.CompletedProcess[str]:
    run = ["docker", "run", "--rm", "--network", "none", "--entrypoint", command[0], image, *command[1:]]
    return subprocess.run(run, check=False, capture_output=True, text=True, timeout=120)


# What the detector may add to its Python base.
MOST_BYTES = 700_000_000


def described(image: str) -> dict[str, Any]:
    done = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout)[0])


@pytest.mark.usefixtures("stack")
def test_the_detector_image_stays_small() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    (base,) = set(re.findall(r"(?m)^FROM (python:\S+)", dockerfile))
    # The builder need not leave its base among the images of the engine.
    if subprocess.run(["docker", "image", "inspect", base], capture_output=True, check=False).returncode:
        subprocess.run(["docker", "pull", base], check=True)
    added = described("transect-detector:local")["Size"] - described(base)["Size"]
    assert 0 < added <= MOST_BYTES


# Every file of an image with its mode, owner and SHA-256. Bytecode is left out: Python merges equal sets of constants
# in an order that differs, and its source is compared.
CONTENT = """
import hashlib, json, os, stat
found = {}
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name))]
    for path in (os.path.join(folder, name) for name in files + folders if not name.endswith(".pyc")):
        status = os.lstat(path)
        held = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                held = hashlib.file_digest(file, "sha256").hexdigest()
        found[path] = [status.st_mode, status.st_uid, held]
print(json.dumps(found))
"""


def content(image: str) -> dict[str, list[object]]:
    run = ["docker", "run", "--rm", "--network", "none", "--hostname", "same", "--user", "0", image]
    done = subprocess.run([*run, "python", "-c", CONTENT], capture_output=True, text=True, check=True, timeout=300)
    return dict(json.loads(done.stdout))


@pytest.mark.usefixtures("stack")
def test_the_detector_image_is_built_again_with_the_same_content(checkout: Path) -> None:
    # The libraries are a layer of their own, fixed by the hashes of its lock, and stay in the builder's cache.
    again = f"transect-detector:again-{os.getpid()}"
    build = ["docker", "build", "--quiet", "--file", "docker/Dockerfile", "--no-cache-filter", "wheel,detector"]
    subprocess.run([*build, "--tag", again, "."], cwd=checkout, check=True, capture_output=True, timeout=600)
    try:
        first, second = content("transect-detector:local"), content(again)
    finally:
        subprocess.run(["docker", "image", "rm", again], check=False, capture_output=True)
    assert any(path.endswith("/transect/serving/app.py") for path in first)
    assert first == second


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("name", ["detector", "census", "trainer", "mlflow"])
def test_no_image_keeps_the_cache_of_its_installer(name: str, stack: Stack) -> None:
    stack.compose("build", "--quiet", name)
    done = inside(f"transect-{name}:local", "sh", "-c", "ls -A /tmp")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.usefixtures("stack")
def test_the_detector_image_reads_both_kinds_of_model_that_a_package_holds() -> None:
    program = "import openvino; print(*sorted(openvino.frontend.FrontEndManager().get_available_front_ends()))"
    assert inside("transect-detector:local", "python", "-c", program).stdout.split() == ["ir", "onnx"]


@pytest.mark.usefixtures("stack")
def test_the_detector_image_gives_the_machine_no_identity_for_telemetry() -> None:
    # ONNX Runtime 1.31 writes one into the home of whoever imports it.
    search = "python -c 'import onnxruntime' && find /tmp /var/lib/transect -type f"
    done = inside("transect-detector:local", "sh", "-c", search)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("module", ["torch", "torchvision", "ultralytics", "flask", "openvino_telemetry"])
def test_the_detector_image_cannot_import(module: str) -> None:
    done = inside("transect-detector:local", "python", "-c", f"import {module}")
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.usefixtures("stack")
def test_the_detector_image_holds_the_service_without_build_tools() -> None:
    assert inside("transect-detector:local", "transect", "--version").returncode == 0
    # The builder mounts its tools there; an empty folder may stay.
    search = 'command -v uv || command -v gcc || test -n "$(ls -A /tools)"'
    assert inside("transect-detector:local", "sh", "-c", search).returncode != 0


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("name", ["minio", "mlflow", "detector"])
def test_an_image_runs_as_its_own_user_by_itself(name: str) -> None:
    config = described(f"transect-{name}:local")["Config"]
    assert config["User"] not in ("", "root", "0")
    assert config["Labels"]["org.opencontainers.image.title"] == f"transect-{name}"
    assert config["Healthcheck"]["Test"]


def test_versions_agree_between_the_images(stack: Stack) -> None:
    # The client that reads the registry is the server's own version.
    program = "from importlib.metadata import version; print(version('mlflow-skinny'))"
    server = stack.compose("exec", "-T", "mlflow", "python", "-c", program)
    client = stack.compose("exec", "-T", "detector", "python", "-c", program)
    assert server == client


@pytest.mark.usefixtures("stack")
def test_the_detector_image_outlives_a_gpu_on_a_read_only_root_without_a_network(dot_package: Path) -> None:
    for path in (dot_package, *dot_package.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    stand_in = ROOT / "tests" / "gpu_stand_in"
    run = ["docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    run += ["--volume", f"{stand_in}:/stand-in:ro", "--volume", f"{dot_package}:/package:ro"]
    run += ["--env", "PYTHONPATH=/stand-in", "--env", "GPU_STAND_IN=/tmp", "transect-detector:local"]
    done = subprocess.run(
        [*run, "python", "/stand-in/day.py", "/package"], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    hours = {hour["hour"]: hour for hour in map(json.loads, done.stdout.splitlines())}
    assert {name: (hour["backend"], hour["right"]) for name, hour in hours.items()} == {
        "start": ("cuda", 24),
        "full": ("cuda", 24),
        "lost": ("openvino", 24),
    }
    assert set(hours["start"]["batches"]) == {1, 2, 8}
    assert "Continuing with openvino until then." in done.stderr


TRAINER = "transect-trainer:local"
RECIPE = """
train: {epochs: 1, imgsz: 64, batch: 4, workers: 2}
precision: {int8: false, bf16: false}
"""
READ = """
import json
from transect.registry import connect
from transect.settings import load_settings
registry = connect(load_settings())
candidate = registry.resolve("@candidate")
run = registry.client.get_run(candidate.run_id)
read = {"version": candidate.version, "status": run.info.status, "gpu": run.data.tags["transect.gpu"]}
print(json.dumps(read | {name: run.data.params[name] for name in ("device", "amp", "forward_precision")}))
"""


@pytest.mark.usefixtures("trained")
def test_the_trainer_image_trains_on_a_gpu_on_a_read_only_root_without_a_network(
    training_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    tmp_path.chmod(0o755)
    mounts = {ROOT / "tests" / "gpu_stand_in": "/stand-in", training_set.parent: "/data", tmp_path: "/recipes"}
    run = ["docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    run += ["--security-opt", "no-new-privileges", "--shm-size", "1g", "--volume", "/var/lib/transect"]
    run += [part for source, target in mounts.items() for part in ("--volume", f"{source}:{target}:ro")]
    for setting in ("PYTHONPATH=/stand-in", "TORCH_STAND_IN=/tmp", "TRANSECT_DEVICE=cuda", "TRANSECT_PRETRAINED=none"):
        run += ["--env", setting]
    train = f"transect train --config /recipes/tiny.yaml --data /data/{training_set.name} >&2"
    script = f'{train} && python -c "$0" && cat /tmp/calls.jsonl'
    done = subprocess.run(
        [*run, TRAINER, "sh", "-c", script, READ], check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    registered, *asked = map(json.loads, done.stdout.splitlines())
    assert registered == {
        "version": "1",
        "status": "FINISHED",
        "gpu": "NVIDIA Stand-in",
        "device": "0",
        "amp": "True",
        "forward_precision": "fp16",
    }
    # Half precision was checked against single precision, and trained with, on the GPU; the loader locked its pages.
    for precision in ("float32", "float16"):
        assert {"call": "conv2d", "device": "cuda:0", "dtype": f"torch.{precision}"} in asked
    assert {"call": "_amp_update_scale_", "device": "cuda:0", "dtype": "torch.float32"} in asked
    assert {"call": "pin_memory", "thread": True} in asked
    # Nothing is refused, since nobody asks.
    assert [call for call in asked if call["call"] == "network"] == []
