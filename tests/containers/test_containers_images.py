"""What the images hold, asked of the images themselves."""

import json
import subprocess

import pytest

from containers.running import Stack


def inside(image: str, *command: str) -> subprocess.CompletedProcess[str]:
    run = ["docker", "run", "--rm", "--network", "none", "--entrypoint", command[0], image, *command[1:]]
    return subprocess.run(run, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("module", ["torch", "torchvision", "ultralytics"])
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
    done = subprocess.run(
        ["docker", "image", "inspect", f"transect-{name}:local"], capture_output=True, text=True, check=True
    )
    config = json.loads(done.stdout)[0]["Config"]
    assert config["User"] not in ("", "root", "0")
    assert config["Labels"]["org.opencontainers.image.title"] == f"transect-{name}"
    assert config["Healthcheck"]["Test"]


def test_versions_agree_between_the_images(stack: Stack) -> None:
    # The client that reads the registry is the server's own version.
    program = "from importlib.metadata import version; print(version('mlflow-skinny'))"
    server = stack.compose("exec", "-T", "mlflow", "python", "-c", program)
    client = stack.compose("exec", "-T", "detector", "python", "-c", program)
    assert server == client
