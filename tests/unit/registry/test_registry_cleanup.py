from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from toy_model import build_toy_package
from transect.errors import InputError, NotRegisteredError
from transect.registry import Cleaning, CleanRule, Registry, clean_runs, plan_cleaning
from transect.registry.runs import cleanup

_NOW = datetime(2026, 6, 1, tzinfo=UTC)
_ALL = CleanRule.parse("finished,failed,killed", "0d")


def _log(
    registry: Registry,
    name: str,
    status: str = "FAILED",
    *,
    days: int = 100,
    experiment: str = "configs_a",
    **tags: str,
) -> str:
    ended = int((_NOW - timedelta(days=days)).timestamp() * 1000)
    named = {key.replace("__", "."): value for key, value in tags.items()}
    run = registry.client.create_run(registry.experiment(experiment), ended - 60_000, named, name)
    if status != "RUNNING":
        registry.client.set_terminated(run.info.run_id, status, ended)
    return str(run.info.run_id)


def _going(cleaning: Cleaning) -> list[str]:
    return [one.run.name for one in cleaning.removable]


def _reasons(cleaning: Cleaning) -> dict[str, str]:
    return {run.name: why for run, why in cleaning.kept}


def _names(registry: Registry) -> set[str]:
    experiments = [one.experiment_id for one in registry.client.search_experiments()]
    return {run.info.run_name for run in registry.client.search_runs(experiments)}


def _plan(registry: Registry, rule: CleanRule, protected: dict[str, str] | None = None) -> Cleaning:
    return plan_cleaning(registry, rule, protected, now=_NOW)


def test_the_rule_selects_runs(registry: Registry) -> None:
    for name, status, days in (
        ("old", "FAILED", 90),
        ("older", "KILLED", 91),
        ("fine", "FINISHED", 92),
        ("young", "FAILED", 3),
        ("alive", "RUNNING", 95),
    ):
        _log(registry, name, status, days=days)
    _log(registry, "elsewhere", days=80, experiment="configs_b")
    by_default = CleanRule.parse("failed,killed", "30d")
    assert sorted(_going(_plan(registry, by_default))) == ["elsewhere", "old", "older"]
    assert _going(_plan(registry, CleanRule.parse("killed", "4w"))) == ["older"]
    assert _going(_plan(registry, CleanRule.parse("failed,killed", "48h", experiment="configs_a"))) == [
        "young",
        "old",
        "older",
    ]
    # The newest ones of each experiment: the young one and the only one elsewhere.
    assert _going(_plan(registry, CleanRule.parse("failed,killed", "30d", keep=2))) == ["older"]
    with pytest.raises(NotRegisteredError, match="no experiment 'gone'"):
        _plan(registry, CleanRule.parse("failed", "1d", experiment="gone"))
    assert len(_names(registry)) == 6


