"""What the images hold, asked of the images themselves."""

import json
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
    dockerfile = (ROOT / "docker" / "detector" / "Dockerfile").read_text(encoding="utf-8")
    (base,) = set(re.findall(r"(?m)^FROM (python:\S+)", dockerfile))
    # The builder need not leave its base among the images of the engine.
    if subprocess.run(["docker", "image", "inspect", base], capture_output=True, check=False).returncode:
        subprocess.run(["docker", "pull", base], check=True)
    added = described("transect-detector:local")["Size"] - described(base)["Size"]
    assert 0 < added <= MOST_BYTES


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
    assert "Going on with openvino until then." in done.stderr
