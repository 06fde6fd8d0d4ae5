"""What an earlier version left behind opens today and goes on: a package, a census, a store, a spool.

tests/data/from_d730c1c/README.md says how it was made.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kept_parts import kept_photos
from painted_surveys import CONFIG, count, rows_of
from transect.cli import app
from transect.engine import Detector, verify_package
from transect.registry import connect
from transect.settings import Settings, load_settings
from transect.tracking.run_history import RunHistory
from transect.tracking.spool import Spool
from transect.tracking.sync import sync_spools

LEFT = Path(__file__).parents[1] / "data" / "from_d730c1c"
RUN = "795d27deaff4"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LEFT / "results", tmp_path / "results"))


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    """The package's detector, on the processor and the library that the census ran with.

    Cached detections are of one platform and one version of Transect; what is asked here is whether they are read.
    """
    manifest = json.loads((LEFT / "results" / RUN / "manifest.json").read_text(encoding="utf-8"))
    options = manifest["options"]
    for name in ("instructions", "library"):
        monkeypatch.setattr(Detector, name, options[name])
    monkeypatch.setattr("transect.census.sightings.detect.__version__", manifest["transect_version"])
    return Detector.open(LEFT / "package", backend=options["backend"], precision=options["precision"])


def test_its_package_is_verified() -> None:
    manifest = verify_package(LEFT / "package")
    assert (manifest.schema_version, manifest.names) == (3, ("sheep", "goat", "cow"))


@pytest.mark.parametrize("review_conf", [None, 0.05])
def test_its_census_resumes_from_what_was_found_and_counts_the_same(
    results: Path, detector: Detector, review_conf: float | None
) -> None:
    before = json.loads((results / RUN / "estimate.json").read_text(encoding="utf-8"))
    (parts,) = (results / "work").iterdir()
    kept = {part: part.stat().st_mtime_ns for part in parts.rglob("*.json")}
    assert len(kept) == 4
    with detector:
        result = count(LEFT / "survey", results, detector, CONFIG.model_copy(update={"review_conf": review_conf}))
    # With candidates, which that version did not know, it is another run beside that one.
    assert (result.folder == results / RUN) == (review_conf is None)
    # What counts in four photos was kept in files that stay as they are; with candidates all photos are searched.
    assert sorted(folder.name for folder in (results / "work").iterdir()) == [parts.name, "readings"]
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    searched = kept_photos(results / "work")
    assert len(searched) == (4 if review_conf is None else 8)
    assert len({part.stem for part in kept} | {sha256 for sha256, _ in searched}) == 8
    after = json.loads((result.folder / "estimate.json").read_text(encoding="utf-8"))
    assert after["estimates"] == before["estimates"]
    assert rows_of(result.folder / "transects.csv") == rows_of(LEFT / "results" / RUN / "transects.csv")


def test_its_result_is_compared_with_one_of_today(results: Path, detector: Detector, tmp_path: Path) -> None:
    with detector:
        today = count(LEFT / "survey", tmp_path / "today", detector)
    done = CliRunner().invoke(app, ["census", "compare", str(results / RUN), str(today.folder), "--json"])
    assert done.exit_code == 0, done.output
    compared = json.loads(done.stdout)
    assert compared["differences"]
    assert all(row["difference"] == 0 for row in compared["differences"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a copy of its store."""
    home = Path(shutil.copytree(LEFT / "home", tmp_path / "home"))
    for name in ("mlflow.sql", "train/second/spool/journal.jsonl"):
        path = home / name
        path.write_text(path.read_text(encoding="utf-8").replace("@HOME@", str(home)), encoding="utf-8")
    database = sqlite3.connect(home / "mlflow.db")
    try:
        database.executescript((home / "mlflow.sql").read_text(encoding="utf-8"))
    finally:
        database.close()
    return load_settings({"TRANSECT_HOME": str(home)}, env_file=None)


def test_its_store_serves_its_production_version(settings: Settings) -> None:
    registry = connect(settings)
    resolved = registry.resolve("models:/detector@production")
    assert resolved.version == "1"
    with registry.open(resolved) as opened:
        assert opened.manifest.architecture == "toy"


def test_its_spool_is_delivered_and_its_model_registered(settings: Settings) -> None:
    folder = settings.home / "train" / "second"
    history = RunHistory.read(Spool(folder))
    assert (history.status, history.registering, history.params["lr0"]) == ("FINISHED", True, "0.01")
    report = sync_spools(settings)
    assert report.complete
    (second,) = report.runs
    assert second.delivered == 8
    registry = connect(settings)
    run = registry.client.get_run(second.run_id)
    assert (run.info.run_name, run.info.status) == ("second", "FINISHED")
    assert [metric.value for metric in registry.client.get_metric_history(second.run_id, "val/mAP50")] == [0.25, 0.5]
    assert [file.path for file in registry.client.list_artifacts(second.run_id, "notes")] == ["notes/notes.txt"]
    assert (registry.resolve("candidate").version, registry.resolve("production").version) == ("2", "1")
    assert Spool(folder).state.rejected == ()
