"""Folders of trainings that MLflow has in full, and those that must be kept, in a real store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_fixtures import copy_store
from transect.registry import CleanRule, Registry, connect
from transect.settings import Settings, load_settings
from transect.tracking.cleanup import find_removable_folders, remove_run_folders, undelivered_runs
from transect.tracking.spool import Spool
from transect.tracking.sync import sync_spools

_NOW = datetime.now(UTC) + timedelta(days=40)
_RULE = CleanRule.parse("finished", "30d")


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{copy_store(empty_store, tmp_path_factory.mktemp('home'))}"


@pytest.fixture
def settings(store: str, tmp_path: Path) -> Settings:
    return load_settings({"TRANSECT_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": store}, env_file=None)


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return connect(settings)


def _leave(settings: Settings, name: str, status: str = "FINISHED", **tags: str) -> Spool:
    """The folder of a training whose journal has a final status, if given."""
    spool = Spool.create(settings.home / "train" / name)
    (spool.run_folder / "weights").mkdir()
    (spool.run_folder / "weights" / "best.pt").write_bytes(b"x" * 1000)
    (spool.run_folder / "results.csv").write_text("epoch\n")
    named = {key.replace("__", "."): value for key, value in tags.items()}
    local_id = f"{settings.home.name}-{name}"
    create = {"name": name, "tags": named, "local_id": local_id, "time": 1000, "facts": {}}
    spool.append("create", "run", experiment=settings.home.name, **create)
    if status:
        spool.append("status", f"status {status}", status=status, time=5000)
    return spool


def _deliver(settings: Settings) -> dict[str, str]:
    """Run ids by the names of folders."""
    sync_spools(settings)
    return {path.name: Spool(path).state.run_id for path in (settings.home / "train").iterdir()}


def test_what_mlflow_has_in_full_goes_and_the_rest_says_why_it_stays(settings: Settings, registry: Registry) -> None:
    sweep = registry.client.create_run(registry.experiment("sweeps"), run_name="sweep").info.run_id
    for name in ("a-whole", "b-waiting", "c-lost", "d-refused", "e-busy"):
        _leave(settings, name)
    _leave(settings, "f-trial", mlflow__parentRunId=sweep)
    _leave(settings, "g-killed", "KILLED")
    runs = _deliver(settings)
    cut_off = _leave(settings, "h-cut-off", "")
    spools = {path.name: Spool(path) for path in (settings.home / "train").iterdir()}
    spools["b-waiting"].append("tags", "tags", values={"k": "v"})
    registry.client.delete_run(runs["c-lost"])
    entry = next(spools["d-refused"].entries())
    spools["d-refused"].mark_rejected(entry, "it is wrong")
    spools["d-refused"].mark_delivered(list(spools["d-refused"].entries())[-1])

    with spools["e-busy"].lock():
        folders = find_removable_folders(settings, registry, _RULE, now=_NOW)
    assert [one.folder.name for one in folders.removable] == ["a-whole"]
    assert folders.size > 1000
    reasons = {folder.name: why for folder, why in folders.kept}
    assert set(reasons) == {"b-waiting", "c-lost", "d-refused", "e-busy", "f-trial", "h-cut-off"}
    assert reasons["b-waiting"] == "1 entries are not delivered: transect runs sync"
    assert f"MLflow has no run {runs['c-lost']} any more" in reasons["c-lost"]
    assert reasons["d-refused"] == "MLflow refused 1 entries, which are nowhere else"
    assert "just now" in reasons["e-busy"]
    assert reasons["f-trial"] == "it is a trial of sweep, which is not finished"
    assert "--resume resumes it" in reasons["h-cut-off"]
    assert undelivered_runs(settings).keys() == {runs["b-waiting"]}

    removed, kept = remove_run_folders(registry, folders)
    assert ([path.name for path in removed], kept) == (["a-whole"], [])
    assert not (settings.home / "train" / "a-whole").exists()
    assert cut_off.run_folder.is_dir()

    registry.client.set_terminated(sweep)
    wider = CleanRule.parse("finished,killed", "30d", keep=1)
    folders = find_removable_folders(settings, registry, wider, now=_NOW)
    assert [one.folder.name for one in folders.removable] == ["g-killed", "f-trial", "e-busy"]
    assert find_removable_folders(settings, registry, wider).removable == ()


def test_a_folder_that_is_used_again_stays(settings: Settings, registry: Registry) -> None:
    for name in ("a-resumed", "b-logged"):
        _leave(settings, name)
    _deliver(settings)
    folders = find_removable_folders(settings, registry, _RULE, now=_NOW)
    assert len(folders.removable) == 2
    Spool(settings.home / "train" / "b-logged").append("tags", "tags", values={"k": "v"})
    with Spool(settings.home / "train" / "a-resumed").lock():
        removed, kept = remove_run_folders(registry, folders)
    assert removed == []
    assert {path.name: why for path, why in kept} == {
        "a-resumed": "it is training, or being delivered, just now",
        "b-logged": "1 entries are not delivered: transect runs sync",
    }
    assert len(list((settings.home / "train").glob("*/weights/best.pt"))) == 2
