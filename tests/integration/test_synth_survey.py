import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from transect.errors import InputError
from transect.files import sha256_file
from transect.imagery import read_frame_metadata
from transect.synth import (
    SPECIES,
    PositionNoise,
    SurveyDesign,
    SurveyPlan,
    SurveyTruth,
    make_survey,
    perfect_sightings,
    plan_survey,
)
from transect.synth.scene import expose
from transect.synth.survey import ELEVATION_M, PLACE, frame_path

# With this seed each species is photographed, some animals twice.
WISH: dict[str, Any] = {"frames": 4, "seed": 7, "overlap": 0.5, "transects": 2}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> SurveyTruth:
    return make_survey(tmp_path_factory.mktemp("synth") / "survey", **WISH, processes=1)


@pytest.fixture(scope="module")
def plan() -> SurveyPlan:
    return plan_survey(SurveyDesign(**WISH))


@pytest.fixture(scope="module")
def geojson(truth: SurveyTruth) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((truth.folder / "truth.geojson").read_text())
    return found


def degrees(parts: tuple[float, float, float], ref: str) -> float:
    value = float(parts[0]) + float(parts[1]) / 60 + float(parts[2]) / 3600
    return -value if ref in "SW" else value


def test_frames_lie_in_folders_named_for_their_transects(truth: SurveyTruth) -> None:
    images = sorted(str(path.relative_to(truth.folder / "images")) for path in truth.folder.rglob("*.jpg"))
    assert images == ["T01/T01_0001.jpg", "T01/T01_0002.jpg", "T02/T02_0001.jpg", "T02/T02_0002.jpg"]
    assert truth.frames == 4


def test_exif_holds_the_recorded_position(truth: SurveyTruth, plan: SurveyPlan) -> None:
    for shot in plan.flight.shots:
        with Image.open(frame_path(truth.folder, shot)) as image:
            assert image.size == (1920, 1440)
            exif = image.getexif()
        gps, more = exif.get_ifd(0x8825), exif.get_ifd(0x8769)
        longitude, latitude = PLACE.to_lonlat(shot.recorded.x, shot.recorded.y)
        assert degrees(gps[2], gps[1]) == pytest.approx(latitude, abs=1e-9)
        assert degrees(gps[4], gps[3]) == pytest.approx(longitude, abs=1e-9)
        assert float(gps[6]) == pytest.approx(ELEVATION_M + shot.recorded.height_m, abs=1e-3)
        assert (exif[0x010F], exif[0x0110]) == ("Transect", "Synthetic 20")
        assert float(more[0x920A]) == pytest.approx(8.8)
        assert more[0x9003] == shot.taken_at.strftime("%Y:%m:%d %H:%M:%S")


def test_xmp_holds_the_recorded_height_and_yaw(truth: SurveyTruth, plan: SurveyPlan) -> None:
    for shot in plan.flight.shots:
        with Image.open(frame_path(truth.folder, shot)) as image:
            xmp = image.info["xmp"].decode()
        value = dict(re.findall(r'drone-dji:(\w+)="([^"]+)"', xmp))
        assert float(value["RelativeAltitude"]) == pytest.approx(shot.recorded.height_m, abs=1e-3)
        assert float(value["AbsoluteAltitude"]) == pytest.approx(ELEVATION_M + shot.recorded.height_m, abs=1e-3)
        assert float(value["FlightYawDegree"]) % 360 == pytest.approx(shot.recorded.yaw_deg % 360, abs=0.006)
        assert -180 <= float(value["FlightYawDegree"]) <= 180
        assert float(value["GimbalPitchDegree"]) == -90
        assert float(value["GimbalRollDegree"]) == 0


