"""The census on a painted survey: real photos, a real model that finds coloured squares, known truth."""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import Point

from kept_parts import digests, kept_looks
from painted_surveys import (
    COLOURS,
    CONFIG,
    GSD,
    HEIGHT,
    NAMES,
    ORIGIN,
    SPACING_M,
    STEP_M,
    SURVEY_YAML,
    TRANSECTS,
    WIDTH,
    Painted,
    count,
    counted_boxes,
    paint_survey,
    polygon,
    rows_of,
)
from transect.census import CensusConfig, CensusResult, load_survey, plan_census, run_census
from transect.engine import BackgroundCounts, Detector, ValidationCounts, read_manifest, write_manifest
from transect.errors import SurveyError
from transect.settings import load_settings
from transect.synth import make_survey


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    return paint_survey(tmp_path_factory.mktemp("painted"))


@pytest.fixture
def copy(painted: Painted, tmp_path: Path) -> Path:
    return Path(shutil.copytree(painted.folder, tmp_path / "survey"))


@pytest.fixture(scope="module")
def detector(dot_package: Path) -> Iterator[Detector]:
    with Detector.open(dot_package, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def result(painted: Painted, detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> CensusResult:
    return count(painted.folder, tmp_path_factory.mktemp("out"), detector)


def test_every_animal_is_counted_once(painted: Painted, result: CensusResult) -> None:
    assert {row.species: row.unique for row in result.rows} == painted.photographed
    assert {row.species: row.seen for row in result.rows} == painted.boxes
    assert sum(painted.boxes.values()) > sum(painted.photographed.values())
    assert result.issues == ()


def test_estimate_is_the_density_times_the_area(painted: Painted, result: CensusResult) -> None:
    area = TRANSECTS * (4 * STEP_M + HEIGHT * GSD) * WIDTH * GSD / 1e6
    for row in result.rows:
        # The grid's scale of 0.9996 is taken out of the areas, and the positions were made on the grid.
        assert row.area_km2 == pytest.approx(area, rel=2e-3)
        assert row.estimate == pytest.approx(painted.photographed[row.species] / row.area_km2 * 1.2)
        assert row.ci95 is not None
        assert row.unique <= row.ci95[0] <= row.estimate <= row.ci95[1]  # type: ignore[operator] # not None, see above


def test_every_step_of_a_correction_is_written_down(painted: Painted, dot_package: Path, tmp_path: Path) -> None:
    # Of ten boxes in each of forty validation images nine were right, and of twelve animals nine were found.
    package = Path(shutil.copytree(dot_package, tmp_path / "package"))
    manifest = read_manifest(package)
    rows = tuple((image, 9, 1, 3) for image in range(40))
    counts = ValidationCounts(images=40, conf=manifest.conf, iou=manifest.iou, counts={"sheep": rows})
    write_manifest(package, manifest.model_copy(update={"validation_counts": counts}))
    with Detector.open(package, threads=1) as detector:
        result = count(painted.folder, tmp_path / "out", detector)
    sheep, goat, _ = result.rows
    # The model makes no mistakes here, so one look shows about what all of them do: animals stand where photos overlap.
    assert sheep.single_look == pytest.approx(sheep.unique, rel=0.1)
    assert sheep.corrected is not None
    assert sheep.corrected == pytest.approx(sheep.single_look * 1.2)
    assert sheep.estimate == pytest.approx(sheep.corrected / sheep.area_km2 * 1.2)
    assert goat.corrected is None
    assert "found no goat rightly" in goat.note

    row = rows_of(result.folder / "counts.csv")[0]
    assert float(row["single_look"]) == sheep.single_look
    assert float(row["corrected"]) == sheep.corrected
    units = [unit for unit in rows_of(result.folder / "transects.csv") if unit["species"] == "sheep"]
    assert sum(float(unit["single_look"]) for unit in units) == pytest.approx(sheep.single_look)
    assert sum(int(unit["seen"]) for unit in units) == sheep.seen

    written = json.loads((result.folder / "estimate.json").read_text())
    correction = written["corrections"][0]
    assert (correction["species"], correction["precision"], correction["recall"]) == ("sheep", 0.9, 0.75)
    steps = {step["name"]: step["value"] for step in correction["steps"]}
    assert steps["seen"] == sheep.seen
    assert steps["corrected"] == pytest.approx(steps["recall"]) == pytest.approx(sheep.corrected)
    assert steps["estimate"] == sheep.estimate
    assert correction["strata"][0]["unique"] == sheep.unique
    assert written["estimates"][0]["uncorrected"] == pytest.approx(sheep.unique / sheep.area_km2 * 1.2)
    metrics = result.as_run().metrics
    assert metrics["sheep.corrected"] == sheep.corrected


def test_false_alarms_of_the_ground_are_taken_off_by_the_pixels_that_were_searched(
    painted: Painted, dot_package: Path, tmp_path: Path
) -> None:
    package = Path(shutil.copytree(dot_package, tmp_path / "package"))
    manifest = read_manifest(package)
    # Of ten boxes in each image nine were right and the tenth lay far from any animal: the ground's, not the animals'.
    rows = tuple((image, 9, 1, 3) for image in range(40))
    counts = ValidationCounts(
        images=40, conf=manifest.conf, iou=manifest.iou, counts={"sheep": rows}, beside={"sheep": ()}
    )
    alarms = BackgroundCounts(
        conf=manifest.conf, iou=manifest.iou, mpx=(0.02,) * 50, counts={"sheep": ((3, 4), (7, 16))}
    )
    write_manifest(package, manifest.model_copy(update={"validation_counts": counts, "background_counts": alarms}))
    with Detector.open(package, threads=1) as detector:
        scale = detector.network_scale(WIDTH, HEIGHT)
        result = count(painted.folder, tmp_path / "out", detector)
    sheep = result.rows[0]
    assert sheep.searched_mpx == pytest.approx(sheep.area_km2 / GSD**2 * scale**2, rel=1e-3)
    assert sheep.corrected == pytest.approx(max(sheep.single_look - 20 * sheep.searched_mpx, 0) * 12 / 9)
    assert sheep.estimate == pytest.approx((sheep.corrected or 0) / sheep.area_km2 * 1.2)
    assert sheep.corrected is not None
    assert 0 < sheep.corrected < sheep.single_look * 12 / 9
    units = [unit for unit in rows_of(result.folder / "transects.csv") if unit["species"] == "sheep"]
    assert sum(float(unit["searched_mpx"]) for unit in units) == pytest.approx(sheep.searched_mpx, rel=1e-3)

    correction = json.loads((result.folder / "estimate.json").read_text())["corrections"][0]
    assert (correction["basis"], correction["background_alarms"], correction["alarms_per_mpx"]) == ("ground", 20, 20.0)
    steps = {step["name"]: step["value"] for step in correction["steps"]}
    assert steps["ground"] == pytest.approx(sheep.single_look - 20 * sheep.searched_mpx)
    report = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "<em>False alarms by ground</em> (sheep)." in report
    assert "<em>False alarms by precision</em>" not in report
    assert "Donner, A. and Zou" in report


def test_outputs_agree_with_each_other(painted: Painted, result: CensusResult) -> None:
    animals = rows_of(result.folder / "animals.csv")
    assert len(animals) == sum(painted.photographed.values())
    points = json.loads((result.folder / "animals.geojson").read_text())["features"]
    assert [point["properties"]["species"] for point in points] == [animal["species"] for animal in animals]
    table = counted_boxes(result.folder)
    assert table.num_rows == sum(painted.boxes.values())
    assert set(table["animal"].to_pylist()) == {int(animal["animal"]) for animal in animals}
    transects = rows_of(result.folder / "transects.csv")
    assert sum(int(row["count"]) for row in transects) == len(animals)
    assert len(transects) == TRANSECTS * len(NAMES)
    kinds = [
        feature["properties"]["kind"]
        for feature in json.loads((result.folder / "coverage.geojson").read_text())["features"]
    ]
    assert (kinds.count("transect"), kinds.count("photo")) == (TRANSECTS, 20)
    estimates = json.loads((result.folder / "estimate.json").read_text())["estimates"]
    assert [one["estimate"] for one in estimates] == [row.estimate for row in result.rows]
    assert [row["unique"] for row in rows_of(result.folder / "counts.csv")] == [str(row.unique) for row in result.rows]
    assert rows_of(result.folder / "failures.csv") == []


def test_positions_are_where_the_animals_are(result: CensusResult) -> None:
    for animal in rows_of(result.folder / "animals.csv"):
        # Middles of cells of 4 m, counted from the lower left corner of the first photo.
        east = (float(animal["easting"]) - ORIGIN[0] + WIDTH * GSD / 2) % SPACING_M
        north = float(animal["northing"]) - ORIGIN[1] + HEIGHT * GSD / 2
        assert east % 4 == pytest.approx(2, abs=0.1)
        assert north % 4 == pytest.approx(2, abs=0.1)


def test_report_needs_nothing_else(result: CensusResult) -> None:
    html = result.report.read_text()
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']{0,40})|url\(([^)]{0,40})|@import""", html)
    assert links
    assert all(src.startswith("data:image/jpeg;base64,") for src, _ in links)
    marks = "".join(re.findall(r'<g class="animals".*?</g>', html))
    assert marks.count("<path") == sum(row.unique for row in result.rows)
    for row in result.rows:
        assert row.species in html
    assert result.manifest["survey"]["digest"] in html


def test_manifest_ties_the_numbers_to_what_made_them(result: CensusResult, detector: Detector) -> None:
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest == json.loads(json.dumps(result.manifest))
    assert manifest["model"]["dataset_digest"] == detector.manifest.dataset_digest
    assert manifest["images"] == {
        "found": 20, "counted": 20, "unreadable": 0, "unplaced": 0, "duplicate": 0, "suspect": 0, "remark": 0,
        "truncated": 0,
    }  # fmt: skip
    assert manifest["left_out"] == {}
    assert manifest["options"]["conf"] == 0.25
    computed = {name: getattr(detector, name) for name in ("backend", "precision", "instructions", "library")}
    assert all(computed.values())
    assert manifest["options"] | computed == manifest["options"]
    assert manifest["gsd_m"]["median"] == pytest.approx(0.5)


def test_files_that_are_left_out_are_counted_in_manifest_and_report(
    copy: Path, detector: Detector, tmp_path: Path
) -> None:
    photo = next((copy / "images").rglob("*.png"))
    for place in (".Trash-1000/files/x.png", "@eaDir/y.png", "T1/log.txt"):
        target = copy / "images" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(photo.read_bytes())
    result = count(copy, tmp_path / "out", detector)
    assert result.manifest["left_out"] == {
        "in .Trash-1000, a trash folder": 1,
        "in @eaDir, a folder of thumbnails": 1,
        "no picture (.txt)": 1,
    }
    assert "in .Trash-1000, a trash folder" in result.report.read_text()
    assert result.manifest["images"]["found"] == 20


def test_result_becomes_an_mlflow_run(result: CensusResult) -> None:
    run = result.as_run()
    assert run.name == run.params["survey"] == "painted"
    assert run.metrics["sheep.unique"] == result.rows[0].unique
    assert all(isinstance(value, float) for value in run.metrics.values())
    assert all(re.fullmatch(r"[\w\-./ ]+", name) for name in (*run.metrics, *run.params))
    assert run.tags["transect.census_run"] == result.folder.name
    assert {path.name for path in run.artifacts} >= {
        "report.html",
        "manifest.json",
        "detections.parquet",
        "photos.parquet",
    }
    assert all(path.is_file() for path in run.artifacts)


def test_a_summary_for_mlflow_holds_no_position(result: CensusResult) -> None:
    run, whole = result.as_run("summary"), result.as_run()
    assert (run.params, run.metrics) == (whole.params, whole.metrics)
    # Neither stands for the other: whoever asks for all of it gets it.
    assert run.tags["transect.census_results"] != whole.tags["transect.census_results"]
    assert {path.name for path in run.artifacts} >= {"estimate.json", "manifest.json", "counts.csv"}
    places = json.loads((result.folder / "animals.geojson").read_text(encoding="utf-8"))["features"]
    assert places
    degrees = {f"{degree:.3f}" for place in places for degree in place["geometry"]["coordinates"]}
    for text in [path.read_text(encoding="utf-8") for path in run.artifacts] + [repr(run)]:
        assert not [place for place in degrees if place in text]


def test_what_a_census_makes_is_for_its_owner_alone(copy: Path, detector: Detector, tmp_path: Path) -> None:
    usual = os.umask(0o022)
    try:
        result = count(copy, tmp_path / "somewhere" / "out", detector)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(usual)
    made = [tmp_path / "somewhere", *(tmp_path / "somewhere").rglob("*")]
    assert result.folder in made
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o700}


def test_same_command_again_rewrites_the_same_and_searches_nothing(
    copy: Path, detector: Detector, tmp_path: Path
) -> None:
    first = count(copy, tmp_path / "out", detector)
    before = digests(first.folder)
    kept = kept_looks(tmp_path / "out" / "work")
    again = count(copy, tmp_path / "out", detector)
    assert again.folder == first.folder
    assert again.manifest["created_at"] == first.manifest["created_at"]
    assert digests(again.folder) == before
    assert kept_looks(tmp_path / "out" / "work") == kept
    assert len(kept) == 20


def test_another_photo_or_option_is_another_run(copy: Path, detector: Detector, tmp_path: Path) -> None:
    first = count(copy, tmp_path / "out", detector)
    (copy / "images" / "T1" / "T1_000.png").unlink()
    fewer = count(copy, tmp_path / "out", detector)
    other = run_census(
        load_survey(copy),
        out=tmp_path / "out",
        detector=detector,
        config=CONFIG.model_copy(update={"gps_error_m": 0.5}),
        settings=load_settings({}, None),
    )
    assert len({first.folder, fewer.folder, other.folder}) == 3
    assert fewer.issues[0].kind == "unused"


def test_a_survey_that_was_edited_since_it_was_read_is_not_counted(
    copy: Path, detector: Detector, tmp_path: Path
) -> None:
    """The model may take minutes to fetch; its name came from the survey.yaml that was read before."""
    survey = load_survey(copy)
    described = copy / "survey.yaml"
    described.write_text(described.read_text() + "# edited\n")
    with pytest.raises(SurveyError, match=r"survey\.yaml of survey .* changed while the census ran"):
        run_census(survey, out=tmp_path / "out", detector=detector, config=CONFIG, settings=load_settings({}, None))
    assert not (tmp_path / "out").exists()


def test_bad_files_are_listed_and_the_rest_is_counted(
    copy: Path, painted: Painted, detector: Detector, tmp_path: Path
) -> None:
    folder = copy / "images" / "T1"
    whole = folder / "T1_001.png"
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.JPG").write_text("not a photo")
    (folder / "cut.png").write_bytes(whole.read_bytes()[:-60])
    (folder / "again.png").write_bytes(whole.read_bytes())
    Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)).save(folder / "lost.png")
    lost = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    lost[8:16, 8:16] = COLOURS[0]
    Image.fromarray(lost).save(folder / "placeless.png")
    with (copy / "flights.csv").open("a") as flights:
        flights.write("T9/none.png,-1.5,35,64,0,\n")
    found = count(copy, tmp_path / "out", detector)
    listed = {row["file"]: (row["kind"], row["reason"]) for row in rows_of(found.folder / "failures.csv")}
    assert {name: kind for name, (kind, _) in listed.items()} == {
        "T1/empty.jpg": "unreadable",
        "T1/text.JPG": "unreadable",
        "T1/cut.png": "unreadable",
        "T1/again.png": "duplicate",
        "T1/lost.png": "unplaced",
        "T1/placeless.png": "unplaced",
        "T9/none.png": "unused",
    }
    assert "0 bytes" in listed["T1/empty.jpg"][1]
    assert "T1/T1_001.png" in listed["T1/again.png"][1]
    assert {row.species: row.unique for row in found.rows} == painted.photographed
    assert {row.species: row.seen for row in found.rows} == painted.boxes
    assert [row.seen_unplaced for row in found.rows] == [1, 0, 0]
    html = found.report.read_text()
    assert "without a usable position" in html
    assert all(name in html for name in listed)


