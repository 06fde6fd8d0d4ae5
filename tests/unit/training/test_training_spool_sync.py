"""Spools left by another process, delivered into a real store."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from registry_fixtures import copy_store
from transect.errors import UnreachableError
from transect.registry import Registry, connect
from transect.settings import Settings, load_settings
from transect.tracking.spool import Spool
from transect.tracking.sync import sync_spools


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests, which have experiments and models of their own."""
    return f"sqlite:///{copy_store(empty_store, tmp_path_factory.mktemp('home'))}"


@pytest.fixture
def settings(store: str, tmp_path: Path) -> Settings:
    environment = {"TRANSECT_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": store, "TRANSECT_MODEL_NAME": tmp_path.name}
    return load_settings(environment, env_file=None)


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return connect(settings)


def _leave(settings: Settings, name: str, *entries: tuple[str, dict[str, Any]]) -> Spool:
    """A spool as a trainer leaves it that was killed while MLflow was away."""
    spool = Spool.create(settings.home / "train" / name)
    local_id = f"{settings.home.name}-{name}"
    create = {"name": name, "tags": {}, "local_id": local_id, "time": 1000, "facts": {}}
    spool.append("create", "run", experiment=settings.home.name, **create)
    for kind, data in entries:
        spool.append(kind, kind, **data)
    return spool


def _metrics(step: int) -> tuple[str, dict[str, Any]]:
    return "metrics", {"values": {"loss": 1 / step}, "step": step, "time": 1000 + step}


def test_everything_is_delivered_once(settings: Settings, registry: Registry) -> None:
    _leave(settings, "a", _metrics(1), _metrics(2))
    _leave(settings, "b", _metrics(1), ("status", {"status": "FAILED", "time": 5000}))
    report = sync_spools(settings)
    assert report.complete
    assert [(run.folder.name, run.delivered, run.left) for run in report.runs] == [("a", 4, 0), ("b", 3, 0)]
    killed, failed = (registry.client.get_run(run.run_id) for run in report.runs)
    # The trainer of the first one was killed without a final status.
    assert (killed.info.status, failed.info.status) == ("KILLED", "FAILED")
    assert (killed.info.run_name, killed.info.start_time, failed.info.end_time) == ("a", 1000, 5000)
    history = registry.client.get_metric_history(killed.info.run_id, "loss")
    assert [(metric.step, metric.timestamp, metric.value) for metric in history] == [(1, 1001, 1.0), (2, 1002, 0.5)]
    assert sync_spools(settings).runs == ()


@pytest.mark.parametrize("forgotten", [1, 2, 3])
def test_a_lost_answer_does_no_harm(settings: Settings, registry: Registry, forgotten: int) -> None:
    """MLflow took the entries, and the process was killed before it could note that."""
    note = settings.home / "note.txt"
    spool = _leave(
        settings,
        "a",
        _metrics(1),
        ("params", {"values": {"lr0": "0.01"}}),
        ("tags", {"values": {"k": "v"}}),
        ("dataset", {"name": "d", "digest": "1", "source": "{}", "context": "train", "profile": "{}"}),
    )
    note.write_text("hello")
    spool.append("artifact", "artifact", file=spool.store_file(note), folder="notes")
    before = sync_spools(settings).runs[0].run_id
    if forgotten == 1:
        (spool.folder / "state.json").unlink()
    else:
        ends = [entry.end for entry in spool.entries()]
        state = spool.folder / "state.json"
        state.write_text(state.read_text().replace(f'"offset": {ends[-1]}', f'"offset": {ends[forgotten - 2]}'))
    (run,) = sync_spools(settings).runs
    assert (run.run_id, run.left) == (before, 0)
    assert len(registry.client.search_runs([registry.experiment(settings.home.name)])) == 1
    found = registry.client.get_run(before)
    assert len(registry.client.get_metric_history(before, "loss")) == 1
    assert found.inputs is not None
    assert len(found.inputs.dataset_inputs) == 1
    assert [file.path for file in registry.client.list_artifacts(before, "notes")] == ["notes/note.txt"]


