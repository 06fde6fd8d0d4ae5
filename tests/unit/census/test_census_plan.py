"""Surveys of real files, with EXIF and XMP, from the folder to the plan and to the dry run."""

import json
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from transect.census import CensusConfig, Plan, load_survey, plan_census
from transect.census.dry_run import DryRun, dry_run
from transect.census.ground.geometry import Grid, Pose
from transect.census.ground.placement.cameras import cameras_of
from transect.census.outputs.geodata import write_coverage
from transect.errors import SurveyError
from transect.settings import load_settings

# A small copy of a Phantom 4 RTK's picture: at 64 m a photo shows about 96 m by 64 m.
WIDTH, HEIGHT = 96, 64
# Its sensor is 13.133 mm wide, not the 13.2 mm of the trade's name for it.
AREA_M2 = 96 * 64 * (13.133 / 13.2) ** 2
START = datetime(2026, 7, 14, 9, 30)  # noqa: DTZ001 - camera clocks have no zone
GRID = Grid(32736)
ORIGIN = (500_000.0, 9_830_000.0)


def sexagesimal(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    micro = round(abs(degrees) * 3_600_000_000)
    return IFDRational(micro // 3_600_000_000, 1), IFDRational(micro // 60_000_000 % 60, 1), IFDRational(
        micro % 60_000_000, 1_000_000
    )  # fmt: skip


def photo(path: Path, lon: float, lat: float, **metadata: Any) -> None:
    """Write a small photo like a drone's; `metadata`: model, time, focal, altitude, and XMP's names."""
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "DJI", metadata.pop("model", "FC6310R")
    exif.get_ifd(IFD.Exif).update(
        {
            Base.DateTimeOriginal: metadata.pop("time", START).strftime("%Y:%m:%d %H:%M:%S"),
            Base.FocalLength: IFDRational(round(metadata.pop("focal", 8.8) * 100), 100),
        }
    )
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "S" if lat < 0 else "N",
            GPS.GPSLatitude: sexagesimal(lat),
            GPS.GPSLongitudeRef: "W" if lon < 0 else "E",
            GPS.GPSLongitude: sexagesimal(lon),
            GPS.GPSAltitude: IFDRational(round(metadata.pop("altitude", 1714.0) * 100), 100),
        }
    )
    xmp = {"RelativeAltitude": "+64.00", "GimbalYawDegree": "0.0", "GimbalPitchDegree": "-90.0"} | metadata
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = " ".join(f'drone-dji:{name}="{value}"' for name, value in xmp.items())
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, xmp=f"<rdf:Description {attributes}/>".encode())


def line(folder: Path, transect: str, east: float, photos: int = 3, step_m: float = 32.0, **metadata: Any) -> None:
    """A transect flown north from ORIGIN."""
    for number in range(photos):
        lon, lat = GRID.inverse(np.array([[ORIGIN[0] + east, ORIGIN[1] + number * step_m]]))[0]
        time = START + timedelta(seconds=east + 3 * number)
        photo(folder / "images" / transect / f"{number:03}.jpg", lon, lat, **({"time": time} | metadata))


def survey(folder: Path, **keys: Any) -> Path:
    (folder / "survey.yaml").write_text(yaml.safe_dump({"name": "s"} | keys))
    return folder


def planned(folder: Path, **keys: Any) -> Plan:
    return plan_census(load_survey(survey(folder, **keys)), CensusConfig())


def plan_dry_run(folder: Path, **keys: Any) -> DryRun:
    return dry_run(
        load_survey(survey(folder, **keys)), CensusConfig(), load_settings({}, None), detector=None, why_not="x"
    )


def corners(west: float, south: float, east: float, north: float) -> list[list[float]]:
    """A rectangle in metres from ORIGIN as corners in degrees."""
    xy = np.array([[west, south], [east, south], [east, north], [west, north]]) + ORIGIN
    return [[float(lon), float(lat)] for lon, lat in GRID.inverse(xy)]


def test_a_known_drone_needs_no_camera_in_survey_yaml(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0)
    plan = planned(tmp_path)
    pose = plan.poses[0]
    assert isinstance(pose, Pose)
    assert (pose.x, pose.y) == pytest.approx(ORIGIN, abs=1e-3)
    assert plan.coverage.footprints[0].area / GRID.scale_at(np.array([ORIGIN]))[0] ** 2 == pytest.approx(
        AREA_M2, rel=0.002
    )
    assert cameras_of(frame.placement for frame in plan.frames)[0]["camera"] == "DJI FC6310R"


