"""Trainings that lose MLflow, S3 or their own process; nothing may be missing afterwards.

Every run is compared with an undisturbed one: the same metrics with the same values at the same
steps, the same artifacts, and the same exported network, bit for bit.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import psycopg2
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from cli_process import CliProcess, start
from integration.servers import _S3_PORTS, _free_ports, _mlflow, _s3
from tiny_datasets import write_spots_dataset
from transect.registry import connect
from transect.settings import Settings, load_settings
from transect.tracking.sync import sync_spools

_EPOCHS = 4
# Gradients of three batches make a step, so that epochs end in the middle of one.
_RECIPE = f"""
train: {{epochs: {_EPOCHS}, imgsz: 64, batch: 4, nbs: 12, optimizer: AdamW, lr0: 0.002, mosaic: 1.0, close_mosaic: 1}}
precision: {{int8: false, bf16: false}}
"""
_SOON_S = 600.0


@dataclass
class Stack:
    """MLflow on a database of its own in PostgreSQL, and S3 behind it; both can be stopped and started again."""

    folder: Path
    database: str
    ports: list[int]
    port: int
    running: dict[str, ExitStack] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *names: str) -> None:
        for name in names or ("s3", "mlflow"):
            if name not in self.running:
                stack = ExitStack()
                stack.enter_context(self._s3() if name == "s3" else self._mlflow())
                self.running[name] = stack

    def stop(self, *names: str) -> None:
        for name in names or ("mlflow", "s3"):
            if name in self.running:
                self.running.pop(name).close()

    def _s3(self) -> AbstractContextManager[object]:
        return _s3(self.folder / "s3", self.ports)

    def _mlflow(self) -> AbstractContextManager[object]:
        environment = {
            "AWS_ACCESS_KEY_ID": "transect",
            "AWS_SECRET_ACCESS_KEY": "transect-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.ports[0]}",
        }
        return _mlflow(self.folder, self.database, "s3://mlflow/artifacts", environment, (), port=self.port)


@pytest.fixture(scope="module")
def stack(postgres_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "s3").mkdir()
    connection = psycopg2.connect(postgres_uri.replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE faults")
    connection.close()
    found = Stack(folder, postgres_uri.replace("/postgres?", "/faults?", 1), _free_ports(_S3_PORTS), _free_ports(1)[0])
    assert found.database != postgres_uri
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a recipe and a training set."""
    place = tmp_path_factory.mktemp("place")
    write_spots_dataset(place / "spots", images=5, size=64)
    (place / "configs").mkdir()
    (place / "configs" / "tiny.yaml").write_text(_RECIPE)
    return place


