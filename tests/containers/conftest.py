"""The real Compose stack, under a project and ports of its own, driven by make as a person would.

The fixtures follow one another as the day does (up, train, promote, ...); each keeps what it saw,
so that the tests can ask one question each.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pytest_docker.plugin import Services

from containers.running import EPOCHS, TINY, Promoted, Stack, Trained, Unready, docker
from transect.synth import make_dataset, make_survey

ROOT = Path(__file__).resolve().parents[2]
PROJECT = f"transect-test-{os.getpid()}"
# What an image or make needs of the checkout.
_COPIED = (
    ".dockerignore", ".env.example", ".gitignore", "LICENSE", "Makefile", "README.md", "compose.gpu.yaml",
    "compose.yaml", "configs", "docker", "pyproject.toml", "requirements", "services",
)  # fmt: skip
_IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
# A model trained for one epoch on a dozen pictures passes no gate worth its name.
_OPEN_GATE = """
min_map50: 0.0
min_gain: -1.0
significant_gain: false
max_class_loss: {map50_95: null, recall: null, count_error: null}
max_latency_ratio: null
"""
_OURS = ("TRANSECT_", "MLFLOW_", "AWS_", "POSTGRES_", "MINIO_", "COMPOSE_", "GRAFANA_", "ACCELERATOR", "GPU", "CUDA_")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark this folder's tests; without an engine one of them stands for all, so that one line says why."""
    ours = [item for item in items if Path(item.path).is_relative_to(Path(__file__).parent)]
    for item in ours:
        item.add_marker("containers")
    if ours and os.environ.get("REQUIRE_CONTAINERS") != "1" and not _engine_answers():
        reason = f"{len(ours)} container tests need a Docker engine with Compose, and none answers here"
        ours[0].add_marker(pytest.mark.skip(reason=reason))
        items[:] = [item for item in items if item not in ours[1:]]
        config.hook.pytest_deselected(items=ours[1:])


def _engine_answers() -> bool:
    try:
        return subprocess.run(
            ["docker", "compose", "version"], check=False, capture_output=True, timeout=30
        ).returncode == 0 and (
            subprocess.run(["docker", "info"], check=False, capture_output=True, timeout=30).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine with Compose; here only with one, or with REQUIRE_CONTAINERS=1."""
    if not _engine_answers():
        pytest.fail("REQUIRE_CONTAINERS=1, but no Docker engine with Compose answers here.", pytrace=False)


@pytest.fixture(scope="session")
def checkout(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, so that its .env, runs and results are the tests' own."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "a copy"]):
        subprocess.run(["git", *_IDENTITY, *arguments], cwd=folder, check=True)
    # Not committed: what ran is the commit and this change.
    (folder / "configs" / "promotion.yaml").write_text(_OPEN_GATE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_OURS):
                patch.delenv(name)
        yield folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# pytest-docker takes the stack down at the end, volumes included; `make up` brings it up.


@pytest.fixture(scope="session")
def docker_compose_file(checkout: Path) -> str:
    return str(checkout / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return PROJECT


@pytest.fixture(scope="session")
def docker_setup(environ: dict[str, str], checkout: Path) -> list[str]:
    # Clean-up must be able to read compose.yaml, so .env is written first.
    program = "from pathlib import Path; import os, fill_env; fill_env.fill_file(Path.cwd(), os.environ)"
    path = {**environ, "PYTHONPATH": str(checkout / "docker" / "stack")}
    subprocess.run([sys.executable, "-c", program], cwd=checkout, env=path, check=True)
    return []


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["--profile '*' down --volumes --remove-orphans --timeout 5"]


@pytest.fixture(scope="session")
def environ(checkout: Path) -> dict[str, str]:
    """Another project and other ports than a stack that may be running here."""
    return {
        **os.environ,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "TRANSECT_MLFLOW_PORT": str(_free_port()),
        "TRANSECT_DETECTOR_PORT": str(_free_port()),
        # What the smallest machine gives it.
        "TRANSECT_DETECTOR_MEMORY": "1g",
        "TRANSECT_PROMETHEUS_PORT": str(_free_port()),
    }


@pytest.fixture(scope="session")
def stack(docker_services: Services, checkout: Path, environ: dict[str, str]) -> Stack:
    """`make up` from nothing."""
    running = Stack(checkout, environ)
    running.make("up")
    return running


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen small pictures, on a folder of this machine; its data.yaml."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    data = make_dataset(folder, seed=3, train=12, val=6, test=6, tile=160)
    folder.chmod(0o755)
    return data


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flight of a few frames, with one file that is no image."""
    folder = tmp_path_factory.mktemp("surveys") / "tiny"
    make_survey(folder, frames=4, seed=5)
    folder.chmod(0o755)
    (folder / "images" / "broken.jpg").write_text("no image", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def unready(stack: Stack, training_set: Path) -> Unready:
    """The detector of a stack without any model."""
    image = next((training_set.parent / "images" / "test").glob("*.jpg"))
    httpx.post(f"{stack.url('detector')}/v1/model/refresh", headers=stack.token_header(), timeout=60)
    return Unready(
        health=httpx.get(f"{stack.url('detector')}/healthz"),
        ready=httpx.get(f"{stack.url('detector')}/readyz"),
        detect=stack.detect(image),
        state=stack.container("detector")["State"]["Health"]["Status"],
    )


def _read_until(process: "subprocess.Popen[str]", beginning: str) -> str:
    """What a process prints up to the line that starts so."""
    said = ""
    for line in process.stdout or ():
        said += line
        if line.startswith(beginning):
            return said
    raise AssertionError(f"no line began with {beginning!r}:\n{said[-3000:]}")


@pytest.fixture(scope="session")
def trained(stack: Stack, unready: Unready, training_set: Path) -> Trained:
    """`make train` on a training set of this machine, at its worst.

    After an epoch the database and the object store go away, after the next one MLflow itself, and the
    trainer is killed while they are away. They come back, `make sync` delivers, and the same training
    with --resume goes on.
    """
    command = {"MODEL": "yolo11n", "DATA": str(training_set), "EPOCHS": str(EPOCHS)}
    stores = [stack.container(name)["Id"] for name in ("postgres", "minio")]
    mlflow = stack.container("mlflow")["Id"]
    killed = ""
    with stack.making("train", **command, ARGS=TINY) as training:
        for epoch, stopped in enumerate((stores, [mlflow]), 1):
            killed += _read_until(training, f"Epoch {epoch}/")
            trainer = stack.one_shot("trainer")
            # It waits meanwhile: the epochs of this training are shorter than what is done here.
            docker("pause", trainer)
            docker("stop", "-t", "5", *stopped)
            docker("unpause", trainer)
        killed += _read_until(training, "Epoch 3/")
        docker("kill", trainer)
        killed += training.stdout.read() if training.stdout else ""
    assert training.returncode != 0
    docker("start", *stores, mlflow)
    stack.wait_until_ready("mlflow", "/health")
    synced = stack.make("sync").stdout
    told = stack.sql("select status from runs")
    resumed = stack.make("train", **command, ARGS=f"{TINY} --resume")
    return Trained(killed, synced, told, resumed.stdout + resumed.stderr)


@pytest.fixture(scope="session")
def promoted(stack: Stack, trained: Trained, training_set: Path) -> Promoted:
    """`make promote`, and a detection right after it."""
    before = stack.container("detector")
    done = stack.make("promote", REASON="the first one")
    image = next((training_set.parent / "images" / "test").glob("*.jpg"))
    return Promoted(done.stdout, before, stack.container("detector"), stack.detect(image))
