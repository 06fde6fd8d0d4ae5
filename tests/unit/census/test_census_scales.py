"""Surveys resampled to the ground sample distance of training: which photos, by how much, and what is said of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kept_parts import kept_photos
from package_fixtures import write_package
from transect.census import CensusConfig, CensusResult, load_config, load_survey, run_census
from transect.census.dry_run import DryRun, dry_run
from transect.census.ground.geometry import Pose
from transect.census.ground.placement.frames import Frame, Placement
from transect.census.inputs.photos import LocalPhoto
from transect.census.sightings import scales
from transect.census.sightings.detect import parts_below, search_frames
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.scales import TargetGsd, resampling, with_scales
from transect.cli.census.plan import print_plan
from transect.engine import MODEL_FILE, WEIGHTS_FILE, DetectOptions, Detector, read_manifest
from transect.errors import InputError, SurveyError
from transect.settings import Settings, load_settings

GIVEN = TargetGsd(0.1, "given")
# A square of 16 px is what the dot network finds at half the scale. At 64 m one pixel is 0.5 m.
SQUARE, WIDTH, HEIGHT = 16, 192, 128
# (photo, height above ground): the second is within 5% of the model's 1 m a pixel, the last has no place.
PHOTOS = {"T1/a.png": 64.0, "T1/b.png": 125.0, "T2/c.png": 64.0, "T2/d.png": 66.0, "T2/lost.png": None}
MARKS = {"T1/a.png": [(16, 32), (128, 96)], "T2/c.png": [(64, 64)], "T2/d.png": [], "T2/lost.png": [(96, 32)]}
PIXELS = CensusConfig(tile=64, overlap=16, thumbnails=2)
AUTO = PIXELS.model_copy(update={"gsd": "auto"})


def frame(gsd_m: float | None, *, pitch_deg: float = -90.0, name: str = "a.jpg", unreadable: bool = False) -> Frame:
    placement = (
        None
        if gsd_m is None
        else Placement(latitude=0.5, longitude=35.0, height_m=64.0, yaw_deg=0.0, gsd_m=gsd_m, pitch_deg=pitch_deg)
    )
    return Frame(
        name=name,
        photo=LocalPhoto(Path(name)),
        transect=None,
        taken_at=None,
        width=100,
        height=80,
        placement=placement,
        unreadable=unreadable,
    )


def test_each_photo_is_brought_to_the_target_and_those_near_it_are_left_alone() -> None:
    given = [frame(gsd) for gsd in (0.05, 0.2, 0.0951, 0.1049, 0.094, 0.106, 0.123456)]
    found = with_scales(given, GIVEN)
    assert [one.scale for one in found] == [0.5, 2.0, 1.0, 1.0, 0.94, 1.06, 1.23]
    assert resampling(found, GIVEN) == scales.Resampling(
        target_gsd_m=0.1,
        target="given",
        photos=7,
        resampled=5,
        without_gsd=0,
        scale={"least": 0.5, "median": 1.0, "most": 2.0},
    )
    assert with_scales(given, None) == tuple(given)
    assert resampling(given, None) is None


def test_a_tilted_photo_counts_by_what_its_middle_shows() -> None:
    tilted = frame(0.1, pitch_deg=-60.0)
    pose = Pose(x=0, y=0, yaw_deg=0, height_m=64.0, metres_per_pixel=0.1, width=100, height=80, pitch_deg=-60.0)
    placement = tilted.placement
    assert placement is not None
    assert placement.middle_gsd_m == pytest.approx(float(pose.scale_at(np.array([[50.0, 40.0]]))[0]))
    assert [one.scale for one in with_scales([frame(0.1), tilted], GIVEN)] == [1.0, 1.24]


def test_a_photo_without_a_place_takes_the_median_of_the_others() -> None:
    found = with_scales([frame(0.05), frame(None), frame(0.06), frame(0.2), frame(None, unreadable=True)], GIVEN)
    assert [one.scale for one in found] == [0.5, 0.6, 0.6, 2.0, None]
    summary = resampling(found, GIVEN)
    assert summary is not None
    assert (summary.photos, summary.without_gsd) == (4, 1)
    with pytest.raises(SurveyError, match=r"^No photo has a place, so none has a ground sample distance"):
        with_scales([frame(None)], GIVEN)


def test_a_photo_beyond_the_limits_is_not_searched_and_says_why() -> None:
    high, low = with_scales(
        [frame(0.1), frame(0.1), frame(0.41, name="high.jpg"), frame(0.012, name="low.jpg")], GIVEN
    )[2:]
    assert high.unreadable
    assert high.problem == (
        "high.jpg shows 41 cm a pixel and would have to be enlarged 4.1 times for gsd: 10 cm; the limit is 4."
    )
    assert low.problem.endswith("to be shrunk 8.33 times for gsd: 10 cm; the limit is 8.")
    # In centimetres, or with the wrong camera, it is so for most of them.
    with pytest.raises(SurveyError, match=r"show 10 cm a pixel \(median\), and gsd asks for 200 cm: .*in metres\.$"):
        with_scales([frame(0.1), frame(0.5)], TargetGsd(2.0, "given"))
    with pytest.raises(SurveyError, match=r"training_gsd_m of the model's recipe\.$"):
        with_scales([frame(0.1)], TargetGsd(2.0, "training"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conf: 0.4\ngsd: finest\n", r"gsd.* \(it is 'finest'\).*line 2"),
        ("gsd: 0\n", "gsd.*greater than 0.*line 1"),
        ("gsd: 20\n", "gsd.*less than or equal to 10.*line 1"),
        ("gsd: .nan\n", "gsd"),
        ("gsd: yes\n", "gsd.*should be a number"),
    ],
)
def test_a_bad_gsd_names_file_key_and_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "census.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_gsd_is_a_number_auto_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "census.yaml"
    for text, value in (("auto", "auto"), ("0.05", 0.05), ("1", 1.0), ("null", None)):
        path.write_text(f"gsd: {text}\n")
        assert load_config(path).gsd == value


def test_gsd_and_whole_photos_contradict_each_other() -> None:
    settings = load_settings({}, None)
    with pytest.raises(InputError, match=r"^gsd: auto cannot be had with tile: off of the census configuration"):
        CensusConfig(gsd="auto", tile="off").detect_options(settings)
    with pytest.raises(InputError, match=r"^gsd: 0.1 cannot be had with tile: off of TRANSECT_TILE"):
        CensusConfig(gsd=0.1).detect_options(Settings.model_validate({"TRANSECT_TILE": "off"}))
    assert CensusConfig(tile="off").detect_options(settings).tile == "off"


def image(number: int, marks: list[tuple[int, int]]) -> Image.Image:
    pixels = np.full((HEIGHT, WIDTH, 3), 100 + number, np.uint8)
    for x, y in marks:
        pixels[y : y + SQUARE, x : x + SQUARE] = (255, 0, 0)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flown") / "survey"
    rows = ["image,lat,lon,height_agl_m,yaw_deg"]
    for number, (name, height) in enumerate(PHOTOS.items()):
        file = folder / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image(number, MARKS.get(name, [])).save(file)
        if height is not None:
            rows.append(f"{name},{-1.5 + number % 2 * 0.003},{35.1 + number // 2 * 0.01},{height},0")
    (folder / "flights.csv").write_text("\n".join(rows) + "\n")
    (folder / "survey.yaml").write_text(
        "name: flown\ncamera: {sensor_width_mm: 13.2, focal_mm: 8.8}\nstrata: [{name: plain, area_km2: 1.2}]\n"
    )
    return folder


@pytest.fixture(scope="module")
def trained(dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dot network, which was trained at 1 m a pixel."""
    folder = tmp_path_factory.mktemp("trained")
    for name in (MODEL_FILE, WEIGHTS_FILE):
        (folder / name).write_bytes((dot_package / name).read_bytes())
    return write_package(folder, architecture="dots", training_gsd_m=1.0)


