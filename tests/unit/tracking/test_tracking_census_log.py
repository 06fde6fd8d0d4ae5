"""Censuses that are logged while MLflow is away or refuses, delivered into a real store."""

import shutil
from pathlib import Path

import pytest
from mlflow.entities import Run

from transect.errors import InputError, RegistryError, UnreachableError
from transect.files import locked
from transect.registry import CensusRun, CleanRule, Registry, clean_runs, connect, plan_cleaning
from transect.settings import Settings, load_settings
from transect.tracking.census_log import log_census, waiting_censuses
from transect.tracking.cleanup import find_removable_folders
from transect.tracking.sync import sync_spools

_SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def home(empty_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty_store.parent, tmp_path / "home"))


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings({"TRANSECT_HOME": str(home)}, env_file=None)


@pytest.fixture
def away(home: Path) -> Settings:
    """The same folder while MLflow is away."""
    environment = {"TRANSECT_HOME": str(home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    return load_settings(environment, env_file=None)


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return connect(settings)


@pytest.fixture
def census(tmp_path: Path) -> CensusRun:
    results = tmp_path / "results"
    results.mkdir()
    (results / "counts.csv").write_text("species,seen\nrhino,3\n")
    (results / "animals.gpkg").write_bytes(bytes(range(256)))
    return CensusRun(
        name="my flight/2026",
        params={"seed": 1, "sampling": "strip", "note": f"token {_SECRET}"},
        metrics={"rhino.unique": 3.0, "rhino.se": 0.1},
        tags={"transect.census_run": "abc", "transect.census_results": "1", "transect.kind": "census"},
        artifacts=(results / "animals.gpkg", results / "counts.csv"),
    )


def _runs(registry: Registry) -> list[Run]:
    return list(registry.client.search_runs([registry.experiment("census")]))


def _content(registry: Registry, run: Run, folder: Path) -> dict[str, object]:
    """What MLflow has of a run, without its id and times."""
    folder.mkdir()
    registry.client.download_artifacts(run.info.run_id, "", str(folder))
    tags = {name: text for name, text in run.data.tags.items() if not name.startswith("mlflow.log")}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {"status": run.info.status, "params": run.data.params, "metrics": run.data.metrics} | {
        "tags": tags,
        "files": files,
    }


def test_a_census_is_logged_once_and_leaves_nothing_behind(
    settings: Settings, registry: Registry, census: CensusRun
) -> None:
    run_id = log_census(census, settings)
    assert log_census(census, settings) == run_id
    assert [(run.info.run_id, run.info.status) for run in _runs(registry)] == [(run_id, "FINISHED")]
    assert waiting_censuses(settings) == []
    assert [path.name for path in (settings.home / "census").iterdir()] == ["lock"]


def test_what_was_logged_while_mlflow_was_away_is_delivered_as_it_was(
    settings: Settings, away: Settings, registry: Registry, census: CensusRun, tmp_path: Path
) -> None:
    with pytest.raises(
        UnreachableError, match=r"127\.0\.0\.1:9 .*kept in .*my_flight_2026-.*transect runs sync"
    ) as said:
        log_census(census, away)
    (folder,) = waiting_censuses(settings)
    assert str(folder) in str(said.value)
    assert (folder / "spool").stat().st_mode & 0o077 == 0
    assert _SECRET not in (folder / "spool" / "journal.jsonl").read_text()
    # What becomes of the results does not matter.
    before = {path.name: path.read_bytes() for path in census.artifacts}
    (tmp_path / "results" / "counts.csv").write_text("edited since\n")
    (tmp_path / "results" / "animals.gpkg").unlink()

    (report,) = sync_spools(settings).runs
    assert (report.delivered, report.left) == (1, 0)
    (run,) = _runs(registry)
    assert report.sentence == f"{folder.name}: delivered the census to run {run.info.run_id}."
    delivered = _content(registry, run, tmp_path / "delivered")
    assert delivered["files"] == before
    assert sync_spools(settings).runs == ()

    for name, content in before.items():
        (tmp_path / "results" / name).write_bytes(content)
    registry.client.delete_run(run.info.run_id)
    log_census(census, settings)
    (direct,) = _runs(registry)
    assert _content(registry, direct, tmp_path / "direct") == delivered


def test_the_same_census_again_delivers_what_waits(
    settings: Settings, away: Settings, registry: Registry, census: CensusRun
) -> None:
    for _ in range(2):
        with pytest.raises(UnreachableError):
            log_census(census, away)
    assert len(waiting_censuses(settings)) == 1
    run_id = log_census(census, settings)
    assert [run.info.run_id for run in _runs(registry)] == [run_id]
    assert sync_spools(settings).runs == ()


def test_a_census_that_mlflow_refuses_waits_and_says_why(
    settings: Settings, registry: Registry, census: CensusRun
) -> None:
    registry.client.delete_experiment(registry.experiment("census"))
    with pytest.raises(RegistryError, match=r"The experiment 'census' was deleted .*kept in .*transect runs sync"):
        log_census(census, settings)
    report = sync_spools(settings)
    assert not report.complete
    assert "the census is not delivered and stays in " in report.runs[0].sentence
    assert "restore it" in report.runs[0].sentence
    (experiment,) = registry.client.search_experiments(view_type=2, filter_string="name = 'census'")
    registry.client.restore_experiment(experiment.experiment_id)
    assert sync_spools(settings).complete
    assert len(_runs(registry)) == 1


def _cut_off(registry: Registry, away: Settings, census: CensusRun) -> str:
    """Leave a census as a process leaves it that was killed when it had sent one file; the run's id."""
    with pytest.raises(UnreachableError):
        log_census(census, away)
    run = registry.client.create_run(registry.experiment("census"), tags=dict(census.tags))
    registry.client.log_artifact(run.info.run_id, str(census.artifacts[0]))
    return str(run.info.run_id)


def test_a_census_that_was_killed_while_it_was_delivered_becomes_one_run(
    settings: Settings, away: Settings, registry: Registry, census: CensusRun, tmp_path: Path
) -> None:
    run_id = _cut_off(registry, away, census)
    assert sync_spools(settings).complete
    (run,) = _runs(registry)
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    content = _content(registry, run, tmp_path / "delivered")
    assert content["files"] == {path.name: path.read_bytes() for path in census.artifacts}


def test_what_a_killed_process_stored_in_part_is_stored_again_or_removed(
    settings: Settings, away: Settings, registry: Registry, census: CensusRun
) -> None:
    with pytest.raises(UnreachableError):
        log_census(census, away)
    (folder,) = waiting_censuses(settings)
    journal = folder / "spool" / "journal.jsonl"
    journal.write_text("")
    assert sync_spools(settings).runs == ()
    assert not folder.exists()

    (folder / "spool" / "files" / "x").mkdir(parents=True)
    log_census(census, settings)
    assert not folder.exists()
    assert len(_runs(registry)) == 1


def test_one_process_delivers_at_a_time(settings: Settings, away: Settings, census: CensusRun) -> None:
    with pytest.raises(UnreachableError):
        log_census(census, away)
    with locked(settings.home / "census" / "lock"):
        report = sync_spools(settings)
    assert report.complete
    assert "being logged just now" in report.runs[0].sentence
    assert len(waiting_censuses(settings)) == 1


def test_a_journal_that_cannot_be_read_is_one_sentence(settings: Settings, away: Settings, census: CensusRun) -> None:
    with pytest.raises(UnreachableError):
        log_census(census, away)
    (folder,) = waiting_censuses(settings)
    (folder / "spool" / "journal.jsonl").write_text("damaged\n")
    (report,) = sync_spools(settings).runs
    assert report.left == 1
    assert f"remove {folder}, and run the census again" in report.sentence


def test_a_folder_that_cannot_be_written_is_one_sentence(settings: Settings, census: CensusRun) -> None:
    (settings.home / "census").write_text("a file")
    with pytest.raises(InputError, match=r"census cannot be made: .* set TRANSECT_HOME"):
        log_census(census, settings)


def test_clearing_up_costs_no_census_that_waits(
    settings: Settings, away: Settings, registry: Registry, census: CensusRun
) -> None:
    run_id = _cut_off(registry, away, census)
    registry.client.set_terminated(run_id, "FAILED")
    rule = CleanRule.parse("failed,killed,finished", "0h")
    assert find_removable_folders(settings, registry, rule).removable == ()
    clean_runs(registry, plan_cleaning(registry, rule, {}), rule)
    assert _runs(registry) == []
    assert sync_spools(settings).complete
    (run,) = _runs(registry)
    assert run.info.status == "FINISHED"