def test_species_map_joins_and_drops_classes(copy: Path, painted: Painted, detector: Detector, tmp_path: Path) -> None:
    (copy / "survey.yaml").write_text(SURVEY_YAML + "species: {goat: sheep, cow: null}\n")
    found = count(copy, tmp_path / "out", detector)
    assert [row.species for row in found.rows] == ["sheep"]
    assert found.rows[0].unique == painted.photographed["sheep"] + painted.photographed["goat"]


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        (SURVEY_YAML + "species: {shep: sheep}\n", "'shep', which the model does not know; its classes are sheep"),
        (SURVEY_YAML + "species: {sheep: null, goat: null, cow: null}\n", "nothing to count"),
        (SURVEY_YAML.replace("1.2", "0.01"), "more than its 0.01 km2"),
        (SURVEY_YAML.replace("camera:", "#"), r"no camera: .*add `camera: \{sensor_width_mm"),
        (SURVEY_YAML + "transects: {from: none}\n", "No photo of survey .* lies on a transect"),
    ],
)
def test_a_survey_that_contradicts_itself_is_refused_before_it_is_searched(
    copy: Path, detector: Detector, tmp_path: Path, yaml: str, words: str
) -> None:
    (copy / "survey.yaml").write_text(yaml)
    with pytest.raises(SurveyError, match=words):
        count(copy, tmp_path / "out", detector)
    assert kept_looks(tmp_path / "out" / "work") == []
    assert not list(tmp_path.glob("out/*/manifest.json"))


