import os
import tempfile
from datetime import UTC
from pathlib import Path

import pytest

from transect.census import CensusConfig, load_config, load_survey
from transect.census.inputs.flights import match_flights, read_flights
from transect.errors import InputError, SurveyError
from transect.settings import Settings

ROOT = Path(__file__).parents[3]
CAMERA = "camera: {sensor_width_mm: 13.2, focal_mm: 8.8}\n"


def make(folder: Path, text: str = CAMERA, photos: tuple[str, ...] = ("T1/a.jpg",)) -> Path:
    (folder / "images").mkdir(parents=True)
    for photo in photos:
        path = folder / "images" / photo
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo")
    (folder / "survey.yaml").write_text(text)
    return folder


def test_photos_are_found_at_any_depth_and_in_any_case(tmp_path: Path) -> None:
    photos = ("a.JPG", "T1/b.jpeg", "T1/deep/c.PNG", "T2/d.Tif", "T2/e.tiff")
    folder = make(tmp_path / "s", photos=(*photos, "T1/notes.txt", "T1/._b.jpg", "T1/f.jpg.bak"))
    survey = load_survey(folder)
    assert [survey.name_of(path) for path in survey.images] == sorted(photos)


def test_name_defaults_to_the_folder(tmp_path: Path) -> None:
    assert load_survey(make(tmp_path / "Mara plains (2026)")).name == "Mara-plains--2026-"
    assert load_survey(make(tmp_path / "s", "name: north\nmodel: '@production'\n")).model == "@production"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [a\n", "not valid YAML at line"),
        ("- a\n- b\n", "must hold `key: value` lines"),
        ("sampling: total\nsampling: strip\n", "line 2, column 1: 'sampling' stands in line 1 already"),
        ("strata: [{name: a, area_km2: 1, area_km2: 2}]\n", "'area_km2' stands in line 1 already"),
        ("name: 2026/02/30\n", "name: string should match"),
        (f"name: {'9' * 5000}\n", "holds a value that cannot be read"),
        (f"strata: [{{name: a, area_km2: 1{'0' * 400}}}]\n", "area_km2"),
        ("[" * 5000 + "\n", "nested too deeply"),
        ("name: \x01\n", "not valid YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nstrata: [*c, *c]\n", "strata"),
        ("strata: &s [*s]\n", r"contains itself .* \(line 1, column 9\)"),
        ("nmae: north\n", "nmae is not a key"),
        ("schema: 2\n", "schema"),
        ("name: a/b\n", "name"),
        ("camera: {sensor_width_mm: -1}\n", r"camera.sensor_width_mm: .*greater than 0"),
        ("camera: {sensor_width_mm: .nan}\n", "camera.sensor_width_mm"),
        ("camera: {sensor_width_mm: 13, pixel_pitch_um: 2}\n", "are alternatives; give one"),
        ("height: {source: dem}\n", "source dem needs dem"),
        ("height: {dem: a.tif}\n", "need source dem"),
        ("height: {source: dem, dem: a.tif, altitude: gps, take_off: [35, -1]}\n", "take_off is for altitude relative"),
        ("height: {source: dem, dem: a.tif, vertical_offset_m: 3}\n", "vertical_offset_m is for altitude gps"),
        ("height: {source: dem, dem: a.tif, take_off: [-1, 135]}\n", "is not \\[longitude, latitude\\]"),
        ("height: {source: fixed}\n", "needs height_agl_m"),
        ("height: {source: gps_altitude}\n", "needs ground_elevation_m"),
        ("sampling: some\n", "sampling"),
        ("species: {sheep: '  '}\n", "a name needs more than spaces"),
        ("strata: [{name: a}]\n", "needs area_km2 or a polygon"),
        ("strata: [{name: a, area_km2: 1}, {name: a, area_km2: 2}]\n", "same name"),
        ("strata: [{name: a, area_km2: 1}, {name: b, area_km2: 2}]\n", "needs a polygon"),
        ("strata: [{name: a, polygon: [[0, 0], [1, 1]]}]\n", "at least three corners"),
        ("strata: [{name: a, polygon: [[0, 0], [1, 1], [0, 1], [1, 0]]}]\n", "crosses itself"),
        ("strata: [{name: a, polygon: [[0, 99], [1, 1], [0, 1]]}]\n", "is not \\[longitude, latitude\\]"),
        ("strata: [{name: a, area_km2: 1, polygon: [[0, 0], [1, 0], [1, 1], [0, 1]]}]\n", "its polygon holds"),
    ],
)
def test_a_bad_survey_yaml_gets_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    folder = make(tmp_path / "s", text)
    with pytest.raises(SurveyError, match=words) as caught:
        load_survey(folder)
    assert "survey.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="does not exist"):
        load_survey(tmp_path / "none")
    (tmp_path / "s").mkdir()
    with pytest.raises(SurveyError, match=r"survey\.yaml is missing"):
        load_survey(tmp_path / "s")
    (tmp_path / "s" / "survey.yaml").write_text(CAMERA)
    with pytest.raises(SurveyError, match="images is missing"):
        load_survey(tmp_path / "s")
    (tmp_path / "s" / "images").mkdir()
    with pytest.raises(SurveyError, match="holds no photos"):
        load_survey(tmp_path / "s")