def test_survey_yaml_describes_the_stratum(truth: SurveyTruth, plan: SurveyPlan) -> None:
    survey = yaml.safe_load((truth.folder / "survey.yaml").read_text())
    assert survey["schema"] == 1
    assert survey["camera"] == {"sensor_width_mm": 13.2, "focal_mm": 8.8}
    assert survey["height"] == {"source": "relative_altitude"}
    assert survey["sampling"] == "strip"
    assert survey["transects"] == {"from": "folder"}
    (stratum,) = survey["strata"]
    assert stratum["area_km2"] == pytest.approx(plan.flight.width_m * plan.flight.height_m / 1e6, abs=1e-6)
    assert stratum["polygon"][0] == stratum["polygon"][-1]
    assert stratum["polygon"][2] == pytest.approx(PLACE.to_lonlat(plan.flight.width_m, plan.flight.height_m), abs=1e-8)


def test_truth_adds_up(truth: SurveyTruth, geojson: dict[str, Any]) -> None:
    features = [feature["properties"] for feature in geojson["features"]]
    for kind in SPECIES:
        mine = [f for f in features if f["species"] == kind.name]
        assert truth.population[kind.name] == len(mine) > 0
        assert truth.photographed[kind.name] == sum(f["photographed"] for f in mine) > 0
    assert all(f["photographed"] == bool(f["frames"]) for f in features)
    assert any(len(f["frames"]) > 1 for f in features), "overlapping frames show some animals twice"
    assert geojson["transect"]["population"] == truth.population
    assert geojson["transect"]["seed"] == 7


def test_surveys_of_the_first_parameters_stay_what_they_were(truth: SurveyTruth) -> None:
    """Figures of generator 4 before animals walked; pictures are compared coarsely, since CPUs round differently."""
    assert json.loads((truth.folder / "synth.json").read_text()) == {
        "generator": 4, "kind": "survey", "frames": 4, "seed": 7, "overlap": 0.5, "height_m": 64.0, "transects": 2,
        "gps_noise_m": 0.5, "yaw_noise_deg": 0.7, "height_noise_m": 0.3,
    }  # fmt: skip
    assert (
        sha256_file(truth.folder / "truth.geojson")
        == "edb294edfa7e5fd4ab5ae5191595a69c888982305e848a7fd9397ae3200fe3f4"
    )
    with Image.open(truth.folder / "images/T01/T01_0001.jpg") as image:
        tones = np.asarray(image.resize((4, 3), Image.Resampling.BOX).convert("L"), dtype=np.float64)
    assert tones == pytest.approx(np.array([[100, 105, 110, 108], [99, 93, 98, 112], [102, 100, 100, 106]]), abs=1.01)


def test_truth_stands_where_the_pictures_show_it(plan: SurveyPlan) -> None:
    """Each animal well within a true footprint has a box there, and no box lacks its animal."""
    missing = found = 0
    for shot in plan.flight.shots[:3]:
        view = plan.flight.camera.view(shot.true)
        boxes = {id(box.animal): box for box in expose(plan.scene, view)[1]}
        for animal in plan.scene.animals:
            column, row = view.to_pixels(animal.x, animal.y)
            margin = animal.length_m / view.gsd
            inside = margin < column < view.width - margin and margin < row < view.height - margin
            box = boxes.pop(id(animal), None)
            if not inside:
                continue
            if box is None:
                missing += 1  # under a bush
                continue
            found += 1
            distance = np.hypot((box.x1 + box.x2) / 2 - column, (box.y1 + box.y2) / 2 - row)
            assert distance < 0.3 * animal.length_m / view.gsd
        assert not boxes
    assert found > 3
    assert missing <= 0.1 * found


