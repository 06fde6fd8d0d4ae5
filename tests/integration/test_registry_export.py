"""Experiments from MLflow on PostgreSQL and S3 into a folder, and from there into another server."""

import hashlib
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run

from integration.servers import MlflowServer
from toy_model import build_toy_package
from transect.errors import InputError, NotRegisteredError
from transect.registry import Registry, connect, export_store, find_run, import_store
from transect.registry.transfer import copy_runs as copying
from transect.settings import load_settings

_MODEL = "exported"


def _connect(home: Path, server: MlflowServer | None = None) -> Registry:
    environment = {} if server is None else server.environment()
    return connect(
        load_settings({"TRANSECT_HOME": str(home), "TRANSECT_MODEL_NAME": _MODEL, **environment}, env_file=None)
    )


def _log_run(registry: Registry, name: str, scratch: Path, experiment: str = "copied/one") -> str:
    client = registry.client
    run_id = str(client.create_run(registry.experiment(experiment), 1_700_000_000_000, {"k": "v"}, name).info.run_id)
    metrics = [Metric("val/loss", 1 / step, 1_700_000_000_000 + step, step) for step in range(1, 2001)]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    client.log_batch(run_id, metrics=[Metric("odd", math.nan, 5, 1), Metric("odd", 0.5, 6, 1)])
    for number in range(120):
        client.log_param(run_id, f"p{number}", f"value {number}")
    given = DatasetInput(Dataset("herd", "d1", "local", '{"uri": "x"}'), [InputTag("mlflow.data.context", "train")])
    client.log_inputs(run_id, datasets=[given])
    folder = scratch / "files"
    folder.mkdir(exist_ok=True)
    (folder / "table.csv").write_text(f"{name}, 1\n")
    (folder / "a note.txt").write_text("of two words")
    client.log_artifacts(run_id, str(folder), "a/b")
    client.set_terminated(run_id, "FINISHED", 1_700_000_100_000)
    return run_id


