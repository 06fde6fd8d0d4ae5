import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import transform
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from transect.census.ground.geometry import Grid
from transect.census.lonlat import (
    cut_at_antimeridian,
    densify_sides,
    geodesic_area_km2,
    middle_longitude,
    planar_polygon,
    polygon_area_km2,
)

FIJI = ((179.9, -17.1), (-179.9, -17.1), (-179.9, -16.9), (179.9, -16.9))


def test_area_of_a_degree_square_at_the_equator() -> None:
    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    assert geodesic_area_km2(corners) == pytest.approx(12308.8, rel=1e-4)
    assert geodesic_area_km2(corners[::-1]) == pytest.approx(12308.8, rel=1e-4)


def test_sides_are_straight_in_degrees_and_not_on_the_globe() -> None:
    """A cell between two parallels of the ellipsoid has an area in closed form, which geodesics miss."""
    corners = [(10.0, 60.0), (20.0, 60.0), (20.0, 61.0), (10.0, 61.0)]
    b, e = 6356.752314245, 0.0818191908426

    def below(latitude: float) -> float:
        sine = np.sin(np.radians(latitude))
        return float(sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)

    exact = b**2 * np.radians(10) / 2 * (below(61) - below(60))
    assert polygon_area_km2(corners) == pytest.approx(exact, rel=1e-6)
    assert polygon_area_km2(corners) / geodesic_area_km2(corners) > 1.003
    halves = [
        [(10.0, 60.0), (20.0, 60.0), (20.0, 60.5), (10.0, 60.5)],
        [(10.0, 60.5), (20.0, 60.5), (20.0, 61.0), (10.0, 61.0)],
    ]
    assert sum(polygon_area_km2(half) for half in halves) == pytest.approx(polygon_area_km2(corners), rel=1e-6)


def test_a_polygon_over_the_antimeridian_is_what_it_is_elsewhere() -> None:
    elsewhere = tuple(((lon + 360) % 360 - 100, lat) for lon, lat in FIJI)
    assert planar_polygon(FIJI).is_valid
    assert polygon_area_km2(FIJI) == pytest.approx(polygon_area_km2(elsewhere), rel=1e-7)
    grid = Grid.around(np.array([179.9, -179.9]), np.array([-17.0, -17.0]))
    drawn = grid.polygon(FIJI)
    assert drawn.is_valid
    scale = grid.scale_at(np.array([[drawn.centroid.x, drawn.centroid.y]]))[0]
    assert drawn.area / scale**2 / 1e6 == pytest.approx(polygon_area_km2(FIJI), rel=1e-4)
    assert np.abs(densify_sides(FIJI)[:, 0]).min() > 179.8


def test_geojson_is_cut_at_the_antimeridian() -> None:
    grid = Grid.around(np.array([179.9]), np.array([-17.0]))
    shape = transform(grid.polygon(FIJI), grid.inverse)
    cut = cut_at_antimeridian(shape)
    parts = mapping(cut)["coordinates"]
    assert cut.geom_type == "MultiPolygon"
    assert len(parts) == 2
    for part in parts:
        longitudes = [lon for lon, _ in part[0]]
        assert max(longitudes) - min(longitudes) < 0.2
        assert -180 <= min(longitudes) <= max(longitudes) <= 180
    assert cut.area == pytest.approx(0.2 * 0.2, rel=1e-3)


def test_the_example_of_the_geojson_specification_is_cut_as_there() -> None:
    # RFC 7946, 3.1.9.
    across = Polygon([(170, 40), (-170, 40), (-170, 50), (170, 50)])
    assert cut_at_antimeridian(across).equals(MultiPolygon([box(170, 40, 180, 50), box(-180, 40, -170, 50)]))


def test_holes_are_cut_with_the_shape_they_are_in() -> None:
    ring = [(170, 40), (-170, 40), (-170, 50), (170, 50)]
    across, aside = [(179, 44), (-179, 44), (-179, 46), (179, 46)], [(172, 44), (173, 44), (173, 46), (172, 46)]
    cut = cut_at_antimeridian(Polygon(ring, [across, aside]))
    west = box(170, 40, 180, 50) - box(179, 44, 180, 46) - box(172, 44, 173, 46)
    assert cut.equals(MultiPolygon([west, box(-180, 40, -170, 50) - box(-180, 44, -179, 46)]))


def test_a_shape_that_ends_at_the_antimeridian_is_not_cut() -> None:
    # Its corners at 180 degrees may be written as -180.
    assert cut_at_antimeridian(Polygon([(170, 40), (-180, 40), (-180, 50), (170, 50)])).equals(box(170, 40, 180, 50))


def test_shapes_on_one_side_stay_as_they_are() -> None:
    here = box(10, 10, 11, 11).union(box(12, 10, 13, 11))
    assert cut_at_antimeridian(here) is here
    assert cut_at_antimeridian(Polygon()).is_empty


def test_a_shape_of_parts_on_both_sides_is_not_joined() -> None:
    both = box(179.5, 0, 179.6, 1).union(box(-179.6, 0, -179.5, 1))
    assert cut_at_antimeridian(both).area == pytest.approx(both.area)


@given(st.floats(-180, 180), st.lists(st.floats(-20, 20), min_size=1, max_size=9))
def test_the_middle_is_the_median_wherever_it_lies(about: float, offsets: list[float]) -> None:
    longitudes = (about + np.array(offsets) + 180) % 360 - 180
    apart = (middle_longitude(longitudes) - about - float(np.median(offsets)) + 180) % 360 - 180
    assert apart == pytest.approx(0, abs=1e-6)
