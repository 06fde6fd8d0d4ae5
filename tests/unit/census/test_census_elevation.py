import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer

from transect.census.ground.placement.elevation import PhotoTerrain, height_above, sample_terrain
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.survey import HeightSpec
from transect.errors import SurveyError
from transect.imagery import FrameMetadata

RELATIVE = HeightSpec(source="dem", dem="dem.tif")
GPS = HeightSpec(source="dem", dem="dem.tif", altitude="gps", vertical_offset_m=-12.0)
UTM = Transformer.from_crs("EPSG:4326", "EPSG:32736", always_xy=True)
WEST, NORTH, CELL = 700_000.0, 9_850_000.0, 30.0


def slope(side: int = 40) -> NDArray[np.float32]:
    """1500 m at the middle of the upper left cell; each cell east is 2 m higher, each south 1 m lower."""
    return np.asarray(1500 + 2 * np.arange(side)[None] - np.arange(side)[:, None], np.float32)


def write(path: Path, cells: NDArray[np.float32], crs: str | None = "EPSG:32736", **more: object) -> Path:
    transform = rasterio.Affine(CELL, 0, WEST, 0, -CELL, NORTH)
    size = {"width": cells.shape[1], "height": cells.shape[0], "count": 1}
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", crs=crs, transform=transform, **size, **more) as dem:
        dem.write(cells, 1)
    return path


def at(path: Path, east: float, south: float) -> float:
    """The elevation so many cells from the DEM's corner."""
    lon, lat = UTM.transform(WEST + east * CELL, NORTH - south * CELL, direction="INVERSE")
    return float(sample_terrain(path, np.array([lon]), np.array([lat]), RELATIVE).elevations_m[0])


@pytest.mark.parametrize(
    ("east", "south", "metres"),
    [(0.5, 0.5, 1500), (1.5, 0.5, 1502), (10.75, 7.25, 1500 + 2 * 10.25 - 6.75), (39.9, 39.9, 1539), (0.1, 0.5, 1500)],
)
def test_terrain_is_read_between_the_middles_of_cells(tmp_path: Path, east: float, south: float, metres: float) -> None:
    assert at(write(tmp_path / "dem.tif", slope()), east, south) == pytest.approx(metres, abs=1e-3)


def test_a_dem_in_degrees_serves_as_well(tmp_path: Path) -> None:
    path = tmp_path / "dem.tif"
    transform = rasterio.Affine(0.001, 0, 35.0, 0, -0.001, -1.0)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="int16", crs="EPSG:4326", transform=transform, width=9, height=9, count=1
    ) as dem:
        dem.write(np.arange(81, dtype=np.int16).reshape(9, 9), 1)
        dem.scales, dem.offsets = (0.5,), (100.0,)
    found = sample_terrain(path, np.array([35.0025, 36.0]), np.array([-1.0015, -1.0]), RELATIVE).elevations_m
    assert found[0] == pytest.approx(100 + 0.5 * (9 + 2))
    assert np.isnan(found[1])


def test_ground_without_data_is_nowhere(tmp_path: Path) -> None:
    cells = slope()
    cells[10, 10] = -9999
    path = write(tmp_path / "dem.tif", cells, nodata=-9999)
    assert np.isnan(at(path, 10.9, 10.9))
    assert np.isfinite(at(path, 14.5, 14.5))
    assert np.isnan(at(path, -1, 5))


def test_points_far_apart_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "dem.tif", slope())
    lon, lat = UTM.transform(
        WEST + np.array([39.5, 0.5, 20.5]) * CELL, NORTH - np.array([39.5, 0.5, 3.5]) * CELL, direction="INVERSE"
    )
    at_once = sample_terrain(path, lon, lat, RELATIVE).elevations_m
    monkeypatch.setattr("transect.census.ground.placement.elevation._MOST_CELLS", 4)
    assert sample_terrain(path, lon, lat, RELATIVE).elevations_m == pytest.approx(at_once)
    assert at_once == pytest.approx([1539, 1500, 1537], abs=1e-3)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_dem_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    here = np.array([35.0]), np.array([-1.0])
    with pytest.raises(SurveyError, match=r"none\.tif does not exist; survey\.yaml names it"):
        sample_terrain(tmp_path / "none.tif", *here, RELATIVE)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(SurveyError, match=r"text\.tif cannot be read as an elevation model"):
        sample_terrain(tmp_path / "text.tif", *here, RELATIVE)
    with pytest.raises(SurveyError, match=r"plain\.tif does not say where it lies"):
        sample_terrain(write(tmp_path / "plain.tif", slope(), crs=None), *here, RELATIVE)


