"""Surveys whose files say where and when in another way than usual, from the folder to the dry run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from PIL import Image
from PIL.ExifTags import GPS, IFD
from PIL.TiffImagePlugin import IFDRational

from transect.census import CensusConfig, load_survey
from transect.census.dry_run import DryRun, dry_run
from transect.errors import SurveyError
from transect.settings import load_settings

PLAIN = [[35.0, -1.6], [35.2, -1.6], [35.2, -1.4], [35.0, -1.4]]
FAR = [[45.0, -1.6], [45.2, -1.6], [45.2, -1.4], [45.0, -1.4]]


def survey(folder: Path, rows: list[str], columns: str, photos: int = 3, **keys: Any) -> Path:
    """Photos of 96 by 64 px; `rows` of flights.csv may be none. At 60 m a photo shows 90 m by 60 m."""
    (folder / "images" / "T1").mkdir(parents=True)
    for number in range(1, photos + 1):
        exif = Image.Exif()
        exif.get_ifd(IFD.GPSInfo)[GPS.GPSAltitude] = IFDRational(130)
        Image.fromarray(np.full((64, 96, 3), number, np.uint8)).save(folder / f"images/T1/a{number}.jpg", exif=exif)
    if rows:
        (folder / "flights.csv").write_text(columns + "\n" + "\n".join(rows) + "\n")
    strata = [{"name": "plain", "polygon": PLAIN}]
    spec = {"name": "s", "camera": {"sensor_width_mm": 13.2, "focal_mm": 8.8}, "strata": strata} | keys
    (folder / "survey.yaml").write_text(yaml.safe_dump(spec))
    return folder


def plan_dry_run(folder: Path) -> DryRun:
    return dry_run(load_survey(folder), CensusConfig(), load_settings({}, None), detector=None, why_not="x")


def rows(*more: str, step: float = 0.0004) -> list[str]:
    return [f"a{number}.jpg,{-1.5 + step * number:.6f},35.1,0{one}" for number, one in enumerate(more, 1)]


def dem(folder: Path, metres: np.ndarray[Any, Any], **tags: Any) -> None:
    height, width = metres.shape
    with rasterio.open(
        folder / "dem.tif", "w", driver="GTiff", dtype="float32", crs=tags.pop("crs", "EPSG:4326"),
        transform=rasterio.Affine(0.2 / width, 0, 35.0, 0, -0.2 / height, -1.4), width=width, height=height, count=1,
    ) as written:  # fmt: skip
        written.write(metres.astype(np.float32), 1)
        if tags:
            written.units = (tags["unit"],)


def test_offsets_of_flights_put_photos_in_their_order(tmp_path: Path) -> None:
    times = (",60,2025-07-15T13:00:01+03:00", ",60,2025-07-15T10:00:02Z", ",60,2025-07-15 10:00:03+0000")
    folder = survey(tmp_path, rows(*times), "image,lat,lon,yaw_deg,height_agl_m,time")
    run = plan_dry_run(folder)
    (note,) = run.remarks
    assert (note.file, note.kind) == ("flights.csv", "note")
    assert "UTC: 2 photos, +03:00: 1 photo" in note.reason


@pytest.mark.parametrize(
    "tags", [{"unit": "ft"}, {"unit": "feet"}, {"crs": "EPSG:4326+8228"}, {"crs": "EPSG:4326+6360"}]
)
def test_a_dem_in_feet_gives_heights_in_metres(tmp_path: Path, tags: dict[str, str]) -> None:
    height = {"source": "dem", "dem": "dem.tif", "altitude": "gps"}
    folder = survey(tmp_path, rows("", "", ""), "image,lat,lon,yaw_deg", height=height)
    dem(folder, np.full((50, 50), 98.4252), **tags)
    run = plan_dry_run(folder)
    assert run.height_m is not None
    assert (run.height_m.least, run.height_m.most) == pytest.approx((100, 100), abs=0.01)
    assert any("they are read as metres x 0.3048" in one.reason for one in run.remarks)


def test_voids_of_a_dem_are_reasons_and_no_heights(tmp_path: Path) -> None:
    height = {"source": "dem", "dem": "dem.tif", "altitude": "gps"}
    folder = survey(tmp_path, rows(*[""] * 6, step=0.008), "image,lat,lon,yaw_deg", photos=6, height=height)
    ground = np.full((50, 50), 30.0)
    # Photos stand two cells apart, the first in the 24th row from the north.
    ground[20:22] = -9999.0
    ground[17] = 8000.0
    dem(folder, ground)
    run = plan_dry_run(folder)
    assert run.height_m is not None
    assert (run.height_m.least, run.height_m.most) == pytest.approx((100, 100), abs=0.01)
    assert run.placed + len(run.unusable) == 6
    assert any("holds -9999 at its position, which is no height on Earth" in one.reason for one in run.unusable)


def test_an_impossible_height_says_what_to_look_at(tmp_path: Path) -> None:
    height = {"source": "dem", "dem": "dem.tif", "altitude": "gps"}
    folder = survey(tmp_path, rows("", "", ""), "image,lat,lon,yaw_deg", height=height)
    dem(folder, np.full((50, 50), 3833.0))
    with pytest.raises(SurveyError, match=r"-3703 m is impossible: .*3833 m of terrain.*the DEM's unit"):
        plan_dry_run(folder)


def test_rows_that_name_no_photo_are_named_where_nothing_is_placed(tmp_path: Path) -> None:
    folder = survey(tmp_path, ["lost.jpg,-1.5,35.1,0,60"], "image,lat,lon,yaw_deg,height_agl_m")
    with pytest.raises(SurveyError, match=r"1 of its rows name no photo \(line 2: lost\.jpg\)") as caught:
        plan_dry_run(folder)
    assert "add flights.csv" not in str(caught.value)


def test_photos_far_from_every_stratum_are_told_how_far(tmp_path: Path) -> None:
    times = (",60", ",60", ",60")
    columns = "image,lat,lon,yaw_deg,height_agl_m"
    mirrored = [row.replace(",-1.", ",1.") for row in rows(*times)]
    with pytest.raises(SurveyError, match="with the other sign of its latitude it would lie there"):
        plan_dry_run(survey(tmp_path / "north", mirrored, columns))
    with pytest.raises(SurveyError, match=r"lies 1\.\d+e\+03 km from stratum far"):
        plan_dry_run(survey(tmp_path / "far", rows(*times), columns, strata=[{"name": "far", "polygon": FAR}]))


LOCAL = 'LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


@pytest.mark.parametrize(
    ("crs", "words"), [(None, r"set it, with gdal_edit\.py"), (LOCAL, r"local coordinates.*gdal_edit\.py -a_srs")]
)
def test_a_map_is_given_the_advice_of_maps(tmp_path: Path, crs: str | None, words: str) -> None:
    (tmp_path / "images").mkdir()
    with rasterio.open(
        tmp_path / "images" / "map.tif", "w", driver="GTiff", dtype="uint8", width=64, height=64, count=3,
        transform=rasterio.Affine(1, 0, 500_000, 0, -1, 9_830_000), crs=crs,
    ) as written:  # fmt: skip
        written.write(np.full((3, 64, 64), 99, np.uint8))
    (tmp_path / "survey.yaml").write_text("name: s\n")
    with pytest.raises(SurveyError, match=rf"No map of survey .*{words}") as caught:
        plan_dry_run(tmp_path)
    assert "flights.csv" not in str(caught.value)


def test_an_unreadable_offset_is_refused_and_yaml_numbers_are_understood(tmp_path: Path) -> None:
    folder = survey(tmp_path, rows(",60", ",60", ",60"), "image,lat,lon,yaw_deg,height_agl_m", utc_offset="Mars")
    with pytest.raises(SurveyError, match="'Mars' is no offset from UTC"):
        load_survey(folder)
    for written, minutes in (("+10:30", 630), ("'+03:00'", 180), ("-9", -540), ("Z", 0)):
        (folder / "survey.yaml").write_text(f"name: s\nutc_offset: {written}\n")
        offset = load_survey(folder).spec.clock_offset
        assert offset is not None
        assert offset.utcoffset(None).total_seconds() == 60 * minutes
