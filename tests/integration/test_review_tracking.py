"""A review in MLflow: a run of its own, linked with its census and the model both ways, and once."""

from pathlib import Path

import pytest

from reviewed_surveys import animals_in, count_for_review, paint_half_seen_survey
from transect.registry import Registry, connect, find_run, run_lineage
from transect.review.folder.start import start_review
from transect.review.outcome.estimate import ReviewResult, estimate_review
from transect.review.session import open_review
from transect.review.simulated import SimulatedPerson, simulate_review
from transect.settings import Settings, load_settings
from transect.tracking.census_log import log_census


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"TRANSECT_HOME": str(tmp_path / "home")}, None)


def reviewed(review: Path, survey: Path, settings: Settings, minutes: float = 20) -> ReviewResult:
    person = SimulatedPerson(animals_in(survey), rejects=0, keeps=0)
    with open_review(review, settings) as session:
        simulate_review(session, person, minutes)
        return estimate_review(session, survey=survey, max_pixels=None)


def lineage(registry: Registry, run_id: str) -> dict[str, str]:
    return run_lineage(registry, find_run(registry, run_id))


def test_a_review_and_its_census_name_each_other(tmp_path: Path, dot_package: Path, settings: Settings) -> None:
    survey = paint_half_seen_survey(tmp_path / "survey")
    counted = count_for_review(survey, tmp_path / "out", dot_package)
    census_id = log_census(counted.as_run(), settings)
    review = start_review(counted.folder, survey=survey)
    result = reviewed(review, survey, settings)
    review_id = log_census(result.as_run(), settings)
    assert log_census(result.as_run(), settings) == review_id != census_id
    registry = connect(settings)
    run = registry.client.get_run(review_id)
    assert run.data.tags["transect.kind"] == "review"
    assert run.data.tags["transect.reviewed_census"] == counted.manifest["run"]
    assert run.data.tags["transect.detector_state"] == run.data.tags["transect.detector_state.sheep"] == "reviewed"
    every = result.record["species"][-1]
    assert run.data.metrics["all.checked"] == pytest.approx(every["flown"])
    assert run.data.metrics["reviewed.minutes"] > 0
    names = {one.path for one in registry.client.list_artifacts(review_id)}
    assert names >= {"estimate.json", "counts.csv", "decisions.csv", "coco.json", "report.html"}
    assert registry.client.get_run(census_id).data.tags["transect.review_run_id"] == review_id
    assert any(review_id in one for one in lineage(registry, census_id))
    assert any(census_id in one for one in lineage(registry, review_id).values())


def test_a_summary_has_no_position(tmp_path: Path, dot_package: Path, settings: Settings) -> None:
    survey = paint_half_seen_survey(tmp_path / "survey")
    counted = count_for_review(survey, tmp_path / "out", dot_package)
    result = reviewed(start_review(counted.folder, survey=survey), survey, settings)
    run_id = log_census(result.as_run("summary"), settings)
    assert {one.path for one in connect(settings).client.list_artifacts(run_id)} == {"estimate.json", "counts.csv"}
