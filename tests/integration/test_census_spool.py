"""Censuses that lose MLflow or their own process while they are logged; each becomes one whole run all the same."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient

from integration.servers import _free_ports, _mlflow
from painted_surveys import paint_survey

_SOON_S = 300.0


@dataclass
class Server:
    """MLflow on SQLite, which can be stopped and started again."""

    folder: Path
    port: int = field(default_factory=lambda: _free_ports(1)[0])
    running: ExitStack = field(default_factory=ExitStack)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def start(self) -> None:
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        self.running.enter_context(_mlflow(self.folder, store, str(self.artifacts), {}, port=self.port))

    def stop(self) -> None:
        self.running.close()

    def runs(self) -> dict[str, str]:
        """Id and status of the census runs."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("census")
        assert experiment is not None
        return {run.info.run_id: run.info.status for run in client.search_runs([experiment.experiment_id])}

    def forget(self) -> None:
        for run_id in self.runs():
            MlflowClient(self.uri).delete_run(run_id)

    def content(self, run_id: str) -> dict[str, object]:
        """What there is of a run, without its id and times."""
        run = MlflowClient(self.uri).get_run(run_id)
        (folder,) = self.artifacts.glob(f"*/{run_id}/artifacts")
        return {
            "name": run.info.run_name,
            "status": run.info.status,
            "params": run.data.params,
            "metrics": run.data.metrics,
            "tags": run.data.tags,
            "artifacts": {path.name: path.read_bytes() for path in folder.iterdir()},
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server"))
    found.start()
    try:
        yield found
    finally:
        found.stop()


@dataclass(frozen=True)
class Desk:
    """Where a survey is counted: its folder, its results and its TRANSECT_HOME."""

    folder: Path
    package: Path
    uri: str

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        environment = {
            "TRANSECT_HOME": str(self.folder / "home"),
            "TRANSECT_THREADS": "1",
            "MLFLOW_TRACKING_URI": self.uri,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "transect", *arguments],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def count(self) -> "subprocess.Popen[str]":
        survey, out = str(self.folder / "survey"), str(self.folder / "results")
        config = str(self.folder / "census.yaml")
        return self.start("census", "run", survey, "--out", out, "--config", config, "--model", str(self.package))

    def sync(self) -> str:
        return finish(self.start("runs", "sync"))[0]

    @property
    def results(self) -> Path:
        (manifest,) = self.folder.glob("results/*/manifest.json")
        return manifest.parent

    @property
    def waiting(self) -> list[Path]:
        return sorted((self.folder / "home" / "census").glob("*/"))


def finish(process: "subprocess.Popen[str]", expected: int = 0) -> tuple[str, str]:
    """Standard output and standard error of a process that ends with `expected`."""
    said, log = process.communicate(timeout=_SOON_S)
    assert process.returncode == expected, log
    return said, log


def run_id_in(said: str) -> str:
    found = re.search(r"^MLflow run: ([0-9a-f]{32})$", said, re.MULTILINE)
    assert found, said
    return found[1]


@pytest.fixture(scope="module")
def desk(server: Server, dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "survey").mkdir()
    paint_survey(folder / "survey")
    (folder / "census.yaml").write_text("overlap: 16\nthumbnails: 2\n")
    return Desk(folder, dot_package, server.uri)


@pytest.fixture(scope="module")
def direct(server: Server, desk: Desk) -> dict[str, object]:
    """The run of a census that nobody disturbed; it is deleted, so that it is not found again."""
    run_id = run_id_in(finish(desk.count())[0])
    content = server.content(run_id)
    assert content["status"] == "FINISHED"
    assert content["artifacts"] == {path.name: path.read_bytes() for path in desk.results.iterdir()}
    assert desk.waiting == []
    server.forget()
    return content


def test_a_census_that_is_logged_without_mlflow_costs_a_sync(
    server: Server, desk: Desk, direct: dict[str, object]
) -> None:
    server.stop()
    try:
        said, log = finish(desk.count(), 4)
        finish(desk.start("runs", "sync"), 4)
    finally:
        server.start()
    assert "Report: " in said
    (folder,) = desk.waiting
    sentence = log.splitlines()[-1]
    assert sentence.startswith("transect: MLflow at ")
    assert f"What MLflow lacks is kept in {folder}; deliver it with: transect runs sync." in sentence
    assert sentence.endswith(f"The results are in {desk.results}; the same command again logs them too.")

    said = desk.sync()
    ((run_id, status),) = server.runs().items()
    assert said == f"{folder.name}: delivered the census to run {run_id}.\n"
    assert status == "FINISHED"
    assert server.content(run_id) == direct
    # Neither of these has anything to log.
    assert desk.waiting == []
    assert desk.sync().startswith("Nothing to deliver")
    assert run_id_in(finish(desk.count())[0]) == run_id
    assert server.runs() == {run_id: "FINISHED"}
    server.forget()


@pytest.mark.parametrize("again", ["sync", "count"])
def test_a_census_that_is_killed_while_it_is_logged_is_one_run(
    server: Server, desk: Desk, direct: dict[str, object], again: str
) -> None:
    before = set(server.artifacts.glob("*/*/artifacts/*"))
    process = desk.count()
    deadline = time.monotonic() + _SOON_S
    while not set(server.artifacts.glob("*/*/artifacts/*")) - before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    ((run_id, status),) = server.runs().items()
    assert status == "RUNNING"
    assert len(desk.waiting) == 1

    if again == "sync":
        assert run_id in desk.sync()
    else:
        assert run_id_in(finish(desk.count())[0]) == run_id
    assert server.runs() == {run_id: "FINISHED"}
    assert server.content(run_id) == direct
    assert desk.waiting == []
    assert desk.sync().startswith("Nothing to deliver")
    server.forget()
