"""GeoJSON by the rules of RFC 7946, and a GeoPackage that GDAL reads."""

import json
import resource
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import from_wkb, get_coordinates, is_ccw, is_valid, transform
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from transect.census.counting.tally import UnitCount
from transect.census.ground.coverage import Coverage, Region, Unit
from transect.census.ground.geometry import Grid
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.photos import LocalPhoto
from transect.census.outputs.geodata import animal_table, in_degrees, write_animals, write_coverage, write_geopackage
from transect.census.sightings.animals import Animals

GRID = Grid(32736)
X, Y = 500_000.0, 9_830_000.0
HERE = (X, Y)
# Two kilometres west of the antimeridian, at 17 degrees south.
AT_180 = (tuple(Grid(32701).forward(np.array([180.0]), np.array([-17.0]))[0] - (50, 0)), Grid(32701))
NAMES = ("sheep", "goat")


def frames_of(count: int) -> list[Frame]:
    taken = datetime(2026, 7, 14, 9, 30)  # noqa: DTZ001 - camera clocks have no zone
    return [
        Frame(
            name=f"T1/{n:03}.jpg",
            photo=LocalPhoto(Path("x")),
            transect="T1",
            taken_at=taken if n else None,
            width=100,
            height=80,
            placement=None,
        )
        for n in range(count)
    ]


def coverage_at(x: float, y: float) -> Coverage:
    """Two photos that overlap, one transect, one stratum with a hole; another stratum without a polygon."""
    shown = {0: box(x, y, x + 96, y + 64), 2: box(x + 48, y, x + 144, y + 64)}
    ground = shown[0].union(shown[2])
    stratum = Polygon(
        [(x - 500, y - 500), (x - 500, y + 500), (x + 500, y + 500), (x + 500, y - 500)],
        [[(x + 300, y + 300), (x + 310, y + 300), (x + 310, y + 310)]],
    )
    regions = (Region("plain", 1.0, stratum, 12), Region("rest", 5.0, None, None))
    return Coverage(
        shown,
        regions,
        (Unit(stratum="plain", transect="T1", polygon=ground, area_km2=ground.area / 1e6, frames=(0, 2)),),
        0.009,
        dict.fromkeys(shown, "plain"),
    )


def animals_at(places: Sequence[tuple[float, float]]) -> Animals:
    count = len(places)
    return Animals(
        np.array(places, np.float64).reshape(-1, 2),
        np.arange(count, dtype=np.int64) % 2,
        np.full(count, 2, np.int64),
        np.linspace(0.5, 0.9, count) if count else np.empty(0),
        np.array([0, -1, 0, 0, 0][:count], np.int64),
    )


def package(path: Path, x: float, y: float, grid: Grid, count: int = 3) -> Path:
    coverage = coverage_at(x, y)
    animals = animal_table(animals_at([(x + 10.0 * n, y + 5) for n in range(count)]), NAMES, coverage, grid)
    counts = [
        UnitCount(stratum="plain", transect="T1", species=name, area_km2=0.009, count=2 - n)
        for n, name in enumerate(NAMES)
    ]
    write_geopackage(
        path,
        animals=animals,
        frames=frames_of(3),
        boxes=np.array([4, 0, 7]),
        coverage=coverage,
        counts=counts,
        grid=grid,
    )
    return path


def layer(path: Path, name: str) -> tuple[dict[str, Any], list[BaseGeometry], dict[str, list[Any]]]:
    about, _, geometry, columns = pyogrio.raw.read(path, layer=name)
    values = {str(key): column.tolist() for key, column in zip(about["fields"], columns, strict=True)}
    return about, list(from_wkb(geometry)), values


