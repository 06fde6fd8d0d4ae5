"""The census on an orthomosaic: animals where the map says, its own ground as the area, no camera anywhere."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from transect.census import CensusConfig, load_survey, plan_census, run_census
from transect.census.ground.orthomosaic import Georeference
from transect.census.ground.placement.frames import Placement
from transect.engine import Detector
from transect.errors import SurveyError
from transect.settings import load_settings

WEST, NORTH, GSD = 500_000.0, 9_830_000.0, 0.5
RED = (255, 0, 0)


def paint(path: Path, west: float, cells: list[tuple[int, int]], width: int = 192, height: int = 128) -> None:
    """A grey map with red squares of 8 px in (column, row) cells of 8 px, and nothing in its last 32 columns."""
    pixels = np.full((3, height, width), 90, np.uint8)
    for column, row in cells:
        pixels[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = np.array(RED, np.uint8)[:, None, None]
    mask = np.full((height, width), 255, np.uint8)
    mask[:, width - 32 :] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", crs="EPSG:32736",
        transform=rasterio.Affine(GSD, 0, west, 0, -GSD, NORTH),
        width=width, height=height, count=4, photometric="RGB", alpha="YES",
    ) as dataset:  # fmt: skip
        dataset.write(np.concatenate([pixels, mask[None]]))


def test_maps_are_counted_where_they_lie_and_overlapping_tiles_once(dot_package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "survey"
    # The second tile begins 64 px further east: its cells are eight less, and one animal is in both.
    paint(folder / "images" / "a.tif", WEST, [(2, 3), (12, 9)])
    paint(folder / "images" / "b.TIF", WEST + 64 * GSD, [(4, 9), (15, 2)])
    (folder / "survey.yaml").write_text("sampling: total\nstrata: [{name: plain, area_km2: 0.02}]\n")
    with Detector.open(dot_package, threads=1) as detector:
        result = run_census(
            load_survey(folder),
            out=tmp_path / "out",
            detector=detector,
            config=CensusConfig(overlap=16, thumbnails=2),
            settings=load_settings({}, None),
        )
    assert result.issues == ()
    sheep = next(row for row in result.rows if row.species == "sheep")
    assert (sheep.seen, sheep.unique) == (4, 3)
    # 160 columns of each hold ground, 64 of them stand in one alone: 224 by 128 pixels of half a metre.
    assert sheep.area_km2 == pytest.approx(224 * 128 * GSD**2 / 0.9996**2 / 1e6, rel=1e-3)
    assert result.manifest["height_m"] is None
    assert result.manifest["cameras"] == []
    assert result.manifest["gsd_m"]["median"] == pytest.approx(GSD / 0.9996)
    with (result.folder / "animals.csv").open(newline="") as stream:
        places = [(float(one["easting"]), float(one["northing"])) for one in csv.DictReader(stream)]
    expected = [
        (WEST + (8 * column + 4) * GSD, NORTH - (8 * row + 4) * GSD) for column, row in ((2, 3), (12, 9), (23, 2))
    ]
    assert np.array(sorted(places)) == pytest.approx(np.array(sorted(expected)), abs=0.1)
    assert "by the georeference of its map" in result.report.read_text()


def test_what_a_file_holds_makes_it_a_map_and_not_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "survey"
    for number, name in enumerate(("a.gtiff", "b.TIFF", "c", "d.jpg")):
        paint(folder / "images" / name, WEST + 80 * number, [])
    (folder / "survey.yaml").write_text("sampling: total\nstrata: [{name: plain, area_km2: 1}]\n")
    plan = plan_census(load_survey(folder), CensusConfig())
    assert [frame.name for frame in plan.frames] == ["a.gtiff", "b.TIFF", "c", "d.jpg"]
    assert all(isinstance(frame.placement, Georeference) for frame in plan.frames)
    # 160 of 192 columns of each hold ground; they lie side by side.
    assert plan.coverage.area_km2 == pytest.approx(4 * 160 * 128 * GSD**2 / 0.9996**2 / 1e6, rel=1e-3)


def test_a_jpeg_named_as_a_tiff_is_a_photo(tmp_path: Path) -> None:
    folder = tmp_path / "survey"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (96, 64), (9, 99, 9)).save(folder / "images" / "a.tif", "JPEG")
    (folder / "flights.csv").write_text("image,lat,lon,height_agl_m,yaw_deg\na.tif,-1.5,33.0,60,0\n")
    (folder / "survey.yaml").write_text("sampling: total\ncamera: {sensor_width_mm: 13.2, focal_mm: 8.8}\n")
    (frame,) = plan_census(load_survey(folder), CensusConfig()).frames
    assert isinstance(frame.placement, Placement)
    assert not frame.is_map


def test_a_map_that_hides_its_empty_pixels_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "survey"
    (folder / "images").mkdir(parents=True)
    pixels = np.full((3, 100, 100), 90, np.uint8)
    pixels[:, :30] = 255
    with rasterio.open(
        folder / "images" / "a.tif", "w", driver="GTiff", dtype="uint8", crs="EPSG:32736",
        transform=rasterio.Affine(1, 0, WEST, 0, -1, NORTH), width=100, height=100, count=3,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    (folder / "survey.yaml").write_text("sampling: total\n")
    with pytest.raises(SurveyError, match=r"a\.tif: no area: 30% of it is black or white"):
        plan_census(load_survey(folder), CensusConfig())