@pytest.mark.parametrize(
    ("status", "age", "said"),
    [
        ("running", "1d", "--status running is not usable: give some of finished, failed, killed"),
        (",", "1d", "--status names nothing"),
        ("failed", "30", "--older-than '30' is not usable"),
        ("failed", "99999999999w", "longer than any run is old"),
    ],
)
def test_a_bad_rule_is_one_sentence(status: str, age: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        CleanRule.parse(status, age)


def _register(registry: Registry, run_id: str, folder: Path) -> None:
    registry.register(build_toy_package(folder), run_id, tags={})


def test_dependencies_stay_with_a_reason(registry: Registry, tmp_path: Path) -> None:
    client = registry.client
    grandparent = _log(registry, "grandparent", "KILLED")
    parent = _log(registry, "parent", "KILLED", transect__parent_run=grandparent)
    trained = _log(registry, "trained", "FINISHED", transect__parent_run=parent)
    _register(registry, trained, tmp_path / "one")
    unused = _log(registry, "unused", "FINISHED")
    verdict = _log(registry, "verdict", "FINISHED", experiment="promotion", transect__candidate_run=trained)
    client.set_model_version_tag("detector", "1", "transect.verdict_run", verdict)
    _log(registry, "earlier verdict", "FINISHED", experiment="promotion", transect__candidate_run=trained)
    _log(registry, "old verdict", "FINISHED", experiment="promotion", transect__candidate_run=unused)
    counted = _log(registry, "counted with", "FINISHED")
    _log(registry, "census", "FINISHED", experiment="census", transect__model_run_id=counted)
    _log(registry, "broken census", "FAILED", experiment="census", transect__model_run_id=unused)
    sweep = _log(registry, "sweep", "KILLED")
    _log(registry, "trial", "KILLED", mlflow__parentRunId=sweep)
    _log(registry, "alive", "RUNNING", mlflow__parentRunId=sweep)
    waiting = _log(registry, "waiting")
    # Of another model than the one in the settings.
    other = _log(registry, "other", "FAILED")
    client.create_registered_model("weeds")
    client.create_model_version("weeds", "file:///nowhere", other)

    cleaning = _plan(registry, _ALL, {waiting: "it has more to tell"})
    assert set(_going(cleaning)) == {"unused", "old verdict", "broken census"}
    reasons = _reasons(cleaning)
    assert reasons == {
        "grandparent": "parent, which stays, names it as its parent",
        "parent": "trained, which stays, names it as its parent",
        "trained": "it made detector version 1",
        "verdict": "it is the verdict on detector version 1",
        "earlier verdict": "it is a decision about detector version 1",
        "counted with": "the census census counted with its model",
        "census": "it is a census, whose results may be in use",
        "sweep": "alive, which stays, names it as its parent",
        "trial": "it is a trial of sweep, which is not finished",
        "waiting": "it has more to tell",
        "other": "it made weeds version 1",
    }


def test_what_goes_can_be_restored_and_what_is_logged_is_measured(registry: Registry, tmp_path: Path) -> None:
    run_id = _log(registry, "old")
    _log(registry, "kept", "FINISHED")
    note = tmp_path / "note.txt"
    note.write_text("twelve bytes")
    registry.client.log_artifact(run_id, str(note), "a/b")
    rule = CleanRule.parse("failed", "30d")
    cleaning = _plan(registry, rule)
    assert (_going(cleaning), cleaning.size) == (["old"], 12)
    gone, stayed = clean_runs(registry, cleaning, rule)
    assert ([run.name for run in gone], stayed) == (["old"], [])
    assert _names(registry) == {"kept"}
    registry.client.restore_run(run_id)
    assert _names(registry) == {"kept", "old"}
    assert [info.path for info in registry.client.list_artifacts(run_id, "a/b")] == ["a/b/note.txt"]


def test_a_run_that_changed_meanwhile_stays(registry: Registry, tmp_path: Path) -> None:
    for name in ("resumed", "registered", "deleted", "old"):
        _log(registry, name)
    cleaning = _plan(registry, CleanRule.parse("failed", "30d"))
    ids = {one.run.name: one.run.run_id for one in cleaning.removable}
    registry.client.update_run(ids["resumed"], status="RUNNING")
    _register(registry, ids["registered"], tmp_path / "package")
    registry.client.delete_run(ids["deleted"])
    gone, stayed = clean_runs(registry, cleaning, CleanRule.parse("failed", "30d"))
    assert [run.name for run in gone] == ["old"]
    assert {run.name: why for run, why in stayed} == {
        "resumed": "it is RUNNING now",
        "registered": "it made detector version 1 meanwhile",
        "deleted": "it was deleted meanwhile",
    }
    assert _names(registry) == {"resumed", "registered"}


def test_a_version_made_between_the_last_look_and_the_deletion_brings_its_run_back(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = _log(registry, "old")
    cleaning = _plan(registry, CleanRule.parse("failed", "30d"))
    real = cleanup._version_made_by

    def register_after_the_first_look(client: object, asked: str) -> str:
        found = real(registry.client, asked)
        if not found:
            _register(registry, run_id, tmp_path / "package")
        return found

    monkeypatch.setattr(cleanup, "_version_made_by", register_after_the_first_look)
    gone, stayed = clean_runs(registry, cleaning, CleanRule.parse("failed", "30d"))
    assert (gone, [why for _, why in stayed]) == ([], ["it made detector version 1 meanwhile"])
    assert _names(registry) == {"old"}