def test_area_of_a_stratum_comes_from_its_polygon(tmp_path: Path) -> None:
    text = CAMERA + "strata: [{name: a, polygon: [[35, 0], [35.01, 0], [35.01, 0.01], [35, 0.01]]}]\n"
    assert load_survey(make(tmp_path / "s", text)).spec.strata[0].total_area_km2 == pytest.approx(1.231, abs=1e-3)


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    folder = make(tmp_path / "s", photos=("T1/a.jpg", "T2/b.jpg"))
    card = tmp_path / "card"
    card.mkdir()
    (card / "c.jpg").write_bytes(b"photo")
    (card / "back").symlink_to(folder / "images")
    (folder / "images" / "T3").symlink_to(card)
    (folder / "images" / "T1" / "self").symlink_to(folder)
    (folder / "images" / "A1").symlink_to(folder / "images" / "T1")
    (folder / "images" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    survey = load_survey(folder)
    assert [survey.name_of(path) for path in survey.images] == ["T1/a.jpg", "T2/b.jpg", "T3/c.jpg"]
    assert [survey.name_of(one.path) for one in survey.unusable] == ["gone.jpg"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    # Root may read everything, and pytest's own folder is the user's alone.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = make(Path(place) / "s", photos=("T1/a.jpg", "T2/b.jpg"))
        closed = folder / "images" / "T2"
        closed.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(SurveyError, match=r"images/T2 cannot be read: Permission denied"):
                load_survey(folder)
        finally:
            if root:
                os.seteuid(0)
            closed.chmod(0o755)


def test_names_that_are_no_text_are_written_so_that_they_are(tmp_path: Path) -> None:
    folder = make(tmp_path / "s")
    for name in (b"line\nbreak.jpg", b"caf\xe9.jpg"):
        Path(os.fsdecode(bytes(folder / "images") + b"/" + name)).write_bytes(b"photo")
    survey = load_survey(folder)
    names = [survey.name_of(path) for path in survey.images]
    assert names == ["T1/a.jpg", "caf\\xe9.jpg", "line\nbreak.jpg"]
    assert all(name.encode() for name in names)


def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="cannot be read: File name too long"):
        load_survey(tmp_path / ("s" * 10_000))


HEADER = "image,transect,lat,lon,height_agl_m,yaw_deg,time\n"


def test_flights_are_read_and_empty_cells_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv"
    path.write_text("\ufeff" + HEADER + "a.jpg,T1,-1.5,35.1,60,,2026-07-14T09:30:00Z\n")
    (row,) = read_flights(path)
    assert (row.image, row.transect, row.lat, row.lon, row.height_agl_m, row.yaw_deg) == (
        "a.jpg", "T1", -1.5, 35.1, 60, None,
    )  # fmt: skip
    assert row.time is not None
    assert row.time.tzinfo is UTC
    assert read_flights(tmp_path / "none.csv") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lat,lon\n1,2\n", "lacks the column image"),
        ("image,altitude\na.jpg,3\n", "unknown column 'altitude'"),
        ("image,lat\na.jpg,north\n", "line 2, column lat: 'north' is not a number"),
        ("image,lat\na.jpg,nan\n", "line 2, column lat: 'nan' is not a finite number"),
        ("image,lon\na.jpg,181\n", "outside -180 to 180"),
        ("image,lat,lon\na.jpg,0,0\n", "line 2: lat 0, lon 0 is not where a photo was taken"),
        ("image,lat,lon\na.jpg,1,\n", "line 2 gives one of lat and lon"),
        ("image,lat\na.jpg,84.5\n", "line 2, column lat: 84.5 is outside -84 to 84"),
        ("image,pitch_deg\na.jpg,-200\n", "line 2, column pitch_deg: -200 is outside"),
        ("image,roll_deg\na.jpg,inf\n", "line 2, column roll_deg: 'inf' is not a finite number"),
        ("image,accuracy_m\na.jpg,0\n", "line 2, column accuracy_m: 0 is outside"),
        (
            "image,time\na.jpg,1980-01-01T00:00:05\n",
            "line 2, column time: 1980-01-01T00:00:05 is of a clock",
        ),
        ("image,height_agl_m\na.jpg,-5\n", "line 2, column height_agl_m: -5 is outside"),
        ("image,time\na.jpg,yesterday\n", "line 2, column time: 'yesterday' is no time"),
        ("image\n\na.jpg\na.jpg\n", "in line 3 and in line 4"),
        ("image,lat\n,1\n", "line 2, column image: the row names no image"),
        ("image,lat\na.jpg,1,2\n", "line 2 has 3 cells, and the header line 2 columns"),
        ("image,lat,lat\na.jpg,1,2\n", "names the column lat twice"),
        ("image,lat\na.jpg,3_5\n", "column lat: '3_5' is not a number"),
        ("image,lat\na.jpg,1\x00\n", "is no text file"),
        (f"image\n{'a' * 30_000}\n", "line 2 has a cell of more than 20000 letters"),
    ],
)
def test_a_bad_flights_file_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "flights.csv"
    path.write_text(text)
    with pytest.raises(SurveyError, match=words):
        read_flights(path)