@pytest.fixture(scope="module")
def detector(trained: Path) -> Iterator[Detector]:
    with Detector.open(trained, threads=1) as opened:
        yield opened


def count(survey: Path, out: Path, detector: Detector, config: CensusConfig) -> CensusResult:
    return run_census(load_survey(survey), out=out, detector=detector, config=config, settings=load_settings({}, None))


@pytest.fixture(scope="module")
def counted(survey: Path, detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> CensusResult:
    return count(survey, tmp_path_factory.mktemp("out"), detector, AUTO)


def boxes_of(result: CensusResult) -> dict[str, list[list[float]]]:
    coco = json.loads((result.folder / "coco.json").read_text())
    names = {one["id"]: one["file_name"] for one in coco["images"]}
    found: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for one in coco["annotations"]:
        found[names[one["image_id"]]].append(one["bbox"])
    return {name.removeprefix("images/"): sorted(mine) for name, mine in found.items()}


def test_animals_twice_as_large_as_in_training_are_found_where_they_are(counted: CensusResult) -> None:
    found = boxes_of(counted)
    for name, marks in MARKS.items():
        assert found[name] == [[x, y, SQUARE, SQUARE] for x, y in sorted(marks)], name
    assert counted.rows[0].seen == 3


def test_without_it_they_are_not(survey: Path, detector: Detector, tmp_path: Path) -> None:
    result = count(survey, tmp_path, detector, PIXELS)
    assert result.rows[0].seen == 12  # a quarter each
    assert result.manifest["resampling"] is None
    assert "resampled" not in result.report.read_text()


def test_manifest_and_report_say_so(counted: CensusResult, tmp_path: Path) -> None:
    assert counted.manifest["resampling"] == {
        "target_gsd_m": 1.0,
        "target": "training",
        "photos": 5,
        "resampled": 4,
        "without_gsd": 1,
        "scale": {"least": 0.5, "median": 0.5, "most": 1.0},
    }
    assert counted.manifest["config"]["gsd"] == "auto"
    report = " ".join(counted.report.read_text().split())
    assert "photos were resampled to 100 cm a pixel, the ground sample distance of the images that the" in report
    assert "4 of 5 photos by a factor of 0.500 to 1.00, by the mean of areas where that is below 1 and" in report
    assert "ground sample distance of its own: 1 photo, searched as if at the median of the others." in report


def test_a_number_is_the_target_whatever_the_model_says(
    survey: Path, detector: Detector, counted: CensusResult, tmp_path: Path
) -> None:
    result = count(survey, tmp_path, detector, PIXELS.model_copy(update={"gsd": 1.0}))
    assert (result.manifest["resampling"]["target"], boxes_of(result)) == ("given", boxes_of(counted))


def test_a_package_that_does_not_know_its_training_is_refused_before_anything_is_searched(
    survey: Path, dot_package: Path, tmp_path: Path
) -> None:
    assert read_manifest(dot_package).training_gsd_m is None
    with Detector.open(dot_package, threads=1) as detector:
        with pytest.raises(InputError, match=r"^gsd: auto needs .* its package lacks it; .*training_gsd_m"):
            count(survey, tmp_path / "out", detector, AUTO)
        assert not (tmp_path / "out").exists()
        with pytest.raises(InputError, match=r"^gsd: auto needs"):
            plan_dry_run(survey, detector, AUTO)


def plan_dry_run(survey: Path, detector: Detector | None, config: CensusConfig) -> DryRun:
    return dry_run(load_survey(survey), config, load_settings({}, None), detector=detector, why_not="no model")


def test_a_dry_run_tells_scales_and_tiles(survey: Path, detector: Detector, counted: CensusResult) -> None:
    planned = plan_dry_run(survey, detector, AUTO)
    assert planned.to_json()["resampling"] == counted.manifest["resampling"]
    assert planned.time.tiles == counted.manifest["tiles"] == 3 * 2 + 4 + 12
    plain = plan_dry_run(survey, detector, PIXELS)
    assert (plain.resampling, plain.time.tiles) == (None, 5 * 12)


def test_without_a_model_only_a_number_can_be_planned_for(survey: Path) -> None:
    assert plan_dry_run(survey, None, AUTO).resampling is None
    found = plan_dry_run(survey, None, PIXELS.model_copy(update={"gsd": 0.25})).resampling
    assert found is not None
    assert found.scale == {"least": 2.0, "median": 2.0, "most": 3.91}


def test_a_photo_that_would_not_be_searched_is_named_by_the_dry_run_and_in_the_failures(
    survey: Path, detector: Detector, tmp_path: Path
) -> None:
    config = PIXELS.model_copy(update={"gsd": 0.2})
    planned = plan_dry_run(survey, detector, config)
    assert [one.file for one in planned.unusable] == ["T1/b.png", "T2/lost.png"]
    assert planned.files.unusable[0].reason.startswith("T1/b.png shows 97.7 cm a pixel and would have to be enlarged")
    result = count(survey, tmp_path, detector, config)
    assert [(one.file, one.kind) for one in result.issues] == [
        ("T1/b.png", "unreadable"),
        ("T2/lost.png", "unplaced"),
    ]


def test_the_printed_plan_says_at_what_it_searches(
    survey: Path, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_plan(str(survey), str(trained), AUTO, load_settings({}, None), as_json=False)
    printed = capsys.readouterr().out
    assert "100 cm a pixel, as the model was trained: 4 of 5 resampled, scales 0.5 to 1, median 0.5" in printed
    assert "for 22 tiles" in printed


def test_what_was_found_at_one_scale_is_never_taken_for_another(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "a.png"
    image(0, [(16, 32)]).save(path)
    plain = Frame(
        name="a.png", photo=LocalPhoto(path), transect=None, taken_at=None, width=WIDTH, height=HEIGHT, placement=None
    )
    options = DetectOptions(tile=64, overlap=16)

    def search(scale: float | None) -> FrameDetections:
        frames: list[Any] = [replace(plain, scale=scale)]
        work = tmp_path / "work"
        return search_frames(
            frames,
            detector=detector,
            options=options,
            parts=parts_below(work, detector, options),
            workers=1,
            max_pixels=10**6,
        )[0]

    given = [None, 1.0, 0.5, 2.0, 0.501]
    fresh = [search(scale) for scale in given]
    assert not any(one.reused for one in fresh)
    again = [search(scale) for scale in given]
    assert all(one.reused for one in again)
    assert [(one.tiles, one.boxes.tolist()) for one in again] == [(one.tiles, one.boxes.tolist()) for one in fresh]
    assert [len(one.boxes) for one in fresh[:3]] == [4, 4, 1]
    assert len(set(kept_photos(tmp_path / "work"))) == len(given)
