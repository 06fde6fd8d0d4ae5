"""Sweeps with real trainings, on SQLite and on PostgreSQL: killed, stopped, gone on with, read back from MLflow."""

import signal
import socket
from pathlib import Path

import optuna
import psycopg2
import pytest

from integration.servers import MlflowServer
from integration.sweep_runs import (
    BAD,
    GOOD,
    environment_of,
    read_sweep,
    start_sweep,
    stop_when,
    told,
    versions_of,
    write_place,
)
from transect.errors import InputError, RegistryError, TransectError
from transect.registry import connect
from transect.settings import Settings, load_settings
from transect.tracking.sync import sync_spools
from transect.training.sweep.run import SweepOutcome, SweepRequest, sweep
from transect.training.sweep.storage import open_store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a recipe, sweeps and a training set."""
    place = tmp_path_factory.mktemp("place")
    write_place(place)
    return place


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def _request(name: str, *overrides: str, trials: int | None = None) -> SweepRequest:
    path = Path("configs/sweep") / f"{name}.yaml"
    return SweepRequest(config=path, data=Path("spots/data.yaml"), overrides=overrides, trials=trials)


@pytest.mark.rotating
def test_a_sweep_that_is_killed_goes_on_and_is_done_once(place: Path, tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    settings = load_settings(environment, env_file=None)
    process = start_sweep("rates", environment, place)
    stop_when(lambda: told(tmp_path, 1, 1), process, signal.SIGKILL)
    before = sorted(path.name for path in (tmp_path / "train").iterdir())
    first = (tmp_path / "train" / before[0] / "weights" / "best.pt").stat().st_mtime_ns

    outcome = sweep(_request("rates"), settings)
    assert (outcome.name, dict(outcome.counts), outcome.new) == ("rates_yolo11n", {"complete": 2, "pruned": 1}, True)
    assert outcome.best.params == {"lr0": GOOD}
    assert outcome.best.value > 0
    after = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert after[:2] == before
    assert len(after) == 3
    assert (tmp_path / "train" / before[0] / "weights" / "best.pt").stat().st_mtime_ns == first

    read = read_sweep(settings, "configs_sweep_rates")
    assert (read.parent.info.run_id, read.parent.info.status) == (outcome.run_id, "FINISHED")
    assert {number: run.data.tags["transect.sweep.state"] for number, run in read.trials.items()} == {
        0: "complete",
        1: "pruned",
        2: "complete",
    }
    assert {run.info.status for run in read.trials.values()} == {"FINISHED"}
    # It was stopped where pruning is first allowed, told every epoch once, and was neither tested nor exported.
    assert list(read.history(read.trials[1], "metrics/mAP50-95")) == [1, 2, 3]
    assert not any(name.startswith(("best/", "test/")) for name in read.trials[1].data.metrics)
    assert not any(name.startswith("test/") for name in read.trials[2].data.metrics)
    assert list(read.history(read.trials[2], "metrics/mAP50-95")) == [1, 2, 3, 4]
    assert all("best.pt" in read.files(run, "weights") for run in read.trials.values())
    # Trials 0 and 2 train alike, but in two processes: which rounds to the better value is the processor's affair.
    values = {number: read.trials[number].data.metrics["best/mAP50-95"] for number in (0, 2)}
    assert outcome.best.number == max(values, key=values.__getitem__)
    best = read.trials[outcome.best.number]
    assert best.data.metrics["best/mAP50-95"] == outcome.best.value
    assert best.data.metrics["test/mAP50-95"] > 0
    assert best.data.params["lr0"] == str(GOOD)

    best_so_far = {0: values[0], 1: values[0], 2: outcome.best.value}
    assert read.history(read.parent, "best/mAP50-95") == best_so_far
    assert read.history(read.parent, "sweep/mAP50-95") == values
    assert read.parent.data.params["space/lr0"] == f"choice: [{BAD}, {GOOD}]"
    tags = read.parent.data.tags
    assert tags["transect.sweep.trials"] == "2 complete, 1 pruned, 0 failed"
    assert (tags["transect.sweep.best_run"], tags["transect.sweep.best.lr0"]) == (best.info.run_id, str(GOOD))
    assert read.files(read.parent, "sweep") == {"sweep.yaml", "trials.csv", "history.png"}
    assert versions_of(settings) == [best.info.run_id]
    assert connect(settings).resolve("@candidate").run_id == best.info.run_id

    again = sweep(_request("rates"), settings)
    assert (again.new, again.version, again.run_id) == (False, outcome.version, outcome.run_id)
    assert versions_of(settings) == [best.info.run_id]
    assert len(list((tmp_path / "train").iterdir())) == 3
    _refuses_another_sweep_under_the_name(place, settings)


def _refuses_another_sweep_under_the_name(place: Path, settings: Settings) -> None:
    with pytest.raises(InputError, match=r"begun with another recipe \(epochs\); take that back, or .* --name"):
        sweep(_request("rates", "epochs=5"), settings)
    config = place / "configs" / "sweep" / "rates.yaml"
    kept = config.read_text()
    config.write_text(kept.replace(f"[{BAD}", "[0.004"))
    try:
        with pytest.raises(InputError, match=r"Sweep rates_yolo11n was begun with another space \(lr0\)"):
            sweep(_request("rates"), settings)
    finally:
        config.write_text(kept)


@pytest.mark.rotating
def test_a_sweep_in_mlflows_own_postgresql(
    mlflow_on_postgres: MlflowServer, postgres_uri: str, place: Path, tmp_path: Path
) -> None:
    more = {"TRANSECT_SWEEP_STORE": postgres_uri, "TRANSECT_MODEL_NAME": "swept"}
    environment = environment_of(tmp_path, **more, **mlflow_on_postgres.environment())
    settings = load_settings(environment, env_file=None)
    versions_before = _alembic_versions(postgres_uri, "public")
    process = start_sweep("mad", environment, place, "--trials", "2")
    said = stop_when(lambda: told(tmp_path, 0, 1), process, signal.SIGINT)
    assert process.returncode == 130
    assert said.splitlines()[-2:] == [
        "Stopped; the same command resumes this sweep.",
        "transect: interrupted.",
    ]
    stopped = read_sweep(settings, "configs_sweep_mad")
    assert (stopped.parent.info.status, stopped.trials[0].info.status) == ("KILLED", "KILLED")
    assert stopped.trials[0].data.tags["transect.sweep.state"] == "stopped"

    outcome: SweepOutcome = sweep(_request("mad", trials=2), settings)
    assert dict(outcome.counts) == {"complete": 1, "failed": 1}
    read = read_sweep(settings, "configs_sweep_mad")
    assert read.parent.info.run_id == stopped.parent.info.run_id
    assert read.trials[0].info.run_id == stopped.trials[0].info.run_id
    assert list(read.history(read.trials[0], "train/loss")) == [1, 2, 3, 4]
    assert (read.parent.info.status, read.trials[0].info.status) == ("FINISHED", "FINISHED")
    failed = read.trials[1]
    assert (failed.info.status, failed.data.tags["transect.sweep.state"]) == ("FAILED", "failed")
    assert "train/loss is" in failed.data.tags["transect.sweep.reason"]
    table = read.client.download_artifacts(read.parent.info.run_id, "sweep/trials.csv", str(tmp_path))
    assert failed.data.tags["transect.sweep.reason"] in Path(table).read_text()
    assert outcome.version
    # Optuna's tables are beside MLflow's, which are as they were.
    assert _alembic_versions(postgres_uri, "public") == versions_before
    assert _alembic_versions(postgres_uri, "transect_sweeps") not in ([], versions_before)
    assert [one.study_name for one in optuna.get_all_study_summaries(open_store(tmp_path, settings))] == ["mad_yolo11n"]
    elsewhere = load_settings({**environment, "TRANSECT_HOME": str(tmp_path / "other")}, env_file=None)
    with pytest.raises(InputError, match="Sweep mad_yolo11n was begun in another TRANSECT_HOME"):
        sweep(_request("mad", trials=2), elsewhere)


@pytest.mark.rotating
def test_a_sweep_without_mlflow_costs_a_sync(mlflow_on_sqlite: MlflowServer, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        away = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{probe.getsockname()[1]}", "TRANSECT_TRACKING_WAIT": "0"}
    environment = environment_of(tmp_path, TRANSECT_MODEL_NAME="swept-alone")
    with pytest.raises(RegistryError, match="deliver them with: transect runs sync"):
        sweep(_request("rates", trials=2), load_settings({**environment, **away}, env_file=None))

    settings = load_settings({**environment, **mlflow_on_sqlite.environment()}, env_file=None)
    assert sync_spools(settings).complete
    read = read_sweep(settings, "configs_sweep_rates")
    assert {read.parent.info.status, *(run.info.status for run in read.trials.values())} == {"FINISHED"}
    assert [list(read.history(read.trials[number], "train/loss")) for number in (0, 1)] == [[1, 2, 3, 4], [1, 2, 3]]
    # Registered is the best one, once; and the sweep that is asked for again is over.
    outcome = sweep(_request("rates", trials=2), settings)
    assert (outcome.new, outcome.best.number, outcome.version) == (False, 0, "1")
    assert connect(settings).resolve("@candidate").run_id == read.trials[0].info.run_id


def _alembic_versions(uri: str, schema: str) -> list[str]:
    connection = psycopg2.connect(uri.replace("+psycopg2", ""))
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT version_num FROM {schema}.alembic_version")
            return [str(row[0]) for row in cursor.fetchall()]
    finally:
        connection.close()


def test_trials_that_fail_one_after_the_other_end_the_sweep(tmp_path: Path) -> None:
    settings = load_settings(environment_of(tmp_path), env_file=None)
    with pytest.raises(
        TransectError, match=r"3 trials in a row failed, .*train/loss is (inf|nan) in epoch 1.*resumes with"
    ):
        sweep(_request("worse", "epochs=1", trials=5), settings)
    read = read_sweep(settings, "configs_sweep_worse")
    assert read.parent.info.status == "FAILED"
    assert len(read.trials) == 3
    with pytest.raises(TransectError, match="No trial of sweep worse_yolo11n was trained to its end"):
        sweep(_request("worse", "epochs=1", trials=3), settings)
    assert versions_of(settings) == []