@pytest.mark.parametrize(
    ("strata", "sampling", "phrase", "intervals"),
    [
        (None, "strip", "No study area was given", False),
        ("[{name: plain, area_km2: 0.12}]", "total", "meant to photograph the whole area", False),
        (
            f"[{{name: west, polygon: {polygon(-200, 600)}}}, {{name: east, polygon: {polygon(600, 1400)}}}]",
            "strip",
            "Satterthwaite",
            True,
        ),
    ],
)
def test_other_designs_are_counted_and_reported(
    copy: Path,
    painted: Painted,
    detector: Detector,
    tmp_path: Path,
    strata: str | None,
    sampling: str,
    phrase: str,
    intervals: bool,
) -> None:
    text = SURVEY_YAML.replace("sampling: strip", f"sampling: {sampling}")
    text = re.sub("strata: .*", "" if strata is None else f"strata: {strata}", text)
    (copy / "survey.yaml").write_text(text)
    found = count(copy, tmp_path / "out", detector)
    assert {row.species: row.unique for row in found.rows} == painted.photographed
    assert [row.outside for row in found.rows] == [0, 0, 0]
    assert all((row.estimate is None) == (strata is None) for row in found.rows)
    assert all((row.ci95 is not None) == intervals for row in found.rows)
    assert phrase in found.report.read_text()