def test_frames_are_taken_from_the_true_pose(truth: SurveyTruth, plan: SurveyPlan) -> None:
    """The written JPEG shows the scene from the true pose, and not from the recorded one."""
    shot = plan.flight.shots[0]
    with Image.open(frame_path(truth.folder, shot)) as image:
        written = np.asarray(image.convert("L"), dtype=np.float64)[600:800, 800:1100]

    def likeness(pose_view: Any) -> float:
        radiance, _ = expose(plan.scene, pose_view.part(800, 600, 300, 200))
        grey = radiance.mean(axis=2) ** (1 / 2.2)
        return float(np.corrcoef(grey.ravel(), written.ravel())[0, 1])

    camera = plan.flight.camera
    assert likeness(camera.view(shot.true)) > 0.9
    assert likeness(camera.view(shot.recorded)) < 0.6


def test_a_survey_is_deterministic_and_resumable(truth: SurveyTruth, tmp_path: Path) -> None:
    again = make_survey(tmp_path / "again", **WISH, processes=1)
    for path in sorted(truth.folder.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again.folder / path.relative_to(truth.folder)).read_bytes(), path.name
    stamp = (again.folder / "truth.geojson").stat().st_mtime_ns
    assert make_survey(again.folder, **WISH) == again
    assert (again.folder / "truth.geojson").stat().st_mtime_ns == stamp


