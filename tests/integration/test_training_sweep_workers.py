"""Several workers on one sweep: real processes, a real PostgreSQL and real trainings, of which some are killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from cli_process import CliProcess
from integration.servers import MlflowServer
from integration.sweep_claimer import CONFIG, open_study
from integration.sweep_runs import (
    BAD,
    GOOD,
    SOON_S,
    environment_of,
    read_sweep,
    start_sweep,
    stop_when,
    told,
    versions_of,
    write_place,
)
from sweep_work import shared_work
from transect.errors import InputError, UnreachableError
from transect.registry import connect
from transect.settings import Settings, load_settings
from transect.training.sweep.join import join_sweep
from transect.training.sweep.run import SweepOutcome, SweepRequest, sweep
from transect.training.sweep.storage import open_store
from transect.training.sweep.study import SweepStudy

_CLAIMER = Path(__file__).with_name("sweep_claimer.py")
_TRIALS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a recipe, sweeps and a training set."""
    place = tmp_path_factory.mktemp("place")
    write_place(place)
    return place


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def _request(name: str, *overrides: str, join: str = "") -> SweepRequest:
    path = Path("configs/sweep") / f"{name}.yaml"
    return SweepRequest(config=path, data=Path("spots/data.yaml"), overrides=overrides, name=join)


def _homes(tmp_path: Path, **more: str) -> tuple[dict[str, str], dict[str, str]]:
    """The environments of a coordinator and of a worker that shares nothing with it but the servers."""
    shared = {"TRANSECT_MODEL_NAME": f"swept-{tmp_path.name[-40:]}", **more}
    return environment_of(tmp_path / "a", **shared), environment_of(tmp_path / "b", **shared)


@contextmanager
def _both_at_work(
    name: str, place: Path, environments: tuple[dict[str, str], dict[str, str]]
) -> Iterator[tuple[CliProcess, CliProcess]]:
    """A coordinator that stands still in trial 0, and a worker that has joined it and is in trial 1."""
    here, there = (Path(environment["TRANSECT_HOME"]) for environment in environments)
    with start_sweep(name, environments[0], place) as coordinator:
        try:
            _until(lambda: told(here, 0, 1), coordinator)
            coordinator.send_signal(signal.SIGSTOP)
            with start_sweep(name, environments[1], place, "--join", f"{name}_yolo11n") as joiner:
                try:
                    _until(lambda: told(there, 1, 1), joiner)
                    yield coordinator, joiner
                finally:
                    joiner.kill()
        finally:
            coordinator.kill()


