import json
import logging
import math
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from registry_fixtures import copy_store
from transect.errors import InputError, RegistryError
from transect.registry import Registry, connect
from transect.registry.client.metric_names import class_names
from transect.settings import Settings, load_settings
from transect.tracking.run_history import RunHistory
from transect.tracking.run_log import RunLog, Undelivered, summarise
from transect.tracking.spool import Spool

_EXPERIMENT = "log"
_WAIT = 60.0


@pytest.fixture(scope="module")
def settings(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = copy_store(empty_store, tmp_path_factory.mktemp("home")).parent
    return load_settings({"TRANSECT_HOME": str(home)}, env_file=None)


@pytest.fixture(scope="module")
def registry(settings: Settings) -> Registry:
    return connect(settings)


@pytest.fixture(scope="module")
def client(registry: Registry) -> MlflowClient:
    return registry.client


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of an unreachable server."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        environment = {"TRANSECT_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        yield load_settings(environment, env_file=None)


def test_everything_arrives_in_order(
    registry: Registry, settings: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    log = RunLog.start(tmp_path / "a", settings, _EXPERIMENT, {"who": "me"}, {}, registry=registry)
    params = {f"p{number}": number for number in range(150)} | {"long": "x" * 7000}
    log.params(params)
    for step in range(1, 4):
        log.metrics({"train/loss": 1 / step, "test/class/Grevy's zebra/mAP50": 0.5}, step=step)
    log.metrics({f"m{number}": number for number in range(1200)}, step=1)
    log.tags({f"t{number}": "yes" for number in range(150)})
    log.dataset("spots/train", "abc", source="{}", context="train", profile="{}")
    artifact = tmp_path / "a.txt"
    artifact.write_text("hello")
    log.artifact(artifact, "notes")
    # What is logged is the file as it was then.
    artifact.write_text("changed")
    undelivered = log.finish("FINISHED", _WAIT)
    assert (undelivered.left, undelivered.rejected) == ((), ())
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "a"
    assert len(run.data.params) == 151
    assert len(run.data.params["long"]) == 6000
    assert len(run.data.metrics) == 1202
    history = client.get_metric_history(log.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["test/class/Grevy_s zebra/mAP50"] == 0.5
    assert (run.data.tags["who"], run.data.tags["t149"]) == ("me", "yes")
    assert run.inputs is not None
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.tags[0].value) == ("spots/train", "train")
    fetched = client.download_artifacts(log.run_id, "notes/a.txt", str(tmp_path))
    assert Path(fetched).read_text() == "hello"
    # The copies go once they are delivered.
    assert list((log.spool.folder / "files").iterdir()) == []


def test_a_refused_entry_holds_up_nothing(
    registry: Registry, settings: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    log = RunLog.start(tmp_path / "b", settings, _EXPERIMENT, {}, {}, registry=registry)
    # MLflow has another value of it, which we do not know of.
    client.log_param(log.run_id, "p", 1)
    log.params({"p": 2})
    log.artifact(tmp_path / "never.txt")
    log.metrics({"m": 1.0}, step=1)
    undelivered = log.finish("FAILED", _WAIT)
    assert undelivered.left == ()
    (refused,) = undelivered.rejected
    assert refused.startswith("parameters (")
    run = client.get_run(log.run_id)
    assert (run.info.status, run.data.metrics, run.data.params) == ("FAILED", {"m": 1.0}, {"p": "1"})


def test_nan_is_logged_and_named(
    registry: Registry, settings: Settings, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog.start(tmp_path / "n", settings, _EXPERIMENT, {}, {}, registry=registry)
    log.metrics({"val/loss": math.nan, "train/loss": 0.5}, step=3)
    log.metrics({"val/loss": math.nan, "train/loss": math.inf}, step=4)
    assert log.finish("FINISHED", _WAIT).left == ()
    run = client.get_run(log.run_id)
    assert math.isnan(run.data.metrics["val/loss"])
    assert run.data.tags["transect.not_finite"] == "val/loss (first at step 3), train/loss (first at step 4)"
    warnings = [record.getMessage() for record in caplog.records if "NaN" in record.getMessage()]
    assert warnings == ["NaN or infinite at step 3: val/loss.", "NaN or infinite at step 4: train/loss."]


def test_a_server_that_is_away_stops_nothing_and_loses_nothing(
    away: Settings, settings: Settings, registry: Registry, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    folder = away.home / "c"
    with caplog.at_level(logging.WARNING):
        log = RunLog.start(folder, away, _EXPERIMENT, {"who": "c"}, {"architecture": "yolo11n"})
        assert log.run_id == ""
        log.metrics({"m": 1.0}, step=1)
        log.metrics({"m": 2.0}, step=2)
        undelivered = log.finish("FINISHED", 0.5)
    assert undelivered.left == ("run", "metrics of step 1", "metrics of step 2", "status FINISHED")
    assert "cannot be reached" in undelivered.reason
    assert len(caplog.records) == 1
    # Another process finds it as it was left, and the times are those of the calls.
    spool = Spool(folder)
    times = [entry.data["time"] for entry in spool.entries() if entry.kind == "metrics"]
    resumed = RunLog.resume(spool, settings, registry=registry)
    assert resumed.finish("FINISHED", _WAIT).left == ()
    history = client.get_metric_history(resumed.run_id, "m")
    assert [(metric.step, metric.value, metric.timestamp) for metric in history] == [
        (1, 1.0, times[0]),
        (2, 2.0, times[1]),
    ]
    assert client.get_run(resumed.run_id).data.tags["who"] == "c"


def test_a_run_that_mlflow_refuses_is_one_error(registry: Registry, settings: Settings, tmp_path: Path) -> None:
    gone = registry.experiment("gone")
    registry.client.delete_experiment(gone)
    with pytest.raises(RegistryError, match="was deleted"):
        RunLog.start(tmp_path / "d", settings, "gone", {}, {}, registry=registry)
    assert registry.client.search_runs([gone], run_view_type=ViewType.ALL) == []


def test_a_resumed_run_repeats_no_step_and_tells_drift(
    registry: Registry, settings: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    log = RunLog.start(tmp_path / "e", settings, _EXPERIMENT, {}, {}, registry=registry)
    log.params({"lr0": 0.01, "epochs": 3, "model": "yolo11n.yaml"})
    for step in (1, 2):
        log.metrics({"loss": step, "system/cpu": step}, step=step)
    assert log.finish("KILLED", _WAIT).left == ()
    again = RunLog.resume(Spool(tmp_path / "e"), settings, registry=registry)
    again.params({"lr0": 0.02, "epochs": 3, "model": "last.pt", "late": "x"})
    for step in (2, 3):
        again.metrics({"loss": 10 * step, "system/cpu": 10 * step}, step=step)
    assert again.drain(_WAIT)
    assert client.get_run(again.run_id).info.status == "RUNNING"
    assert again.finish("FINISHED", _WAIT).left == ()
    assert again.run_id == log.run_id
    run = client.get_run(again.run_id)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(again.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert len(client.get_metric_history(again.run_id, "system/cpu")) == 4
    assert run.data.params == {"lr0": "0.01", "epochs": "3", "model": "yolo11n.yaml", "late": "x"}
    assert json.loads(run.data.tags["param_drift"]) == {"lr0": {"old": "0.01", "new": "0.02"}}


def test_parameters_that_change_on_the_way_are_told_beside_those_of_the_run_before(
    registry: Registry, settings: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    log = RunLog.start(tmp_path / "h2", settings, _EXPERIMENT, {}, {}, registry=registry)
    log.params({"lr0": 0.01, "batch": 16})
    log.finish("KILLED", _WAIT)
    again = RunLog.resume(Spool(tmp_path / "h2"), settings, registry=registry)
    again.params({"lr0": 0.02, "batch": 16})
    again.params({"lr0": 0.02, "batch": 8})
    assert again.finish("FINISHED", _WAIT) == Undelivered()
    run = client.get_run(again.run_id)
    assert run.data.params == {"lr0": "0.01", "batch": "16"}
    changed = {"batch": {"old": "16", "new": "8"}, "lr0": {"old": "0.01", "new": "0.02"}}
    assert json.loads(run.data.tags["param_drift"]) == changed


def test_a_fork_tells_what_it_changed(
    registry: Registry, settings: Settings, client: MlflowClient, tmp_path: Path
) -> None:
    log = RunLog.start(tmp_path / "f", settings, _EXPERIMENT, {}, {}, registry=registry)
    log.params({"lr0": 0.01})
    log.finish("KILLED", _WAIT)
    parent = RunHistory.read(log.spool)
    fork = RunLog.start(tmp_path / "g", settings, _EXPERIMENT, {}, {}, registry=registry, parent=parent)
    fork.params({"lr0": 0.02})
    assert fork.finish("FINISHED", _WAIT).left == ()
    assert fork.run_id != log.run_id
    run = client.get_run(fork.run_id)
    assert run.data.params == {"lr0": "0.02"}
    assert json.loads(run.data.tags["param_drift"]) == {"lr0": {"old": "0.01", "new": "0.02"}}


def test_two_never_write_one_run(registry: Registry, settings: Settings, tmp_path: Path) -> None:
    log = RunLog.start(tmp_path / "h", settings, _EXPERIMENT, {}, {}, registry=registry)
    with pytest.raises(InputError, match="is in use"):
        RunLog.resume(Spool(tmp_path / "h"), settings, registry=registry)
    log.finish("FINISHED", _WAIT)


def test_every_class_keeps_metrics_of_its_own(registry: Registry, settings: Settings, tmp_path: Path) -> None:
    species = [
        "斑马",
        "水牛",
        "mâle",
        "mèle",
        "a:b",
        "a;b",
        "a_b",
        "../up",
        ".",
        "..",
        "a//b",
        "a/b",
        "x\ty",
        "गाय",
        "ना",
    ]
    species += [
        "e\u0301",
        "\u00e9",
        "ظبي",
        "斑" * 300,
        "斑" * 299 + "马",
        "b" * 300,
        " lead",
        "end/",
        "/",
        "=1+1",
        "new\n",
    ]
    logged_names = class_names(species)
    assert len(set(logged_names.values())) == len(species)
    values = {f"test/class/{logged_names[name]}/mAP50": float(number) for number, name in enumerate(species)}
    log = RunLog.start(tmp_path / "h", settings, _EXPERIMENT, {}, {}, registry=registry)
    log.metrics(values, step=1)
    # Names that were not made distinct by the caller stay distinct.
    log.metrics({"loss(a)": 1.0, "loss[a]": 2.0}, step=1)
    assert log.finish("FINISHED", _WAIT).left == ()
    found = registry.client.get_run(log.run_id).data.metrics
    assert {name: found.get(f"test/class/{part}/mAP50") for name, part in logged_names.items()} == {
        name: float(number) for number, name in enumerate(species)
    }
    assert sorted(value for name, value in found.items() if name.startswith("loss")) == [1.0, 2.0]


def test_many_failures_are_one_phrase() -> None:
    assert summarise(("a", "a", "b")) == "a, b"
    assert summarise(tuple(f"metrics of step {step}" for step in range(40))).endswith("step 4 and 35 more")