def test_another_seed_is_another_land(plan: SurveyPlan) -> None:
    other = plan_survey(SurveyDesign(**WISH | {"seed": 3}))
    assert other.scene.animals != plan.scene.animals
    assert other.scene.seed != plan.scene.seed
    assert other.flight.shots[0].true != plan.flight.shots[0].true


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> tuple[SurveyPlan, SurveyTruth]:
    wish: dict[str, Any] = {
        "frames": 2, "seed": 9, "overlap": 0.8, "side_overlap": 0.6, "transects": 1, "passes": 2, "break_s": 30.0,
        "animal_speed_m_s": 1.0,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("synth") / "moving"
    return plan_survey(SurveyDesign(**wish)), make_survey(folder, **wish, processes=1)


def test_the_truth_of_walkers_is_who_was_in_which_frame(moving: tuple[SurveyPlan, SurveyTruth]) -> None:
    plan, truth = moving
    features = json.loads((truth.folder / "truth.geojson").read_text())["features"]
    sightings = perfect_sightings(plan)
    frames: list[list[str]] = [[] for _ in features]
    for frame, animal in zip(sightings.frame, sightings.animal, strict=True):
        frames[animal].append(plan.flight.shots[frame].name)
    assert [feature["properties"]["frames"] for feature in features] == frames
    assert sum(truth.photographed.values()) == len(sightings.photographed()) > 3
    assert any("T01_0001" in names and "T01-2_0001" not in names for names in frames), "some walked out"
    for feature, animal in zip(features, plan.scene.animals, strict=True):
        assert feature["geometry"]["coordinates"] == pytest.approx(PLACE.to_lonlat(animal.x, animal.y), abs=1e-9)
        assert feature["properties"]["velocity_m_s"] == pytest.approx(list(animal.velocity), abs=1e-4)


def test_what_was_asked_for_is_remembered(moving: tuple[SurveyPlan, SurveyTruth]) -> None:
    plan, truth = moving
    mark = json.loads((truth.folder / "synth.json").read_text())
    later = {name: mark[name] for name in ("side_overlap", "passes", "break_s", "animal_speed_m_s")}
    assert later == {"side_overlap": 0.6, "passes": 2, "break_s": 30.0, "animal_speed_m_s": 1.0}
    assert "speed_m_s" not in mark
    survey = yaml.safe_load((truth.folder / "survey.yaml").read_text())
    assert survey["sampling"] == "total"
    assert sorted(path.name for path in (truth.folder / "images").iterdir()) == ["T01", "T01-2"]
    assert truth.frames == len(plan.flight.shots) == 4


def test_photos_tell_parts_of_a_second(moving: tuple[SurveyPlan, SurveyTruth]) -> None:
    plan, truth = moving
    times = [read_frame_metadata(frame_path(truth.folder, shot)).taken_at for shot in plan.flight.shots]
    assert times == [shot.taken_at for shot in plan.flight.shots]
    assert times[0] is not None
    assert times[1] is not None
    assert (times[1] - times[0]).total_seconds() == 1.2


def test_the_picture_shows_walkers_where_they_are_by_then(moving: tuple[SurveyPlan, SurveyTruth]) -> None:
    plan, truth = moving
    last, view = plan.flight.shots[-1], plan.flight.camera.view(plan.flight.shots[-1].true)
    with Image.open(frame_path(truth.folder, last)) as image:
        written = np.asarray(image.convert("L"), dtype=np.float64)
    now = expose(plan.scene_of(last), view)[0].mean(axis=2) ** (1 / 2.2)
    start = expose(plan.scene, view)[0].mean(axis=2) ** (1 / 2.2)
    changed = np.abs(now - start) > 0.05
    assert changed.sum() > 500
    assert np.corrcoef(now[changed], written[changed])[0, 1] > 0.9
    assert np.corrcoef(start[changed], written[changed])[0, 1] < 0.5


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"frames": 1}, "at least 2 frames"),
        ({"seed": -1}, "a seed from 0 on"),
        ({"frames": 4, "overlap": 0.95}, "an overlap of 0 to 0.9"),
        ({"frames": 4, "overlap": float("nan")}, "an overlap of 0 to 0.9"),
        ({"frames": 4, "side_overlap": 1.0}, "side overlap of 0 to 0.9"),
        ({"frames": 4, "height_m": 5.0}, "height of 20 to 200"),
        ({"frames": 4, "passes": 0}, "1 to 20 passes"),
        ({"frames": 4, "break_s": -1.0}, "break of 0 to 86400"),
        ({"frames": 4, "speed_m_s": 0.0}, "aircraft's speed of 1 to 100"),
        ({"frames": 4, "animal_speed_m_s": float("inf")}, "animals' speed of 0 to 20"),
        ({"frames": 4, "noise": PositionNoise(gps_m=-1.0)}, "noise from 0 on"),
        ({"frames": 1, "overlap": 2.0}, "at least 2 frames and an overlap"),
        ({"frames": 4, "transects": 9}, "4 frames cannot make 9 transects"),
    ],
)
def test_bad_parameters_are_refused(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        make_survey(tmp_path / "survey", **bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"density": -0.1}, "a density of 0 to 5"),
        ({"density": float("nan")}, "a density of 0 to 5"),
        ({"absent": "unicorn"}, "an absent species of sheep"),
        ({"biome": "moon"}, "a biome of savanna or other"),
        ({"light": "night"}, "a light of day or dusk"),
        ({"land_seed": -1}, "a seed of its land from 0 on"),
    ],
)
def test_other_kinds_of_survey_have_their_ranges(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SurveyDesign(**bad)


def test_a_kind_of_survey_is_named_where_it_is_not_the_usual_one() -> None:
    usual = SurveyDesign(frames=4).parameters()
    other = SurveyDesign(frames=4, density=0.2, absent="zebra", biome="other", light="dusk").parameters()
    assert other == usual | {"density": 0.2, "absent": "zebra", "biome": "other", "light": "dusk"}


def test_surveys_that_share_a_seed_of_their_land_have_one_kind_of_land() -> None:
    first = plan_survey(SurveyDesign(frames=4, seed=3, biome="other"))
    same = plan_survey(SurveyDesign(frames=4, seed=9, biome="other", land_seed=3))
    other = plan_survey(SurveyDesign(frames=4, seed=9, biome="other"))
    assert (same.scene.ground, same.scene.cover) == (first.scene.ground, first.scene.cover)
    assert (other.scene.ground, other.scene.cover) != (first.scene.ground, first.scene.cover)
    # The ground itself is another piece, with other animals.
    assert same.scene.seed != first.scene.seed
    assert same.scene.animals != first.scene.animals
    assert SurveyDesign(frames=4, land_seed=3).parameters()["land_seed"] == 3