@pytest.mark.parametrize("store", ["postgres", "sqlite"])
def test_no_trial_is_taken_twice_and_none_too_many(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue("postgres_uri") if store == "postgres" else ""
    study = open_study(tmp_path, address)
    study.open_work(shared_work(CONFIG))
    go = tmp_path / "go"
    command = [sys.executable, str(_CLAIMER), str(tmp_path), address, str(go)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        go.touch()
        numbers = [[int(number) for number in worker.communicate(timeout=SOON_S)[0].split()] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(number for some in numbers for number in some) == list(range(CONFIG.trials))
    assert all(numbers)
    ended = study.ended()
    assert [trial.number for trial in ended] == list(range(CONFIG.trials))
    assert {trial.state for trial in ended} == {TrialState.COMPLETE}
    assert [trial.value for trial in ended] == [trial.params["lr0"] for trial in ended]


@pytest.mark.rotating
def test_a_worker_that_is_killed_loses_no_trial(
    mlflow_on_sqlite: MlflowServer, postgres_uri: str, place: Path, tmp_path: Path
) -> None:
    servers = {"TRANSECT_SWEEP_STORE": postgres_uri, **mlflow_on_sqlite.environment()}
    environments = _homes(tmp_path, **servers)
    with _both_at_work("joined", place, environments) as (coordinator, joiner):
        joiner.kill()
        joiner.communicate(timeout=SOON_S)
        coordinator.send_signal(signal.SIGCONT)
        said = coordinator.communicate(timeout=SOON_S)[0]
    assert coordinator.returncode == 0, said
    assert "Trial 1 of sweep joined_yolo11n, after process" in said
    settings = load_settings(environments[0], env_file=None)
    read = read_sweep(settings, "configs_sweep_joined")
    _each_trial_once(read.trials.keys(), settings, "joined")
    # What the dead worker had begun stands beside it, and is no result.
    (gone,) = read.superseded
    assert (gone.data.tags["transect.sweep.trial"], gone.info.status) == ("1", "KILLED")
    outcome = sweep(_request("joined"), settings)
    assert (outcome.new, dict(outcome.counts)) == (False, {"complete": _TRIALS})
    _is_the_best_of_all(outcome, settings)
    _refuses_workers_of_another_sweep(environments)


@pytest.mark.rotating
def test_a_coordinator_that_is_killed_goes_on_with_what_others_trained(
    mlflow_on_sqlite: MlflowServer, postgres_uri: str, place: Path, tmp_path: Path
) -> None:
    servers = {"TRANSECT_SWEEP_STORE": postgres_uri, **mlflow_on_sqlite.environment()}
    environments = _homes(tmp_path, **servers)
    with _both_at_work("orphaned", place, environments) as (coordinator, joiner):
        coordinator.kill()
        coordinator.communicate(timeout=SOON_S)
        said = joiner.communicate(timeout=SOON_S)[0]
    assert joiner.returncode == 0, said
    assert said.splitlines()[-2:] == [
        "All 3 trials of sweep orphaned_yolo11n have ended; this worker trained 3 trials (1, 0, 2).",
        "Its coordinator registers the best.",
    ]
    settings = load_settings(environments[0], env_file=None)
    assert versions_of(settings, settings.model_name) == []

    outcome = sweep(_request("orphaned"), settings)
    assert (outcome.new, dict(outcome.counts), outcome.best.number) == (True, {"complete": _TRIALS}, 1)
    read = read_sweep(settings, "configs_sweep_orphaned")
    _each_trial_once(read.trials.keys(), settings, "orphaned")
    _is_the_best_of_all(outcome, settings)
    best = read.trials[1]
    assert (best.info.status, best.data.tags["transect.sweep.state"]) == ("FINISHED", "complete")
    # Trained there and packaged here: one run has both.
    assert {name.partition("/")[0] for name in best.data.metrics} >= {"train", "best", "test"}
    assert list(read.history(best, "metrics/mAP50-95")) == [1, 2, 3, 4]
    assert not (tmp_path / "a" / "train" / best.info.run_name / "results.csv").exists()
    assert [(run.data.tags["transect.sweep.trial"], run.info.status) for run in read.superseded] == [("0", "KILLED")]
    values = {number: run.data.metrics["best/mAP50-95"] for number, run in read.trials.items()}
    assert read.history(read.parent, "sweep/mAP50-95") == values
    assert read.history(read.parent, "best/mAP50-95") == {0: values[0], 1: values[1], 2: values[1]}


@pytest.mark.rotating
def test_workers_of_one_machine_share_a_file_and_go_on_from_an_epoch(place: Path, tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    settings = load_settings(environment, env_file=None)
    process = start_sweep("joined", environment, place)
    stop_when(lambda: told(tmp_path, 0, 2), process, signal.SIGKILL)
    (folder,) = (tmp_path / "train").iterdir()
    joined = join_sweep(_request("joined", join="joined_yolo11n"), settings)
    assert (joined.trials, joined.total) == ((0, 1, 2), 3)
    # The trial of the dead coordinator was not begun anew.
    assert folder in (tmp_path / "train").iterdir()
    assert len(list((tmp_path / "train").iterdir())) == _TRIALS
    outcome = sweep(_request("joined"), settings)
    assert (outcome.new, dict(outcome.counts), outcome.best.number) == (True, {"complete": _TRIALS}, 1)
    read = read_sweep(settings, "configs_sweep_joined")
    assert read.superseded == []
    assert list(read.history(read.trials[0], "train/loss")) == [1, 2, 3, 4]
    assert join_sweep(_request("joined", join="joined_yolo11n"), settings).trials == ()


def _until(reached: Callable[[], bool], process: CliProcess) -> None:
    """Wait until it has come so far."""
    deadline = time.monotonic() + SOON_S
    while not reached():
        if time.monotonic() > deadline or process.poll() is not None:
            process.kill()
            pytest.fail(process.communicate(timeout=SOON_S)[0])
        time.sleep(0.01)


def _each_trial_once(in_mlflow: Iterable[int], settings: Settings, name: str) -> None:
    config = replace(CONFIG, trials=_TRIALS)
    store = open_store(settings.home / "sweeps" / f"{name}_yolo11n", settings)
    ended = SweepStudy(store, f"{name}_yolo11n", config, wait=0, make=False).ended()
    assert [trial.number for trial in ended] == list(range(_TRIALS))
    assert [trial.params["lr0"] for trial in ended] == [BAD, GOOD, BAD]
    assert sorted(in_mlflow) == list(range(_TRIALS))


def _is_the_best_of_all(outcome: SweepOutcome, settings: Settings) -> None:
    """What one worker would register of these trials: the greatest value, the earlier one of equals."""
    read = read_sweep(settings, f"configs_sweep_{outcome.name.removesuffix('_yolo11n')}")
    values = {number: run.data.metrics["best/mAP50-95"] for number, run in read.trials.items()}
    best = max(sorted(values), key=values.__getitem__)
    assert (outcome.best.number, outcome.best.value) == (best, values[best])
    run_id = read.trials[best].info.run_id
    assert connect(settings).resolve("@candidate").run_id == run_id
    assert versions_of(settings, settings.model_name) == [run_id]
    assert read.parent.data.tags["transect.sweep.best_run"] == run_id


def _refuses_workers_of_another_sweep(environments: tuple[dict[str, str], dict[str, str]]) -> None:
    there = load_settings(environments[1], env_file=None)
    name = "joined_yolo11n"
    with pytest.raises(InputError, match=r"Sweep joined_yolo11n has another recipe \(epochs\); give this worker the"):
        join_sweep(_request("joined", "epochs=5", join=name), there)
    with pytest.raises(InputError, match=r"has another space \(lr0\)"):
        join_sweep(_request("rates", join=name), there)
    with pytest.raises(InputError, match=r"no sweep nothing to join in the store of this worker \(there: .*joined"):
        join_sweep(_request("joined", join="nothing"), there)
    alone = there.model_copy(update={"sweep_store": ""})
    with pytest.raises(InputError, match=r"TRANSECT_SWEEP_STORE is empty and .*study\.db does not exist"):
        join_sweep(_request("joined", join=name), alone)
    with pytest.raises(InputError, match=r"MLflow at sqlite:.* has no run [0-9a-f]+ of sweep joined_yolo11n; give"):
        join_sweep(_request("joined", join=name), there.model_copy(update={"tracking_uri": ""}))
    away = there.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(UnreachableError, match=r"MLflow is away, and through it the coordinator of sweep joined"):
        join_sweep(_request("joined", join=name), away)
    elsewhere = load_settings({**environments[0], "TRANSECT_HOME": str(there.home)}, env_file=None)
    with pytest.raises(InputError, match=r"begun in another TRANSECT_HOME, .*help it with --join joined_yolo11n"):
        sweep(_request("joined"), elsewhere)
    config = replace(CONFIG, trials=_TRIALS)
    study = SweepStudy(open_store(there.home, there), name, config, wait=0, make=False)
    work = study.work()
    assert work is not None
    versions = {**work.versions, "transect": "0.1"}
    study.study.set_user_attr("transect.work", replace(work, versions=versions).as_value())
    with pytest.raises(
        InputError, match=r"another version of transect \(0\.1, and here .*\); give this worker the same"
    ):
        join_sweep(_request("joined", join=name), there)