def test_geopackage_has_four_layers_in_metres(tmp_path: Path) -> None:
    path = package(tmp_path / "animals.gpkg", X, Y, GRID)
    assert pyogrio.list_layers(path).tolist() == [
        ["animals", "Point"],
        ["photos", "MultiPolygon"],
        ["transects", "MultiPolygon"],
        ["strata", "MultiPolygon"],
    ]
    about, places, animals = layer(path, "animals")
    assert about["crs"] == "EPSG:32736"
    assert [(place.x, place.y) for place in places] == [(X, Y + 5), (X + 10, Y + 5), (X + 20, Y + 5)]
    assert animals["species"] == ["sheep", "goat", "sheep"]
    assert animals["stratum"] == ["plain", "", "plain"]
    assert animals["animal"] == [1, 2, 3]
    _, prints, photos = layer(path, "photos")
    assert [one.area for one in prints] == [96 * 64, 96 * 64]
    # 0.9996 is the grid's scale in the middle of its zone.
    assert photos["area_m2"] == pytest.approx([96 * 64 / 0.9996**2] * 2, rel=1e-4)
    assert photos["photo"] == ["T1/000.jpg", "T1/002.jpg"]
    assert photos["taken_at"] == [None, "2026-07-14T09:30:00"]
    assert photos["boxes"] == [4, 7]
    _, grounds, transects = layer(path, "transects")
    assert [one.area for one in grounds] == [144 * 64]
    assert (transects["unique_sheep"], transects["unique_goat"], transects["photos"]) == ([2], [1], [2])
    _, (plain,), strata = layer(path, "strata")
    assert plain.equals(coverage_at(X, Y).regions[0].polygon)
    assert (strata["stratum"], strata["transects"], strata["sampled_km2"]) == (["plain"], [1], [144 * 64 / 1e6])


def test_geopackage_without_animals_or_ground_has_empty_layers(tmp_path: Path) -> None:
    path = tmp_path / "animals.gpkg"
    nothing = Coverage({}, (), (), 0.0, {})
    animals = animal_table(animals_at([]), NAMES, nothing, GRID)
    write_geopackage(
        path, animals=animals, frames=frames_of(1), boxes=np.array([0]), coverage=nothing, counts=(), grid=GRID
    )
    for name, _ in pyogrio.list_layers(path):
        about = pyogrio.read_info(path, layer=name)
        assert (about["features"], about["crs"]) == (0, "EPSG:32736")
    assert len(pyogrio.list_layers(path)) == 4


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    first = package(tmp_path / "a.gpkg", X, Y, GRID).read_bytes()
    time.sleep(1.1)
    assert package(tmp_path / "b.gpkg", X, Y, GRID).read_bytes() == first
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


