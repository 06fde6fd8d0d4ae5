"""A census says whether the model's validation speaks for its ground, wherever it says a number."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kept_parts import kept_looks
from package_fixtures import with_profile
from painted_surveys import CONFIG, HEIGHT, NAMES, WIDTH, Painted, counted_boxes, paint_survey, rows_of
from transect.census import CensusConfig, CensusResult, load_survey, run_census
from transect.census.compare import compare
from transect.census.saved_result import read_census
from transect.cli.census.commands import _print_comparison, print_counts
from transect.engine import DetectOptions, Detector, ValidationCounts, ValidationProfile
from transect.errors import InputError, SurveyError
from transect.settings import load_settings

# Of ten boxes in each of forty validation images nine were right, and of twelve animals nine were found.
_ROWS = tuple((image, 9, 1, 3) for image in range(40))
_WARN, _REFUSE = CONFIG, CONFIG.model_copy(update={"trust": "refuse"})
# What the validation images were brighter than the survey by, of 255.
_DAYLIGHT = 90

Results = dict[str, CensusResult]


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    return paint_survey(tmp_path_factory.mktemp("painted"))


@contextmanager
def opened(package: Path) -> Iterator[Detector]:
    with Detector.open(package, threads=1) as detector:
        yield detector


def count(survey: Path, out: Path, package: Path, config: CensusConfig = _WARN) -> CensusResult:
    with opened(package) as detector:
        return run_census(
            load_survey(survey), out=out, detector=detector, config=config, settings=load_settings({}, None)
        )


def profile_of(survey: Path, plain: CensusResult, detector: Detector, brighter: int = 0) -> ValidationProfile:
    """Validation images that are the photos of `survey`, or the same in another light, with what was found in them."""
    names = sorted(str(path.relative_to(survey / "images")) for path in (survey / "images").rglob("*.png"))
    looks = []
    for number, name in enumerate(names):
        with Image.open(survey / "images" / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(np.int64) + brighter
        statistics, _ = detector.sample_appearance(np.clip(pixels, 0, 255).astype(np.uint8), DetectOptions(overlap=16))
        looks += [(number, *row) for row in statistics.tolist()]
    scale = detector.network_scale(WIDTH, HEIGHT)
    detections: dict[str, list[tuple[int, float, float, int]]] = {name: [] for name in NAMES}
    for row in counted_boxes(plain.folder).to_pylist():
        size = ((row["x2"] - row["x1"]) * (row["y2"] - row["y1"])) ** 0.5 * scale
        detections[row["species"]].append((names.index(row["image"]), row["score"], size, 1))
    return ValidationProfile(
        conf=detector.manifest.conf,
        iou=detector.manifest.iou,
        mpx=(WIDTH * HEIGHT * scale**2 / 1e6,) * len(names),
        looks=tuple(looks),
        space=None,
        detections={name: tuple(rows) for name, rows in detections.items()},
    )


@pytest.fixture(scope="module")
def packages(painted: Painted, dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages by the state that a census of the painted survey has with them."""
    folder = tmp_path_factory.mktemp("packages")
    plain = count(painted.folder, folder / "plain", dot_package)
    with opened(dot_package) as detector:
        counts = ValidationCounts(
            images=40, conf=detector.manifest.conf, iou=detector.manifest.iou, counts=dict.fromkeys(NAMES, _ROWS)
        )
        alike, other = (profile_of(painted.folder, plain, detector, brighter) for brighter in (0, _DAYLIGHT))
    return {
        "validated": with_profile(dot_package, folder / "alike", alike, validation_counts=counts),
        "not validated here": with_profile(dot_package, folder / "other", other, validation_counts=counts),
        "not known": dot_package,
    }