def test_height_is_taken_from_the_take_off_or_from_gps() -> None:
    assert height_above(PhotoTerrain(1480.0, 1500.0), RELATIVE, FrameMetadata(relative_altitude_m=60.0)) == 80.0
    assert height_above(PhotoTerrain(1480.0), GPS, FrameMetadata(gps_altitude_m=1560.0)) == 68.0


@pytest.mark.parametrize(
    ("ground", "rule", "relative", "gps", "words"),
    [
        (None, RELATIVE, 60.0, 1.0, "dem.tif holds no elevation for its position"),
        (PhotoTerrain(float("nan"), 1500.0), RELATIVE, 60.0, 1.0, "dem.tif holds no elevation for its position"),
        (PhotoTerrain(1480.0, float("nan")), RELATIVE, 60.0, 1.0, "set height: take_off"),
        (PhotoTerrain(1480.0, 1500.0), RELATIVE, None, 1.0, "no RelativeAltitude"),
        (PhotoTerrain(1480.0), GPS, 60.0, None, "no GPSAltitude"),
    ],
)
def test_what_is_missing_is_said(
    ground: PhotoTerrain | None, rule: HeightSpec, relative: float | None, gps: float | None, words: str
) -> None:
    with pytest.raises(UnplacedError, match=re.escape(words)):
        height_above(ground, rule, FrameMetadata(relative_altitude_m=relative, gps_altitude_m=gps))


@pytest.mark.parametrize(
    ("crs", "unit", "metres"),
    [
        ("EPSG:32736", "ft", 0.3048),
        ("EPSG:32736", "US survey foot", 1200 / 3937),
        ("EPSG:32736+6360", None, 1200 / 3937),
        ("EPSG:32736+8228", None, 0.3048),
        ("EPSG:32736+5773", None, 1.0),
        ("EPSG:32736", "cm", 0.01),
        ("EPSG:32736", "metres above sea level", 1.0),
    ],
)
def test_elevations_are_read_in_the_unit_of_the_file(tmp_path: Path, crs: str, unit: str | None, metres: float) -> None:
    path = write(tmp_path / "dem.tif", np.full((40, 40), 98.4, np.float32), crs=crs)
    if unit is not None:
        with rasterio.open(path, "r+") as dem:
            dem.units = (unit,)
    lon, lat = UTM.transform(WEST + 300, NORTH - 300, direction="INVERSE")
    found = sample_terrain(path, np.array([lon]), np.array([lat]), RELATIVE)
    assert found.elevations_m[0] == pytest.approx(98.4 * metres, rel=1e-5)
    assert any("they are read as metres x" in note for note in found.notes) == (metres != 1.0)


def test_units_that_contradict_or_are_unknown_are_asked_for(tmp_path: Path) -> None:
    here = np.array([35.0]), np.array([-1.0])
    path = write(tmp_path / "dem.tif", slope(), crs="EPSG:32736+5773")
    with rasterio.open(path, "r+") as dem:
        dem.units = ("ft",)
    with pytest.raises(SurveyError, match=r"contradicts itself: its band is in feet.*in metres; set height"):
        sample_terrain(path, *here, RELATIVE)
    path = write(tmp_path / "rods.tif", slope())
    with rasterio.open(path, "r+") as dem:
        dem.units = ("rods",)
    with pytest.raises(SurveyError, match="'rods', which is no known unit; set height"):
        sample_terrain(path, *here, RELATIVE)
    with pytest.raises(SurveyError, match="does not say whether its elevations are metres"):
        sample_terrain(write(tmp_path / "california.tif", slope(), crs="EPSG:2229"), *here, RELATIVE)
    sample_terrain(path, *here, HeightSpec(source="dem", dem="rods.tif", dem_unit="us-ft"))


@pytest.mark.parametrize("void", [-9999.0, -32768.0, 32767.0, -3.4e38, float("inf")])
def test_a_void_that_is_not_declared_is_no_height(tmp_path: Path, void: float) -> None:
    cells = slope()
    cells[10, 10] = void
    path = write(tmp_path / "dem.tif", cells)
    lon, lat = UTM.transform(WEST + 10.9 * CELL, NORTH - 10.9 * CELL, direction="INVERSE")
    found = sample_terrain(path, np.array([lon]), np.array([lat]), RELATIVE)
    assert np.isnan(found.elevations_m[0])
    assert "which is no height on Earth" in found.problems[0]
    assert np.isfinite(at(path, 14.5, 14.5))


def test_a_local_coordinate_system_is_named(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    with pytest.raises(SurveyError, match="is local, unknown or of another planet"):
        sample_terrain(write(tmp_path / "dem.tif", slope(), crs=local), np.array([35.0]), np.array([-1.0]), RELATIVE)
