"""A review from the census to the next training set, by the commands that people type."""

import csv
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reviewed_surveys import animals_in, count_for_review, fill_in, paint_half_seen_survey
from transect.cli import app
from transect.datasets import load_dataset
from transect.errors import InputError
from transect.review.folder.items import read_items
from transect.review.folder.start import find_result, start_review
from transect.review.session import open_review
from transect.review.simulated import SimulatedPerson
from transect.settings import load_settings

OUTPUTS = ("estimate.json", "counts.csv", "decisions.csv", "coco.json", "report.html")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_half_seen_survey(tmp_path_factory.mktemp("Süd west") / "survey ü")


@pytest.fixture(scope="module")
def counted(survey: Path, dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return count_for_review(survey, tmp_path_factory.mktemp("out"), dot_package).folder


@pytest.fixture
def result(counted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(counted, tmp_path / "result"))


@pytest.fixture
def review(result: Path, survey: Path) -> Path:
    return start_review(result, name="Größe 1", survey=survey, others=["warthog"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("TRANSECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRANSECT_CENSUS_LOG", "none")
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> str:
        done = CliRunner().invoke(app, ["review", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


@pytest.fixture(scope="module")
def person(survey: Path) -> SimulatedPerson:
    return SimulatedPerson(animals_in(survey), name="Änne", rejects=0, keeps=0, overlooks=0)


def exported(run: Run, review: Path, to: Path, *words: str) -> Path:
    run("export", str(review), "--to", str(to), *words)
    return to / "decisions.csv"


def record_of(review: Path) -> dict[str, Any]:
    return dict(json.loads((review / "estimate.json").read_text(encoding="utf-8")))


def test_a_review_ends_with_the_number_of_animals(
    run: Run, review: Path, survey: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    truth = sum(len(one.species) for one in animals_in(survey).values())
    items = read_items(review)
    for number in range(3):
        said = run("plan", str(review), "--cv", "0.03")
        if "The aim is reached" in said:
            break
        table = exported(run, review, tmp_path / f"Stück {number}", "--cv", "0.03")
        run("import", str(review), str(fill_in(table, items, person)))
    said = run("estimate", str(review))
    assert "checked" in said
    record = record_of(review)
    every = record["species"][-1]
    # Boxes weigh 1 / looks, so that the animals in all photos together are more than those on the ground.
    low, high = every["flown_ci95"]
    assert low <= every["flown"] <= high < truth
    assert every["machine"]["single_look"] < every["flown"]
    assert every["precision"] == pytest.approx(1)
    assert 0.5 < every["recall"] < 1
    names = {one["species"]: one for one in record["species"]}
    assert names["warthog"]["flown"] == 0
    assert sum(names[name]["flown"] for name in ("sheep", "goat", "cow")) == pytest.approx(every["flown"])
    assert {path.name for path in review.iterdir()} >= set(OUTPUTS)
    assert not (review / "estimate.json").stat().st_mode & 0o077


def test_the_census_stays_as_it_was(
    run: Run, result: Path, review: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in result.iterdir() if path.is_file()}
    table = exported(run, review, tmp_path / "batch")
    run("import", str(review), str(fill_in(table, read_items(review), person)))
    run("estimate", str(review))
    assert {path: path.read_bytes() for path in result.iterdir() if path.is_file()} == before


def test_any_order_of_decisions_gives_the_same_bytes(
    run: Run, result: Path, survey: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    written = []
    for number in range(3):
        review = start_review(result, name="one", survey=survey)
        items = read_items(review)
        table = exported(run, review, tmp_path / f"batch {number}")
        filled = fill_in(table, items, person)
        header, *rows = filled.read_text(encoding="utf-8").splitlines(keepends=True)
        # An added animal stands with its photo.
        parts = [[row for row in rows if row.startswith("box")], [row for row in rows if not row.startswith("box")]]
        random.Random(number).shuffle(parts[0])
        random.Random(number).shuffle(parts)
        for at, part in enumerate(parts):
            (tmp_path / f"{number} {at}.csv").write_text(header + "".join(part), encoding="utf-8")
            run("import", str(review), str(tmp_path / f"{number} {at}.csv"))
        run("estimate", str(review))
        written.append({name: (review / name).read_bytes() for name in OUTPUTS})
        shutil.rmtree(review)
    assert written[0] == written[1] == written[2]


def test_a_repeat_changes_nothing_and_a_change_replaces(
    run: Run, review: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    table = fill_in(exported(run, review, tmp_path / "batch"), read_items(review), person)
    assert "0 known already" in run("import", str(review), str(table))
    assert " 0 new" in run("import", str(review), str(table))
    with open_review(review, load_settings({}, None)) as session:
        before = session.truth()
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace(",keep,", ",reject,", 1), encoding="utf-8")
    assert "1 new" in run("import", str(review), str(table))
    with open_review(review, load_settings({}, None)) as session:
        after = session.truth()
        assert len(session.answers().decisions) == sum(map(len, before.decided.values())) + 1
    changed = [row for row in before.finding if before.finding[row] != after.finding[row]]
    assert len(changed) == 1
    # The first file again is an old delivery: what replaced it stays.
    table.write_text(text, encoding="utf-8")
    assert "replaced since" in run("import", str(review), str(table))
    with open_review(review, load_settings({}, None)) as session:
        assert session.truth().finding == after.finding


def test_two_people_disagree_until_a_lead_settles(
    run: Run, review: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    items = read_items(review)
    table = fill_in(exported(run, review, tmp_path / "batch"), items, person)
    run("import", str(review), str(table))
    text = table.read_text(encoding="utf-8").replace("Änne", "Ben")
    table.write_text(text.replace(",keep,", ",reject,", 2), encoding="utf-8")
    run("import", str(review), str(table))
    run("estimate", str(review))
    record = record_of(review)
    reviewed = record["reviewed"]
    assert (reviewed["boxes_disputed"], reviewed["boxes_unsure"]) == (2, 2)
    assert reviewed["agreement"]["items"] - reviewed["agreement"]["agreed"] == 2
    assert 0 < reviewed["agreement"]["kappa"] < 1
    assert [one["reviewer"] for one in reviewed["reviewers"]] == ["Ben", "Änne"]
    every = record["species"][-1]
    assert every["if_unsure_are_animals"]["flown"] > every["flown"]
    lead = text.replace("Ben", "Clea")
    table.write_text(lead, encoding="utf-8")
    run("import", str(review), str(table), "--settle")
    run("estimate", str(review))
    assert record_of(review)["reviewed"]["boxes_disputed"] == 0


def test_too_few_decisions_say_unknown_and_never_zero(run: Run, review: Path) -> None:
    said = run("estimate", str(review))
    assert "unknown" in said
    record = record_of(review)
    every = record["species"][-1]
    assert (every["state"], every["flown"], every["flown_ci95"]) == ("unknown", None, None)
    assert len(every["unknown"]) == len(record["bins"]) + len(record["groups"])
    assert all(one["animals"] is None for one in (*record["bins"], *record["groups"]))


def test_least_certain_boxes_are_a_cell_of_their_own(
    run: Run, review: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    items = read_items(review)
    table = exported(run, review, tmp_path / "chosen", "--least-certain", "12")
    run("import", str(review), str(fill_in(table, items, person)))
    table = exported(run, review, tmp_path / "drawn")
    run("import", str(review), str(fill_in(table, items, person)))
    run("estimate", str(review))
    record = record_of(review)
    assert record["reviewed"]["boxes_by_choice"] == 12
    assert sum(one["by_choice"] for one in record["bins"]) == 12


def test_an_export_that_was_cut_off_is_the_same_batch_again(run: Run, review: Path, tmp_path: Path) -> None:
    first = run("export", str(review), "--to", str(tmp_path / "one"))
    folder = tmp_path / "one"
    (folder / "README.txt").unlink()
    (folder / "batch.json").rename(folder / "unfinished.json")
    again = run("export", str(review), "--to", str(folder))
    batch = [line for line in first.splitlines() if line.startswith("Batch 1:")]
    assert batch == [line for line in again.splitlines() if line.startswith("Batch")]
    assert (folder / "README.txt").is_file()
    assert len(list((review / "batches").iterdir())) == 1


def test_a_training_set_divides_ground_and_has_no_test(
    run: Run, review: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    table = fill_in(exported(run, review, tmp_path / "batch"), read_items(review), person)
    run("import", str(review), str(table))
    said = run("dataset", str(review), "--out", str(tmp_path / "data ü"), "--tile", "64")
    assert "train: " in said
    found = load_dataset(tmp_path / "data ü" / "data.yaml")
    assert found.names == ("sheep", "goat", "cow", "warthog")
    assert found.test_is_val
    assert found.review["id"] == read_items(review).manifest.id
    digests = {split: {path.name.split("_")[0] for path in found.splits[split].images} for split in ("train", "val")}
    assert not digests["train"] & digests["val"]
    assert any(len(rows) == 0 for rows in found.splits["train"].rows), "ground without an animal is kept"
    again = CliRunner().invoke(app, ["review", "dataset", str(review), "--out", str(tmp_path / "data ü")])
    assert isinstance(again.exception, InputError)


def test_starting_again_is_the_same_review(result: Path, survey: Path) -> None:
    first = start_review(result, survey=survey)
    before = (first / "review.json").read_bytes()
    assert start_review(result, survey=survey) == first
    assert (first / "review.json").read_bytes() == before
    with pytest.raises(InputError, match=r"is a review with the seed .* another --name"):
        start_review(result, survey=survey, seed=1)
    with pytest.raises(InputError, match="is no name for a review"):
        start_review(result, name="a/b")


def test_a_result_is_found_by_its_survey_or_its_folder(counted: Path, survey: Path, tmp_path: Path) -> None:
    assert find_result(counted) == (counted, None)
    assert find_result(counted.parent) == (counted, None)
    with pytest.raises(InputError, match="does not exist; name the result folder"):
        find_result(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no result in .*run `transect census run` first"):
        find_result(survey)


@pytest.mark.parametrize("name", ["detections.parquet", "photos.parquet", "units.parquet"])
def test_a_result_that_changed_is_refused(result: Path, name: str) -> None:
    (result / name).write_bytes((result / name).read_bytes() + b" ")
    with pytest.raises(InputError, match=f"{name} was changed after the census"):
        start_review(result)
    assert not (result / "reviews" / "review" / "review.json").exists()


def test_a_photo_that_changed_is_not_handed_out(
    run: Run, result: Path, survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(survey, tmp_path / "survey"))
    review = start_review(result, survey=copy)
    for path in (copy / "images").rglob("*.png"):
        path.write_bytes(path.read_bytes() + b" ")
    done = CliRunner().invoke(app, ["review", "export", str(review), "--to", str(tmp_path / "batch")])
    assert "has changed since the census" in str(done.exception)


def test_killed_at_twenty_moments_nothing_is_lost_or_doubled(
    run: Run, review: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    table = fill_in(exported(run, review, tmp_path / "batch"), read_items(review), person)
    whole = len(table.read_text(encoding="utf-8").splitlines())
    assert whole > 20
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "transect", "review", "plan", str(review)], check=True, capture_output=True)
    usual = time.monotonic() - start
    commands = [["import", str(review), str(table)], ["estimate", str(review)]]
    counts = set()
    for moment in range(20):
        command = [sys.executable, "-m", "transect", "review", *commands[moment % 2]]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(usual * (0.3 + 0.05 * moment))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with open_review(review, load_settings({}, None)) as session:
            answers = session.answers()
        counts.add(len(answers.decisions) + len(answers.searches))
    run("import", str(review), str(table))
    with open_review(review, load_settings({}, None)) as session:
        answers = session.answers()
        every = len(answers.decisions) + len(answers.searches)
        assert len({one.uuid for one in answers.decisions} | {one.uuid for one in answers.searches}) == every
    assert counts <= {0, every}
    run("estimate", str(review))
    record = record_of(review)
    assert record["reviewed"]["boxes"] + record["reviewed"]["photos"] == every
    assert not list(review.glob(".*.part*"))


def test_another_review_suggests_and_counts_nowhere(
    run: Run, result: Path, review: Path, survey: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    table = fill_in(exported(run, review, tmp_path / "batch"), read_items(review), person)
    run("import", str(review), str(table))
    other = start_review(result, name="two", survey=survey, seed=5)
    with exported(run, other, tmp_path / "two", "--suggest-from", str(review)).open(encoding="utf-8-sig") as stream:
        rows = [row for row in csv.DictReader(stream) if row["item"] == "box"]
    with open_review(review, load_settings({}, None)) as session:
        known = session.truth()
    keys = {known.items.boxes.key[row].as_py(): one for row, one in known.finding.items()}
    assert sum(bool(row["suggestion"]) for row in rows) == sum(row["key"] in keys for row in rows) > 0
    for row in rows:
        if row["suggestion"]:
            one = keys[row["key"]]
            assert row["suggestion"] == (one.species if one.finding == "animal" else one.finding)
    run("import", str(other), str(tmp_path / "two" / "decisions.csv"))
    with open_review(other, load_settings({}, None)) as session:
        assert not session.answers().decisions


def test_a_survey_without_strata_has_flown_ground_alone(
    run: Run, survey: Path, dot_package: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(survey, tmp_path / "survey"))
    spec = copy / "survey.yaml"
    spec.write_text(re.sub(r"strata: .*\n", "", spec.read_text(encoding="utf-8")), encoding="utf-8")
    review = start_review(count_for_review(copy, tmp_path / "out", dot_package).folder, survey=copy)
    table = fill_in(exported(run, review, tmp_path / "batch"), read_items(review), person)
    run("import", str(review), str(table))
    run("estimate", str(review))
    every = record_of(review)["species"][-1]
    assert every["flown"] > 0
    assert every["strata"] == []


def test_a_plan_says_what_people_found_and_not_what_it_fears(
    run: Run, review: Path, person: SimulatedPerson, tmp_path: Path
) -> None:
    """A species of which nobody found one is at 0 in the plan too, and the limits shrink with more work."""
    table = fill_in(exported(run, review, tmp_path / "batch"), read_items(review), person)
    run("import", str(review), str(table))
    plan = json.loads(run("plan", str(review), "--cv", "0.01", "--json"))
    run("estimate", str(review))
    checked = {one["species"]: one["flown"] for one in record_of(review)["species"]}
    assert {one["species"]: one["flown"] for one in plan["expected"]} == pytest.approx(checked)
    assert checked["warthog"] == 0
    for one in plan["expected"]:
        (low, high), (later_low, later_high) = one["ci95_now"], one["ci95_after"]
        assert low <= later_low <= one["flown"] <= later_high <= high
        assert later_high - later_low < high - low