def test_a_survey_without_positions_says_what_to_add(copy: Path, detector: Detector, tmp_path: Path) -> None:
    (copy / "flights.csv").unlink()
    with pytest.raises(SurveyError, match=r"has a usable position .*add flights\.csv with columns"):
        count(copy, tmp_path / "out", detector)


def test_a_survey_of_broken_photos_is_refused(copy: Path, detector: Detector, tmp_path: Path) -> None:
    for path in (copy / "images").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(SurveyError, match="could be searched; the first: "):
        count(copy, tmp_path / "out", detector)


def test_a_sample_survey_is_placed_from_exif_and_xmp(tmp_path: Path) -> None:
    make_survey(tmp_path / "survey", frames=4, seed=3)
    plan = plan_census(load_survey(tmp_path / "survey"), CensusConfig())
    assert plan.issues == ()
    assert all(pose is not None for pose in plan.poses)
    by_name = {frame.name: plan.coverage.footprints[number] for number, frame in enumerate(plan.frames)}
    features = json.loads((tmp_path / "survey" / "truth.geojson").read_text())["features"]
    checked = 0
    for feature in features:
        lon, lat = feature["geometry"]["coordinates"]
        place = Point(plan.grid.forward(np.array([lon]), np.array([lat]))[0])
        shown = {Path(name).stem for name in feature["properties"]["frames"]}
        for name, ground in by_name.items():
            stem = Path(name).stem
            # Recorded and true poses differ by some GPS and yaw noise.
            if stem in shown:
                assert ground.distance(place) < 4
                checked += 1
            else:
                assert not ground.buffer(-4).covers(place)
    assert len(plan.coverage.units) >= 2
    assert checked or not any(feature["properties"]["photographed"] for feature in features)