def test_rows_find_their_photos_by_path_or_by_name(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv"
    path.write_text("image\nT1/a.jpg\nb.jpg\nimages/T2/a.jpg\nlost.jpg\n")
    found, unused = match_flights(path, read_flights(path), ["T1/a.jpg", "T1/b.jpg", "T2/a.jpg"])
    assert {name: row.line for name, row in found.items()} == {"T1/a.jpg": 2, "T1/b.jpg": 3, "T2/a.jpg": 4}
    assert [row.image for row in unused] == ["lost.jpg"]


def test_a_row_that_fits_two_photos_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv"
    path.write_text("image\na.jpg\n")
    with pytest.raises(SurveyError, match="fits 2 photos"):
        match_flights(path, read_flights(path), ["T1/a.jpg", "T2/a.jpg"])


def test_two_rows_for_one_photo_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv"
    path.write_text("image\na.jpg\nT1/a.jpg\n")
    with pytest.raises(SurveyError, match="in line 2 and in line 3"):
        match_flights(path, read_flights(path), ["T1/a.jpg"])


def test_the_shipped_configuration_is_the_default() -> None:
    assert load_config(ROOT / "configs" / "census.yaml") == CensusConfig() == load_config()


@pytest.mark.parametrize(
    ("text", "words"),
    [("gps_eror_m: 1\n", "gps_eror_m is not a key"), ("conf: 2\n", "conf"), ("match_sigmas: .inf\n", "match_sigmas")],
)
def test_a_bad_configuration_names_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "census.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        load_config(path)
    assert "census.yaml" in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_configuration_wins_over_settings_and_settings_over_the_package() -> None:
    settings = Settings.model_validate({"TRANSECT_CONF": 0.4, "TRANSECT_TILE": "off"})
    options = CensusConfig(tile=640).detect_options(settings)
    assert (options.conf, options.tile, options.iou) == (0.4, 640, None)


WITH_DEM = "height: {{source: dem, dem: '{dem}'}}\n"


def test_a_dem_lies_in_the_survey_or_in_the_folder_of_dems(tmp_path: Path) -> None:
    folder, dems = make(tmp_path / "s", WITH_DEM.format(dem="terrain/a.tif")), tmp_path / "dems"
    # One that is missing raises where it is read.
    assert load_survey(folder).dem_path == folder / "terrain" / "a.tif"
    (dems / "terrain").mkdir(parents=True)
    (dems / "terrain" / "a.tif").touch()
    assert load_survey(folder, dems).dem_path == dems / "terrain" / "a.tif"
    (folder / "terrain").mkdir()
    (folder / "terrain" / "a.tif").touch()
    assert load_survey(folder, dems).dem_path == folder / "terrain" / "a.tif"
    for dem in ("../dems/terrain/a.tif", str(dems / "terrain" / "a.tif")):
        (folder / "survey.yaml").write_text(WITH_DEM.format(dem=dem))
        found = load_survey(folder, dems).dem_path
        assert found is not None
        assert found.resolve() == dems / "terrain" / "a.tif"
        with pytest.raises(SurveyError, match=r"dem: .*a\.tif lies outside of the survey folder .*TRANSECT_DEM_PATH"):
            load_survey(folder)


@pytest.mark.parametrize(
    "dem", ["../private.tif", "images/../../private.tif", "{root}/private.tif", "link.tif", "a/private.tif"]
)
def test_a_dem_outside_of_both_is_refused(tmp_path: Path, dem: str) -> None:
    (tmp_path / "private.tif").touch()
    (tmp_path / "dems").mkdir()
    folder = make(tmp_path / "s", WITH_DEM.format(dem=dem.format(root=tmp_path)))
    (folder / "link.tif").symlink_to(tmp_path / "private.tif")
    (folder / "a").symlink_to(tmp_path)
    for dems in (None, tmp_path / "dems"):
        with pytest.raises(SurveyError, match="lies outside of the survey folder"):
            load_survey(folder, dems)


@pytest.mark.parametrize("dem", ["/vsicurl/http://127.0.0.1:9/a.tif", "/vsizip/a.zip/a.tif"])
def test_no_file_system_of_gdal_is_a_place_for_a_dem(tmp_path: Path, dem: str) -> None:
    with pytest.raises(SurveyError, match="lies outside of the survey folder"):
        load_survey(make(tmp_path / "s", WITH_DEM.format(dem=dem)), tmp_path)


@pytest.mark.parametrize("name", ["survey.yaml", "flights.csv"])
def test_a_link_out_of_the_survey_is_refused(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "s")
    (tmp_path / "private").write_text("name: a\n")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "private")
    with pytest.raises(SurveyError, match=rf"{name} is a link to a file outside of the survey"):
        load_survey(folder)


def test_a_package_outside_of_the_survey_is_chosen_by_the_user_alone(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    folder = make(tmp_path / "s", f"model: {tmp_path / 'package'}\n")
    with pytest.raises(SurveyError, match="is a folder outside of the survey; choose it yourself, with --model"):
        load_survey(folder)
    (folder / "package").mkdir()
    (folder / "survey.yaml").write_text(f"model: {folder / 'package'}\n")
    assert load_survey(folder).model == str(folder / "package")