def test_many_entries_go_together_and_each_arrives_as_if_alone(settings: Settings, registry: Registry) -> None:
    spool = _leave(settings, "a", *(_metrics(step) for step in range(1, 41)))
    note = settings.home / "note.txt"
    for number in range(20):
        note.write_text(f"note {number}")
        spool.append("artifact", f"artifact {number}", file=spool.store_file(note), folder=f"notes/{number % 15}")
    missing = next(entry for entry in spool.entries() if entry.what == "artifact 3")
    spool.stored_path(missing.data["file"]).unlink()
    (run,) = sync_spools(settings).runs
    # The run, forty steps, twenty files, of which one is missing, and the status.
    assert (run.delivered, run.left, len(Spool(run.folder).state.rejected)) == (62, 0, 1)
    history = registry.client.get_metric_history(run.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(step, 1 / step) for step in range(1, 41)]
    # The newer of two for one place is the one that stays.
    found = {
        number: Path(registry.client.download_artifacts(run.run_id, f"notes/{number}/note.txt")).read_text()
        for number in range(15)
        if number != 3
    }
    assert found == {number: f"note {number + 15 if number < 5 else number}" for number in found}
    assert sorted(path.name for path in (spool.folder / "files").rglob("*.txt")) == []
    # The process was killed when half of what went together was noted.
    ends = [entry.end for entry in spool.entries()]
    state = spool.folder / "state.json"
    state.write_text(state.read_text().replace(f'"offset": {ends[-1]}', f'"offset": {ends[20]}'))
    sync_spools(settings)
    assert len(registry.client.get_metric_history(run.run_id, "loss")) == 40


def test_what_mlflow_refuses_of_what_goes_together_is_found(settings: Settings, registry: Registry) -> None:
    odd = ("metrics", {"values": {"no:name?": 1.0}, "step": 2, "time": 1002})
    _leave(settings, "a", _metrics(1), odd, _metrics(3))
    (run,) = sync_spools(settings).runs
    assert (run.delivered, run.left) == (5, 0)
    (why,) = Spool(run.folder).state.rejected
    assert "no:name?" in why
    assert [metric.step for metric in registry.client.get_metric_history(run.run_id, "loss")] == [1, 3]


def test_a_package_is_registered_once_and_knows_its_run(
    settings: Settings, registry: Registry, dot_package: Path, tmp_path: Path
) -> None:
    package = shutil.copytree(dot_package, tmp_path / "package")
    (package / "MLmodel").write_text("flavors: {}\nrun_id: null\n")
    spool = _leave(settings, "a", _metrics(1), ("register", {"package": str(package), "tags": {"k": "v"}}))
    (run,) = sync_spools(settings).runs
    assert run.sentence.endswith("registered version 1.")
    candidate = registry.resolve("@candidate")
    assert (candidate.run_id, candidate.tags["k"]) == (run.run_id, "v")
    assert registry.manifest(candidate).run_id == run.run_id
    assert registry.client.get_run(run.run_id).info.status == "FINISHED"
    # Killed before it could note the version, and before the version had its alias.
    registry.client.delete_registered_model_alias(settings.model_name, "candidate")
    (spool.folder / "state.json").unlink()
    assert sync_spools(settings).complete
    assert registry.resolve("@candidate").version == "1"
    assert len(registry.list_versions()) == 1


def test_what_was_deleted_in_mlflow_is_named_and_kept(settings: Settings, registry: Registry) -> None:
    spool = _leave(settings, "a", _metrics(1))
    run_id = sync_spools(settings).runs[0].run_id
    registry.client.delete_run(run_id)
    spool.append("metrics", "late metrics", values={"loss": 0.1}, step=9, time=9)
    other = _leave(settings, "b", _metrics(1))
    report = sync_spools(settings)
    assert not report.complete
    named, delivered = report.runs
    assert (named.left, delivered.left) == (1, 0)
    assert f"Run {run_id} was deleted" in named.sentence
    registry.client.restore_run(run_id)
    assert sync_spools(settings).complete
    assert len(registry.client.get_metric_history(run_id, "loss")) == 2
    assert other.run_folder.name in delivered.sentence


def test_a_deleted_experiment_is_named(settings: Settings, registry: Registry) -> None:
    registry.client.delete_experiment(registry.experiment(settings.home.name))
    _leave(settings, "a", _metrics(1))
    (run,) = sync_spools(settings).runs
    assert run.left == 3
    assert f"The experiment '{settings.home.name}' was deleted" in run.sentence


def test_a_training_under_way_is_left_alone(settings: Settings, registry: Registry) -> None:
    spool = _leave(settings, "a", _metrics(1))
    with spool.lock():
        report = sync_spools(settings)
    assert report.complete
    assert "just now" in report.runs[0].sentence
    assert len(spool.pending()) == 2


def test_nothing_to_deliver_asks_nobody(tmp_path: Path) -> None:
    environment = {"TRANSECT_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    settings = load_settings(environment, env_file=None)
    assert sync_spools(settings).runs == ()
    _leave(settings, "a")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        sync_spools(settings)
