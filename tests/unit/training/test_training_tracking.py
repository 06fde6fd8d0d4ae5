import logging
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from transect.errors import RegistryError
from transect.registry import Registry, connect
from transect.settings import load_settings
from transect.training.tracking import RunLog, metric_name, summarise


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    home = tmp_path_factory.mktemp("store")
    return connect(load_settings({"TRANSECT_HOME": str(home)}, env_file=None))


@pytest.fixture(scope="module")
def client(registry: Registry) -> MlflowClient:
    return registry.client


@pytest.fixture(scope="module")
def experiment(registry: Registry) -> str:
    return registry.experiment("log")


@pytest.fixture
def dead_client(monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of a server that is gone."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return MlflowClient(f"http://127.0.0.1:{port}")


def test_everything_arrives_in_order(client: MlflowClient, experiment: str, tmp_path: Path) -> None:
    log = RunLog.start(client, experiment, "a", {"who": "me"})
    params = {f"p{number}": number for number in range(150)} | {"long": "x" * 7000}
    log.params(params)
    for step in range(1, 4):
        log.metrics({"train/loss": 1 / step, "test/class/Grevy's zebra/mAP50": 0.5}, step=step)
    log.metrics({f"m{number}": number for number in range(1200)}, step=1)
    log.tags({"later": "yes"})
    log.dataset("spots/train", "abc", source="{}", context="train", profile="{}")
    artifact = tmp_path / "a.txt"
    artifact.write_text("hello")
    log.artifact(artifact, "notes")
    assert log.finish("FINISHED") == []
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert len(run.data.params) == 151
    assert len(run.data.params["long"]) == 6000
    assert len(run.data.metrics) == 1202
    history = client.get_metric_history(log.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["test/class/Grevy_s zebra/mAP50"] == 0.5
    assert run.data.tags["who"] == "me"
    assert run.data.tags["later"] == "yes"
    assert run.inputs is not None
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.tags[0].value) == ("spots/train", "train")
    assert [file.path for file in client.list_artifacts(log.run_id, "notes")] == ["notes/a.txt"]


def test_a_call_that_fails_is_told_once_and_stops_nothing(
    client: MlflowClient, experiment: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog.start(client, experiment, "b", {})
    missing = tmp_path / "later.txt"
    with caplog.at_level(logging.WARNING):
        log.artifact(missing)
        log.artifact(tmp_path / "never.txt")
        log.metrics({"m": 1.0}, step=1)
        log.flush()
    assert len(caplog.records) == 1
    # What has become possible by the end is done then.
    missing.write_text("here")
    assert log.finish("FAILED") == ["artifact never.txt"]
    run = client.get_run(log.run_id)
    assert run.info.status == "FAILED"
    assert run.data.metrics == {"m": 1.0}
    assert [file.path for file in client.list_artifacts(log.run_id)] == ["later.txt"]


def test_a_server_that_went_away_stops_nothing(dead_client: MlflowClient) -> None:
    log = RunLog(dead_client, "some-run")
    log.metrics({"m": 1.0}, step=1)
    log.params({"p": 1})
    assert log.finish("FINISHED") == ["metrics of step 1", "parameters", "the status FINISHED"]


def test_a_run_that_cannot_start_is_one_error(dead_client: MlflowClient, client: MlflowClient, experiment: str) -> None:
    with pytest.raises(RegistryError, match="could not start a run"):
        RunLog.start(dead_client, experiment, "c", {})
    before = len(client.search_runs([experiment], run_view_type=ViewType.ALL))
    with pytest.raises(RegistryError, match="could not start a run"):
        RunLog.start(client, "12345", "c", {})
    assert len(client.search_runs([experiment], run_view_type=ViewType.ALL)) == before


def test_names_lose_what_mlflow_refuses() -> None:
    assert metric_name("metrics/mAP50(B)") == "metrics/mAP50_B_"
    assert metric_name("Zèbre de plaine") == "Z_bre de plaine"


def test_many_failures_are_one_phrase() -> None:
    assert summarise(["a", "a", "b"]) == "a, b"
    assert summarise([f"metrics of step {step}" for step in range(40)]).endswith("step 4 and 35 more")