def test_cameras_mix_where_each_is_known_and_not_under_one_for_all(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0)
    line(tmp_path, "T2", 300, model="FC3411", focal=8.38)
    plan = planned(tmp_path)
    assert [(one["camera"], one["photos"]) for one in cameras_of(frame.placement for frame in plan.frames)] == [
        ("DJI FC3411", 3),
        ("DJI FC6310R", 3),
    ]
    camera = {"sensor_width_mm": 13.2, "focal_mm": 8.8}
    with pytest.raises(SurveyError, match=r"several \(DJI FC3411, DJI FC6310R\); give each its own as `cameras"):
        planned(tmp_path, camera=camera)
    assert planned(tmp_path, camera=camera, cameras={"FC3411": {"sensor_width_mm": 13.0}}).issues == ()


def test_height_above_a_slope_follows_the_terrain(tmp_path: Path) -> None:
    """Ground that rises by 1 m in 8 to the north, and a drone that keeps its height above the take-off."""
    line(tmp_path, "T1", 0)
    rows = np.arange(100, dtype=np.float32)[:, None]
    transform = rasterio.Affine(8, 0, ORIGIN[0] - 400, 0, -8, ORIGIN[1] + 404)
    with rasterio.open(
        tmp_path / "dem.tif", "w", driver="GTiff", dtype="float32", crs="EPSG:32736", transform=transform,
        width=100, height=100, count=1,
    ) as dem:  # fmt: skip
        dem.write(np.repeat(1700 - rows, 100, axis=1), 1)

    def heights(**rule: Any) -> list[float]:
        plan = planned(tmp_path, height={"source": "dem", "dem": "dem.tif"} | rule)
        return [pose.height_m / 0.9996 for pose in plan.poses if isinstance(pose, Pose)]

    assert heights() == pytest.approx([64, 60, 56], abs=0.01)
    south = GRID.inverse(np.array([[ORIGIN[0], ORIGIN[1] - 80]]))[0].tolist()
    assert heights(take_off=south) == pytest.approx([54, 50, 46], abs=0.01)
    assert heights(altitude="gps", vertical_offset_m=-10) == pytest.approx([54, 50, 46], abs=0.01)
    with pytest.raises(SurveyError, match=r"none\.tif does not exist"):
        heights(dem="none.tif")


def test_a_clock_that_was_not_set_is_named_and_the_photo_counts(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0)
    line(tmp_path, "T2", 300, photos=1, time=datetime(1980, 1, 1))  # noqa: DTZ001 - as above
    plan = planned(tmp_path)
    (found,) = plan.issues
    assert (found.file, found.kind) == ("T2/000.jpg", "remark")
    assert "1980-01-01: the camera's clock was not set" in found.reason
    assert plan.frames[-1].taken_at is None
    assert plan.poses[-1] is not None


def test_a_photo_on_the_other_side_of_the_world_has_no_common_grid(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0)
    photo(tmp_path / "images" / "T1" / "far.jpg", 77.0, 20.0)
    plan = planned(tmp_path)
    problems = {frame.name: frame.problem for frame in plan.frames if frame.problem}
    assert list(problems) == ["T1/far.jpg"]
    assert "too far from the middle of the survey (UTM 36S)" in problems["T1/far.jpg"]
    assert plan.grid.epsg == 32736


def test_a_survey_across_the_antimeridian(tmp_path: Path) -> None:
    for number, lon in enumerate((179.9995, 179.9999, -179.9997)):
        photo(tmp_path / "images" / "T1" / f"{number}.jpg", lon, -17.0, time=START + timedelta(seconds=5 * number))
    polygon = [[179.99, -17.01], [-179.99, -17.01], [-179.99, -16.99], [179.99, -16.99]]
    plan = planned(tmp_path, strata=[{"name": "a", "polygon": polygon}])
    assert plan.issues == ()
    (unit,) = plan.coverage.units
    # 85 m from the first to the last photo, and one more photo's width.
    assert unit.area_km2 == pytest.approx((85.2 + 96) * 64 / 1e6, rel=0.01)
    write_coverage(tmp_path / "coverage.geojson", plan.frames, plan.coverage, plan.grid)
    features = json.loads((tmp_path / "coverage.geojson").read_text())["features"]
    kinds = {feature["properties"]["name"]: feature["geometry"]["type"] for feature in features}
    assert kinds["a"] == kinds["T1"] == "MultiPolygon"
    for feature in features:
        geometry = feature["geometry"]
        parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        for part in parts:
            longitudes = [lon for lon, _ in part[0]]
            assert max(longitudes) - min(longitudes) < 0.02
    west, _, east, _ = plan_dry_run(tmp_path, strata=[{"name": "a", "polygon": polygon}]).bounds
    assert (west, east) == pytest.approx((179.9995, -179.9997))