@pytest.mark.parametrize("missing", [1, 5_000, 20_000, 60_000])
def test_a_geopackage_that_does_not_fit_is_an_error_of_writing(tmp_path: Path, missing: int) -> None:
    path = package(tmp_path / "animals.gpkg", X, Y, GRID)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # GDAL writes the indexes last, and says nothing when it cannot.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - missing, limits[1]))
    try:
        with pytest.raises(OSError, match=r"animals\.gpkg"):
            package(path, X, Y, GRID, count=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["animals.gpkg"]


def test_geopackage_is_whole_across_the_antimeridian(tmp_path: Path) -> None:
    (x, y), grid = AT_180
    path = package(tmp_path / "animals.gpkg", x, y, grid)
    _, prints, _ = layer(path, "photos")
    assert [len(one.geoms) for one in prints] == [1, 1]
    assert [one.area for one in prints] == pytest.approx([96 * 64] * 2)


def rings(geometry: dict[str, Any]) -> list[list[list[list[float]]]]:
    found = geometry["coordinates"]
    return found if geometry["type"] == "MultiPolygon" else [found]


@pytest.mark.parametrize(("place", "grid", "parts"), [(HERE, GRID, "Polygon"), (*AT_180, "MultiPolygon")])
def test_coverage_is_geojson_by_the_rfc(tmp_path: Path, place: tuple[float, float], grid: Grid, parts: str) -> None:
    path = tmp_path / "coverage.geojson"
    write_coverage(path, frames_of(3), coverage_at(*place), grid)
    content = json.loads(path.read_text())
    assert set(content) == {"type", "bbox", "features"}
    assert [one["properties"]["kind"] for one in content["features"]] == ["stratum", "transect", "photo", "photo"]
    assert content["features"][0]["geometry"]["type"] == parts
    west, south, east, north = content["bbox"]
    for feature in content["features"]:
        assert feature["type"] == "Feature"
        assert is_valid(shape(feature["geometry"]))
        for outer, *holes in rings(feature["geometry"]):
            assert outer[0] == outer[-1]
            assert is_ccw(Polygon(outer).exterior)
            assert not any(is_ccw(Polygon(hole).exterior) for hole in holes)
            lons, lats = zip(*outer, strict=True)
            assert max(lons) - min(lons) < 0.1
            assert south <= min(lats) <= max(lats) <= north
            inside = [west <= lon <= east if west <= east else lon >= west or lon <= east for lon in lons]
            assert all(inside)
            assert all(lon == round(lon, 7) for lon in lons)
    assert (west > east) == (parts == "MultiPolygon")
    about, _, geometry, _ = pyogrio.raw.read(path)
    assert about["crs"] == "EPSG:4326"
    assert len(geometry) == 4


def test_animals_as_geojson_are_where_the_table_says(tmp_path: Path) -> None:
    coverage = coverage_at(X, Y)
    table = animal_table(animals_at([(X, Y), (X + 3.14159265, Y)]), NAMES, coverage, GRID)
    write_animals(tmp_path / "animals.geojson", table)
    features = json.loads((tmp_path / "animals.geojson").read_text())["features"]
    assert [one["geometry"]["coordinates"] for one in features] == [
        list(pair) for pair in zip(table["lon"].to_pylist(), table["lat"].to_pylist(), strict=True)
    ]
    assert features[1]["properties"] == {
        "animal": 2,
        "species": "goat",
        "easting": X + 3.142,
        "northing": Y,
        "stratum": "",
        "transect": "",
        "photos": 2,
        "best_score": 0.9,
    }
    assert GRID.forward(*np.array([features[1]["geometry"]["coordinates"]]).T)[0] == pytest.approx(
        (X + 3.14159265, Y), abs=0.02
    )


def test_no_animals_are_a_collection_without_limits(tmp_path: Path) -> None:
    table = animal_table(animals_at([]), NAMES, coverage_at(X, Y), GRID)
    write_animals(tmp_path / "animals.geojson", table)
    assert json.loads((tmp_path / "animals.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def test_lines_that_an_intersection_leaves_are_no_ground(tmp_path: Path) -> None:
    ground = GeometryCollection([box(X, Y, X + 10, Y + 10), LineString([(X, Y), (X + 50, Y)]), Point(X, Y)])
    (found,) = in_degrees(np.array([ground], object), GRID)
    assert found.geom_type == "MultiPolygon"
    assert len(found.geoms) == 1


@given(st.lists(st.floats(0, 0.03), min_size=8, max_size=40), st.booleans())
def test_rounding_leaves_valid_ground(gaps: list[float], at_180: bool) -> None:
    (x, y), grid = AT_180 if at_180 else (HERE, GRID)
    # A comb whose gaps are about as wide as the rounding.
    teeth = [box(x + n + gap, y, x + n + 1, y + 5) for n, gap in enumerate(gaps)]
    comb = MultiPolygon(teeth).buffer(0).union(box(x, y - 1, x + len(gaps), y))
    (found,) = in_degrees(np.array([comb], object), grid)
    assert is_valid(found)
    assert np.abs(get_coordinates(found)[:, 0]).max() <= 180
    # Back on the grid, parts on both sides of the antimeridian meet again.
    back = transform(found, lambda lonlat: grid.forward(*lonlat.T))
    assert back.area == pytest.approx(comb.area, rel=0.01)