@dataclass
class Trainer:
    """`transect train` as a process, in a TRANSECT_HOME of its own."""

    place: Path
    home: Path
    uri: str
    extra: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> CliProcess:
        command = ["train", "--config", "configs/tiny.yaml", "--data", "spots/data.yaml", *arguments]
        return start(
            *command,
            cwd=self.place,
            env={**os.environ, **self.environment(), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def environment(self) -> dict[str, str]:
        return {
            "TRANSECT_HOME": str(self.home),
            "TRANSECT_PRETRAINED": "none",
            "TRANSECT_THREADS": "1",
            # To look for this machine's fonts takes longer than the training.
            "MPLCONFIGDIR": str(self.place / "matplotlib"),
            "MLFLOW_TRACKING_URI": self.uri,
            **self.extra,
        }

    @property
    def settings(self) -> Settings:
        return load_settings(self.environment(), env_file=None)

    @property
    def folder(self) -> Path:
        (folder,) = (self.home / "train").iterdir()
        return folder

    def told(self, step: int) -> bool:
        """Whether the metrics of an epoch are in the journal."""
        journals = self.home.glob("train/*/spool/journal.jsonl")
        return any(f'"metrics of step {step}"' in journal.read_text() for journal in journals)

    def has(self, name: str) -> bool:
        return any(self.home.glob(f"train/*/{name}"))


def _finish(process: CliProcess, expected: int = 0) -> str:
    try:
        said, _ = process.communicate(timeout=_SOON_S)
    finally:
        _kill(process)
    assert process.returncode == expected, said
    return said


def _until(reached: Callable[[], bool], process: CliProcess) -> None:
    deadline = time.monotonic() + _SOON_S
    while not reached():
        if time.monotonic() > deadline or process.poll() is not None:
            pytest.fail(f"the training did not come so far: {_kill(process)}")
        time.sleep(0.005)


def _kill(process: CliProcess) -> str:
    """Kill a process that still runs; what it said, if nobody has read that."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    return "" if process.stdout is None or process.stdout.closed else process.communicate(timeout=60)[0]


@dataclass(frozen=True)
class Recorded:
    """What MLflow has of a run, without what names it and what the clock wrote."""

    status: str
    metrics: dict[str, list[tuple[int, float]]]
    params: dict[str, str]
    artifacts: set[str]
    model: str


def _read(trainer: Trainer) -> tuple[str, Recorded]:
    """The only run of `trainer`, by its spool; and that it is the candidate."""
    run_id = json.loads((trainer.folder / "spool" / "state.json").read_text())["run_id"]
    registry = connect(trainer.settings)
    client = registry.client
    run = client.get_run(run_id)
    metrics = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]
        for name in run.data.metrics
        if not name.startswith("system/")  # how busy the machine was, which is never the same twice
    }
    artifacts = set(_walk(client, run_id, ""))
    candidate = registry.resolve("@candidate")
    assert candidate.run_id == run_id
    assert registry.manifest(candidate).run_id == run_id
    model = Path(download_artifacts(run_id=run_id, artifact_path="model/model.onnx", tracking_uri=registry.uri))
    skipped = {"save_dir", "name", "project", "recipe"}
    params = {name: value for name, value in run.data.params.items() if name not in skipped}
    # Beside its graph, weights and all, the file holds the time of its export.
    digest = hashlib.sha256(onnx.load(model).graph.SerializeToString()).hexdigest()
    return run_id, Recorded(run.info.status, metrics, params, artifacts, digest)


def _walk(client: MlflowClient, run_id: str, path: str) -> Iterator[str]:
    for info in client.list_artifacts(run_id, path):
        if info.is_dir:
            yield from _walk(client, run_id, info.path)
        else:
            yield info.path


@pytest.fixture(scope="module")
def undisturbed(stack: Stack, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    trainer = Trainer(place, tmp_path_factory.mktemp("undisturbed"), stack.uri)
    _finish(trainer.start())
    _, recorded = _read(trainer)
    assert recorded.status == "FINISHED"
    assert [step for step, _ in recorded.metrics["train/loss"]] == list(range(1, _EPOCHS + 1))
    assert {"plots/results.png", "training/results.csv", "model/weights.pt", "config/recipe.yaml"} <= recorded.artifacts
    return recorded


@pytest.mark.rotating
def test_a_server_that_is_away_for_epochs_costs_nothing(
    stack: Stack, place: Path, undisturbed: Recorded, tmp_path: Path
) -> None:
    trainer = Trainer(place, tmp_path, stack.uri)
    process = trainer.start()
    _until(lambda: trainer.told(1), process)
    stack.stop("mlflow")
    try:
        _until(lambda: trainer.told(3), process)
    finally:
        stack.start("mlflow")
    said = _finish(process)
    assert "its log is kept in" in said
    assert _read(trainer)[1] == undisturbed


@pytest.mark.rotating
@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "accepts and never answers"])
def test_a_server_that_never_comes_back_costs_a_sync(
    silent: bool, stack: Stack, place: Path, undisturbed: Recorded, tmp_path: Path
) -> None:
    trainer = Trainer(place, tmp_path, stack.uri, {"TRANSECT_TRACKING_WAIT": "1"})
    process = trainer.start()
    _until(lambda: trainer.told(1), process)
    stack.stop("mlflow")
    try:
        with socket.create_server(("127.0.0.1", stack.port)) if silent else nullcontext():
            said = _finish(process, 4)
    finally:
        stack.start("mlflow")
    assert said.splitlines()[-1].startswith("transect: MLflow lacks ")
    assert said.splitlines()[-1].endswith("deliver them with: transect runs sync")
    report = sync_spools(trainer.settings)
    assert report.complete
    (run,) = report.runs
    assert "registered version" in run.sentence
    run_id, recorded = _read(trainer)
    assert recorded == undisturbed
    # Once more, it has nothing to do, and does nothing twice.
    assert sync_spools(trainer.settings).runs == ()
    versions = connect(trainer.settings).client.search_model_versions(f"run_id = '{run_id}'")
    assert len(versions) == 1


@pytest.mark.rotating
def test_an_object_store_that_refuses_for_a_while_costs_nothing(
    stack: Stack, place: Path, undisturbed: Recorded, tmp_path: Path
) -> None:
    stack.stop("s3")
    trainer = Trainer(place, tmp_path, stack.uri)
    process = trainer.start()
    try:
        _until(lambda: trainer.told(3), process)
    finally:
        stack.start("s3")
    said = _finish(process)
    assert "its log is kept in" in said
    assert _read(trainer)[1] == undisturbed


@pytest.mark.rotating
def test_a_trainer_that_is_killed_five_times_is_the_same_training(
    stack: Stack, place: Path, undisturbed: Recorded, tmp_path: Path
) -> None:
    trainer = Trainer(place, tmp_path, stack.uri)
    moments: list[Callable[[], bool]] = [
        lambda: trainer.has("weights/last.pt"),  # an epoch is over
        lambda: trainer.told(2),  # before its checkpoint is there
        lambda: trainer.has("weights/state-3.pt"),  # between state and checkpoint
        lambda: trainer.has("weights/complete.pt"),  # in the last evaluation
        lambda: trainer.has("trained.json"),  # before export and package
    ]
    for number, reached in enumerate(moments):
        process = trainer.start(*(["--resume"] if number else []))
        _until(reached, process)
        _kill(process)
    said = _finish(trainer.start("--resume"))
    assert f"Resuming {trainer.folder}" in said
    assert _read(trainer)[1] == undisturbed