def mosaic(path: Path, east: float, width: int = 400, height: int = 200) -> None:
    """An orthomosaic of 1 m a pixel whose last 100 columns hold nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(1).integers(1, 255, (3, height, width), dtype=np.uint8)
    pixels[:, :, width - 100 :] = 0
    transform = rasterio.Affine(1, 0, ORIGIN[0] + east, 0, -1, ORIGIN[1])
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", crs="EPSG:32736", transform=transform,
        width=width, height=height, count=3, nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)


def test_a_map_is_counted_in_every_stratum_that_it_shows(tmp_path: Path) -> None:
    mosaic(tmp_path / "images" / "map.tif", 0)
    strata = [
        {"name": "west", "polygon": corners(0, -300, 100, 100)},
        {"name": "east", "polygon": corners(100, -300, 1000, 100)},
    ]
    plan = planned(tmp_path, sampling="total", strata=strata)
    scale = 0.9996**2
    assert [(unit.stratum, round(unit.area_km2 * scale, 5)) for unit in plan.coverage.units] == [
        ("west", 0.02),
        ("east", 0.04),
    ]
    run = plan_dry_run(tmp_path, sampling="total", strata=strata)
    assert run.gsd_m is not None
    assert run.gsd_m.median == pytest.approx(1 / 0.9996)
    assert (run.height_m, run.cameras, run.overlap) == (None, (), None)


def test_maps_and_photos_are_not_mixed(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0)
    mosaic(tmp_path / "images" / "map.tif", 0)
    with pytest.raises(SurveyError, match=r"mixes orthomosaics \(map\.tif\) and photos \(T1/000\.jpg\)"):
        planned(tmp_path)


def test_total_coverage_is_held_against_its_strata(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0)
    with pytest.raises(SurveyError, match=r"The photos cover 0\.01\d+ km2, more than the 0\.01 km2 of stratum a"):
        planned(tmp_path, sampling="total", strata=[{"name": "a", "area_km2": 0.01}])
    with pytest.raises(SurveyError, match="lies in a stratum: check the strata's polygons"):
        planned(tmp_path, sampling="total", strata=[{"name": "a", "polygon": corners(2000, 0, 3000, 500)}])


def test_tilted_photos_show_more_ground_ahead(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0, photos=2, GimbalPitchDegree="-75.0")
    plan = planned(tmp_path)
    ahead = [footprint.centroid.y - ORIGIN[1] for footprint in plan.coverage.footprints.values()]
    assert ahead[0] > 64 * math.tan(math.radians(15))
    run = plan_dry_run(tmp_path)
    assert run.off_nadir_deg is not None
    assert run.off_nadir_deg.median == pytest.approx(15)
    line(tmp_path, "T2", 300, photos=1, GimbalPitchDegree="-60.0")
    (unusable,) = plan_dry_run(tmp_path).unusable
    assert (unusable.file, unusable.kind) == ("T2/000.jpg", "unplaced")
    assert "30.0 degrees off the vertical; the limit is 20" in unusable.reason


def test_a_dry_run_tells_what_a_census_would_be(tmp_path: Path) -> None:
    line(tmp_path, "T1", 0)
    line(tmp_path, "T2", 300)
    (tmp_path / "images" / "T2" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "flights.csv").write_text("image\nlost.jpg\n")
    run = plan_dry_run(tmp_path, strata=[{"name": "plain", "area_km2": 0.25}])
    assert (run.images, run.placed, run.transects) == (7, 6, 2)
    assert [(one.file, one.kind) for one in run.unusable] == [("T2/broken.jpg", "unreadable")]
    assert [(one.file, one.kind) for one in run.remarks] == [("lost.jpg", "unused")]
    # Photos of 64 m every 32 m: half of each is in the next; three of a transect make 128 m.
    assert run.area_km2 == pytest.approx(2 * 2 * AREA_M2 / 1e6, rel=0.01)
    assert run.overlap is not None
    assert run.overlap.forward == pytest.approx(0.5, abs=0.01)
    assert run.overlap.shared == pytest.approx((0.5 + 1 + 0.5) / 3, abs=0.01)
    assert run.overlap.across == 0
    assert run.overlap.looks == pytest.approx(1.5, abs=0.01)
    (stratum,) = run.strata
    assert stratum.transects == 2
    assert stratum.sampled_share == pytest.approx(run.area_km2 / 0.25)
    assert run.time.why_not == "x"
    content = json.dumps(run.to_json(), allow_nan=False)
    assert json.loads(content)["height_m"] == {"least": 64.0, "median": 64.0, "most": 64.0}
    assert not (tmp_path / "results").exists()
