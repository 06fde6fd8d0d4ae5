"""A training that was stopped, and what may and may not change when it goes on; on a real store."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from cli_process import start
from tiny_datasets import write_spots_dataset
from transect.errors import InputError, RegistryError
from transect.registry import Registry, connect
from transect.settings import Settings, load_settings
from transect.tracking.sync import sync_spools
from transect.training import TrainRequest, train

_RECIPE = """
train: {epochs: 5000, patience: 0, imgsz: 64, batch: 4, optimizer: AdamW, lr0: 0.002, plots: false}
precision: {int8: false, bf16: false}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    return {"TRANSECT_HOME": str(home), "TRANSECT_PRETRAINED": "none", "TRANSECT_THREADS": "2"}


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    return load_settings(environment, env_file=None)


@pytest.fixture(scope="module")
def registry(settings: Settings) -> Registry:
    return connect(settings)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    (place / "configs").mkdir()
    (place / "configs" / "tiny.yaml").write_text(_RECIPE)
    write_spots_dataset(place / "spots", images=2, size=64)
    write_spots_dataset(place / "others", images=2, size=64, seed=1)
    return place


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def _request(place: Path, *overrides: str, data: str = "spots", new_run: bool = False) -> TrainRequest:
    path = place / data / "data.yaml"
    return TrainRequest("yolo11n", Path("configs/tiny.yaml"), path, overrides, resume=True, new_run=new_run)


@pytest.fixture(scope="module")
def stopped(environment: dict[str, str], place: Path) -> Path:
    """The folder of a run that was stopped after two epochs or more."""
    command = ["train", "--config", "configs/tiny.yaml", "--data", "spots/data.yaml"]
    train_folder = Path(environment["TRANSECT_HOME"]) / "train"
    with start(*command, env={**os.environ, **environment, "OMP_NUM_THREADS": "1"}, cwd=place) as process:
        deadline = time.monotonic() + 300
        while not any("metrics of step 2" in path.read_text() for path in train_folder.glob("*/spool/journal.jsonl")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    (folder,) = train_folder.iterdir()
    return folder


def _state(folder: Path) -> str:
    run_id: str = json.loads((folder / "spool" / "state.json").read_text())["run_id"]
    return run_id


def _epochs(folder: Path) -> int:
    return len((folder / "results.csv").read_text().splitlines()) - 1


def test_there_is_nothing_to_resume(place: Path, environment: dict[str, str], tmp_path: Path) -> None:
    settings = load_settings({**environment, "TRANSECT_HOME": str(tmp_path)}, env_file=None)
    with pytest.raises(InputError, match="There is nothing to resume: no unfinished run of configs_tiny with yolo11n"):
        train(_request(place), settings)
    assert not (tmp_path / "train").exists()


def test_a_stopped_run_is_killed_with_its_artifacts(stopped: Path, registry: Registry) -> None:
    client = registry.client
    run = client.get_run(_state(stopped))
    assert run.info.status == "KILLED"
    assert run.data.metrics["train/loss"] > 0
    files = {info.path for folder in ("training", "weights") for info in client.list_artifacts(run.info.run_id, folder)}
    assert {"training/results.csv", "training/ultralytics.log", "weights/last.pt"} <= files
    assert client.search_model_versions() == []


@pytest.mark.parametrize(
    ("overrides", "data", "said"),
    [
        ((), "others", r"others.data\.yaml is not the one that .* --resume --new-run"),
        (("optimizer=SGD",), "spots", "optimizer was AdamW in .* and cannot change on the way"),
        (("epochs=1",), "spots", r"\d+ epochs? (is|are) trained and epochs=1; give more epochs"),
    ],
)
def test_what_cannot_change_is_refused(
    overrides: tuple[str, ...], data: str, said: str, stopped: Path, place: Path, settings: Settings
) -> None:
    with pytest.raises(InputError, match=said):
        train(_request(place, *overrides, data=data), settings)


def test_a_fork_is_a_run_of_its_own(stopped: Path, place: Path, settings: Settings, registry: Registry) -> None:
    done = _epochs(stopped)
    outcome = train(_request(place, f"epochs={done + 2}", data="others", new_run=True), settings)
    assert outcome.run_dir != stopped
    run = registry.client.get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["transect.parent_run"] == _state(stopped)
    assert json.loads(run.data.tags["param_drift"])["epochs"] == {"old": "5000", "new": str(done + 2)}
    steps = [metric.step for metric in registry.client.get_metric_history(outcome.run_id, "train/loss")]
    # The last epoch in the table may have been told without its checkpoint.
    assert steps[0] in (done, done + 1)
    assert steps == list(range(steps[0], done + 3))
    assert registry.client.get_run(_state(stopped)).info.status == "KILLED"


def test_the_same_run_goes_on_and_tells_its_drift(
    stopped: Path, place: Path, settings: Settings, registry: Registry
) -> None:
    done = _epochs(stopped)
    outcome = train(_request(place, f"epochs={done + 2}", "lr0=0.001"), settings)
    assert (outcome.run_dir, outcome.run_id) == (stopped, _state(stopped))
    run = registry.client.get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["lr0"] == "0.002"
    drift = json.loads(run.data.tags["param_drift"])
    assert (drift["lr0"], drift["epochs"]["new"]) == ({"old": "0.002", "new": "0.001"}, str(done + 2))
    history = registry.client.get_metric_history(outcome.run_id, "train/loss")
    assert [metric.step for metric in history] == list(range(1, done + 3))
    # What is told as changed is what the optimizer got.
    rates = registry.client.get_metric_history(outcome.run_id, "lr/pg0")
    assert rates[-1].value <= 0.001
    assert _epochs(stopped) == done + 2
    assert registry.resolve("@candidate").run_id == outcome.run_id
    with pytest.raises(InputError, match="nothing to resume"):
        train(_request(place), settings)


def test_a_training_without_mlflow_is_delivered_by_sync(
    place: Path, environment: dict[str, str], settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    away = {**environment, "TRANSECT_HOME": str(tmp_path), "TRANSECT_TRACKING_WAIT": "0"}
    request = TrainRequest("yolo11n", Path("configs/tiny.yaml"), place / "spots" / "data.yaml", ("epochs=1",))
    unreachable = load_settings({**away, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, env_file=None)
    with pytest.raises(RegistryError, match=r"MLflow lacks .* deliver them with: transect runs sync"):
        train(request, unreachable)
    back = load_settings({**away, "MLFLOW_TRACKING_URI": settings.store_uri}, env_file=None)
    (report,) = sync_spools(back).runs
    assert report.left == 0
    candidate = connect(back).resolve("@candidate")
    assert candidate.run_id == report.run_id
    assert connect(back).manifest(candidate).run_id == report.run_id
    run = registry.client.get_run(report.run_id)
    assert (run.info.status, run.data.params["epochs"]) == ("FINISHED", "1")