def _whole(place: copying.MlflowStore, run: Run, scratch: Path) -> dict[str, Any]:
    """Everything that MLflow holds of a run, without ids and what a copy adds."""
    client = place.registry.client
    scratch.mkdir(parents=True)
    files = place.files(run)
    contents = {
        name: hashlib.sha256(Path(files.download_artifacts(name, str(scratch))).read_bytes()).hexdigest()
        for name, _ in copying._walk(files)
    }
    assert run.inputs is not None
    return {
        "info": (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time),
        "params": run.data.params,
        "tags": {
            k: v for k, v in run.data.tags.items() if k not in ("transect.copied", "transect.source_run_id", "parent")
        },
        "history": {
            name: sorted(
                (one.step, one.timestamp, repr(one.value)) for one in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        },
        "datasets": [(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs],
        "files": contents,
    }


def _origins(place: copying.MlflowStore, experiment: str) -> dict[str, Run]:
    found = place.registry.client.get_experiment_by_name(experiment)
    assert found is not None
    return {copying.origin_of(run): run for run in copying.all_runs(place, found.experiment_id)}


def _compare(one: copying.MlflowStore, two: copying.MlflowStore, experiment: str, scratch: Path) -> None:
    ours, theirs = _origins(one, experiment), _origins(two, experiment)
    assert set(ours) == set(theirs)
    for origin, run in ours.items():
        here, there = scratch / origin / "one", scratch / origin / "two"
        assert _whole(one, run, here) == _whole(two, theirs[origin], there)


def test_there_and_into_another_server(
    mlflow_on_postgres: MlflowServer, mlflow_on_sqlite: MlflowServer, tmp_path: Path
) -> None:
    first = _connect(tmp_path / "first", mlflow_on_postgres)
    one = _log_run(first, "parent", tmp_path)
    two = _log_run(first, "child", tmp_path)
    first.client.set_tag(two, "parent", one)
    for run_id, shift in ((one, 0.0), (two, 1.0)):
        package = build_toy_package(tmp_path / f"package-{shift}", shift=shift)
        first.register(package, run_id, tags={"transect.architecture": "toy", "transect.verdict_run": one})
    first.client.set_registered_model_alias(_MODEL, "production", "1")

    out, moved = tmp_path / "out", tmp_path / "moved"
    copied = export_store(first, out, ["copied/one"])
    assert (copied.runs.new, copied.models.new, copied.models.remarks) == (2, 2, [])
    again = export_store(first, out, ["copied/one"])
    assert (again.runs.new, again.runs.changed, again.runs.same, again.models.new) == (0, 0, 2, 0)
    source, folder = copying.MlflowStore(first), copying.MlflowStore(_connect(out), out)
    _compare(source, folder, "copied/one", tmp_path / "compare-1")
    # It stands alone: with no server, the package is there and whole.
    assert folder.registry.fetch(folder.registry.resolve("production")).is_dir()
    assert folder.registry.resolve("candidate").version == "2"
    child = find_run(folder.registry, "child")
    assert child.tags["parent"] == find_run(folder.registry, "parent").run_id != one

    first.client.log_metric(two, "late", 0.25, step=9)
    # Other tests have left their runs on the same server, which are of no interest here.
    assert export_store(first, out, ["copied/one"]).runs.changed == 1
    shutil.move(out, moved)
    second = _connect(tmp_path / "second", mlflow_on_sqlite)
    assert import_store(second, moved, ["copied/one"]).runs.new == 2
    target = copying.MlflowStore(second)
    _compare(source, target, "copied/one", tmp_path / "compare-2")
    assert find_run(second, "child").tags["transect.source_run_id"] == two
    resolved = second.resolve("production")
    assert (resolved.version, resolved.tags["transect.source_version"]) == ("1", "1")
    assert resolved.run_id == resolved.tags["transect.verdict_run"] == find_run(second, "parent").run_id
    second.fetch(resolved)
    assert second.resolve("candidate").version == "2"

    # What is served does not change by an import, unless that is asked for.
    second.client.set_registered_model_alias(_MODEL, "production", "2")
    kept = import_store(second, moved, ["copied/one"])
    assert kept.runs.new == kept.models.new == 0
    assert ["production of exported stays with version 2" in line for line in kept.models.remarks] == [True]
    import_store(second, moved, ["copied/one"], move_aliases=True)
    assert second.resolve("production").version == "1"

    # Where the runs came from, they are known, and what became of the versions since stays.
    first.client.set_model_version_tag(_MODEL, "1", "transect.verdict_run", two)
    home = import_store(first, moved, ["copied/one"])
    assert (home.runs.new, home.runs.changed, home.models.new) == (0, 0, 0)
    assert first.resolve("1").tags["transect.verdict_run"] == two


def test_a_copy_that_was_broken_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _connect(tmp_path / "first")
    for name in ("a", "b", "c"):
        _log_run(first, name, tmp_path, "broken")
    real = copying._copy_files
    calls = []

    def broken(*arguments: Any, **more: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments, **more)

    monkeypatch.setattr(copying, "_copy_files", broken)
    monkeypatch.setattr(copying, "PAGE", 1)
    with pytest.raises(KeyboardInterrupt):
        export_store(first, tmp_path / "out")
    copied = export_store(first, tmp_path / "out")
    assert (copied.runs.new, copied.runs.same) == (2, 1)
    _compare(
        copying.MlflowStore(first), copying.MlflowStore(_connect(tmp_path / "out")), "broken", tmp_path / "compare"
    )


def test_what_cannot_be_copied_is_named(tmp_path: Path) -> None:
    registry = _connect(tmp_path / "home")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    (tmp_path / "file").touch()
    for out, said in (("full", "not an export"), ("file", "is a file"), ("home", "in use")):
        with pytest.raises(InputError, match=said):
            export_store(registry, tmp_path / out)
    with pytest.raises(InputError, match="no exported store"):
        import_store(registry, tmp_path / "full")
    with pytest.raises(NotRegisteredError, match="no experiment 'gone'"):
        export_store(registry, tmp_path / "new", ["gone"])