@pytest.fixture(scope="module")
def results(painted: Painted, packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("out")
    return {state: count(painted.folder, out / state, package) for state, package in packages.items()}


def estimate_of(result: CensusResult) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((result.folder / "estimate.json").read_text())
    return content


@pytest.mark.parametrize("state", ["validated", "not validated here", "not known"])
def test_every_output_says_the_state(results: Results, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = results[state]
    assert [row.detector for row in result.rows] == [state] * 3
    assert [row["detector"] for row in rows_of(result.folder / "counts.csv")] == [state] * 3
    assert result.manifest["detector"] == {"state": state, "species": dict.fromkeys(NAMES, state)}
    detector = estimate_of(result)["detector"]
    assert detector["state"] == state
    assert {name: one["detector"] for name, one in detector["species"].items()} == dict.fromkeys(NAMES, state)
    assert all(bool(one["reasons"]) == (state != "validated") for one in detector["species"].values())
    tags = result.as_run().tags
    assert tags["transect.detector_state"] == tags["transect.detector_state.goat"] == state
    print_counts(result)
    said = capsys.readouterr().out
    # A narrow table breaks the words over lines.
    assert all(word in said for word in state.split())
    assert ("Not validated here: sheep." in said) == (state == "not validated here")


def test_a_validated_count_is_corrected(results: Results) -> None:
    result = results["validated"]
    for row in result.rows:
        assert row.corrected == pytest.approx(row.single_look * 1.2)
        assert (row.doubtful, row.doubtful_estimate, row.doubtful_ci95) == (None, None, None)
    report = result.report.read_text(encoding="utf-8")
    assert "not validated here" not in report.lower()
    assert "No difference was found: sheep, goat, cow." in report
    assert all(one["doubtful_estimates"] == [] for one in estimate_of(result)["detector"]["species"].values())
    assert not any("doubtful" in name for name in result.as_run().metrics)


def test_a_count_on_other_ground_keeps_the_limits_of_sampling(results: Results) -> None:
    doubted, known, plain = (results[state] for state in ("not validated here", "validated", "not known"))
    for row, corrected, uncorrected in zip(doubted.rows, known.rows, plain.rows, strict=True):
        assert row.corrected is None
        assert (row.estimate, row.ci95) == (uncorrected.estimate, uncorrected.ci95)
        assert (row.doubtful, row.doubtful_estimate) == (corrected.corrected, corrected.estimate)
        assert row.doubtful_ci95 == corrected.ci95
    written = rows_of(doubted.folder / "counts.csv")[0]
    assert float(written["doubtful_estimate"]) == doubted.rows[0].doubtful_estimate
    assert (float(written["doubtful_ci95_low"]), float(written["doubtful_ci95_high"])) == doubted.rows[0].doubtful_ci95

    content = estimate_of(doubted)
    sheep = content["detector"]["species"]["sheep"]
    assert "brightness" in sheep["reasons"][0]
    assert [one["kind"] for one in sheep["checks"] if one["differs"]] == ["ground"]
    assert [one["estimate"] for one in sheep["doubtful_estimates"]] == [doubted.rows[0].doubtful_estimate]
    # No step pretends a correction.
    correction = content["corrections"][0]
    assert (correction["basis"], correction["precision"], correction["detector"]) == (
        "none",
        None,
        "not validated here",
    )
    assert [step["name"] for step in correction["steps"]] == ["seen", "unique", "estimate"]
    metrics = doubted.as_run().metrics
    assert metrics["sheep.doubtful_estimate"] == doubted.rows[0].doubtful_estimate
    assert metrics["sheep.estimate"] == doubted.rows[0].estimate


def test_the_report_says_it_before_the_number(results: Results) -> None:
    row = results["not validated here"].rows[0]
    report = results["not validated here"].report.read_text(encoding="utf-8")
    doubt = report.index("Sheep: The detector is not validated here, so the count is not corrected for its errors.")
    number = report.index(f"An estimated {row.estimate:.0f} sheep")
    below = report.index("The detector&#39;s errors on this ground are unknown")
    assert doubt < number < below
    assert "95% sampling limits, which leave out the detector" in report
    assert f"it would be {row.doubtful_estimate:.0f}, limits" in report
    # In the tables the figure that nobody may rely on is marked, in the summary and in its stratum.
    assert report.count('<tr class="doubtful">') == 2 * len(NAMES)
    assert "(of sampling alone for sheep, goat, cow, whose detector is not validated here)" in report
    assert "<h3>Correction</h3>" not in report
    assert "Hotelling" in report


def test_a_package_of_old_says_what_it_does_not_know(results: Results) -> None:
    report = results["not known"].report.read_text(encoding="utf-8")
    assert "Whether the detector&#39;s errors are the same here as in its validation is not known." in report
    assert "The model package has no appearance statistics of its validation images." in report
    assert "Hotelling" not in report


def test_a_comparison_does_not_test_what_is_not_validated(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    known, doubted = (read_census(results[state].folder) for state in ("validated", "not validated here"))
    found = compare(known, doubted)
    assert (found.detector_a, found.detector_b) == ("validated", "not validated here")
    for one in found.differences:
        assert (one.test, one.p, one.ci95) == (None, None, None)
        assert one.difference is not None
        assert "The detector is not validated in the second" in one.note
    record = found.to_json()
    assert (record["detector_b"], record["differences"][0]["detector_b"]) == ("not validated here",) * 2
    _print_comparison(found)
    said = capsys.readouterr().out
    assert said.index("The detector in B is not validated here: sheep, goat, cow.") < said.index("stratum")
    # Both are uncorrected, and still nobody knows what the detector did there.
    assert all("not validated in either" in one.note for one in compare(doubted, doubted).differences)
    assert all(one.note.startswith("Only the first is") for one in compare(known, old(results)).differences)


def old(results: Results) -> Any:
    return read_census(results["not known"].folder)


def rewritten(result: CensusResult, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    folder = Path(shutil.copytree(result.folder, target))
    content = estimate_of(result)
    change(content)
    (folder / "estimate.json").write_text(json.dumps(content))
    return folder


def test_results_of_old_are_read_as_not_known(results: Results, tmp_path: Path) -> None:
    folder = rewritten(results["validated"], tmp_path / "old", lambda content: content.pop("detector"))
    census = read_census(folder)
    assert (census.state, set(census.states.values())) == ("not known", {"not known"})
    assert read_census(folder / "estimate.json").state == "not known"
    broken = rewritten(results["validated"], tmp_path / "other", lambda content: content["detector"].pop("species"))
    with pytest.raises(InputError, match=r"estimate\.json: detector lacks or misspells 'species'; run the census"):
        read_census(broken)
    odd = rewritten(results["validated"], tmp_path / "odd", lambda content: content["detector"].update(state="fine"))
    with pytest.raises(InputError, match="detector has the unknown state 'fine'; it knows validated, not validated"):
        read_census(odd)


@pytest.mark.parametrize("state", ["not validated here", "not known"])
def test_a_census_that_must_be_trusted_writes_nothing_else(
    painted: Painted, packages: dict[str, Path], state: str, tmp_path: Path
) -> None:
    with pytest.raises(SurveyError, match=f"^The detector is {state} for sheep: .* Nothing is written, since trust"):
        count(painted.folder, tmp_path, packages[state], _REFUSE)
    assert list(tmp_path.rglob("estimate.json")) == []
    kept = kept_looks(tmp_path / "work")
    assert len(kept) == 20
    result = count(painted.folder, tmp_path, packages[state])
    assert result.rows[0].detector == state
    assert kept_looks(tmp_path / "work") == kept


def test_a_census_that_can_be_trusted_is_written(
    painted: Painted, packages: dict[str, Path], results: Results, tmp_path: Path
) -> None:
    result = count(painted.folder, tmp_path, packages["validated"], _REFUSE)
    assert [row.estimate for row in result.rows] == [row.estimate for row in results["validated"].rows]
