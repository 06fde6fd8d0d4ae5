import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.census.geometry import (
    Grid,
    Pose,
    footprint,
    geodesic_area_km2,
    ground_sample_distance,
    ground_to_pixel,
    pixel_to_ground,
)

poses = st.builds(
    Pose,
    x=st.floats(100_000, 900_000),
    y=st.floats(0, 9_000_000),
    yaw_deg=st.floats(-360, 360),
    height_m=st.floats(20, 200),
    metres_per_pixel=st.floats(0.005, 0.5),
    width=st.integers(100, 9000),
    height=st.integers(100, 9000),
)


def pose(yaw: float) -> Pose:
    return Pose(1000.0, 2000.0, yaw, 64.0, 0.05, 1920, 1440)


def test_ground_sample_distance_of_a_one_inch_camera() -> None:
    # 13.2 mm over 5472 px at 8.8 mm and 100 m: 2.74 cm, as the maker's tables say.
    assert ground_sample_distance(13.2, 8.8, 100, 5472) == pytest.approx(0.0274, abs=5e-5)


@pytest.mark.parametrize(
    ("yaw", "east", "north"),
    [(0, 0, 36), (90, 36, 0), (180, 0, -36), (270, -36, 0), (45, 36 * 0.5**0.5, 36 * 0.5**0.5)],
)
def test_upper_edge_points_where_the_yaw_says(yaw: float, east: float, north: float) -> None:
    top = pixel_to_ground(np.array([[960.0, 0.0]]), pose(yaw))[0]
    assert top - [1000, 2000] == pytest.approx([east, north], abs=1e-9)


def test_right_edge_is_clockwise_of_the_upper_one() -> None:
    right = pixel_to_ground(np.array([[1920.0, 720.0]]), pose(90))[0]
    assert right - [1000, 2000] == pytest.approx([0, -48], abs=1e-9)


@given(poses, st.lists(st.tuples(st.floats(0, 9000), st.floats(0, 9000)), min_size=1, max_size=5))
def test_pixels_come_back(camera: Pose, pixels: list[tuple[float, float]]) -> None:
    there = pixel_to_ground(np.array(pixels), camera)
    assert ground_to_pixel(there, camera) == pytest.approx(np.array(pixels), abs=1e-4)


@given(poses)
def test_footprint_has_the_area_of_its_pixels(camera: Pose) -> None:
    expected = camera.width * camera.height * camera.metres_per_pixel**2
    assert footprint(camera).area == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("lon", "lat", "name"),
    [(35.1, -1.5, "UTM 36S"), (-179.9, 65.0, "UTM 1N"), (179.9, -17.0, "UTM 60S"), (0.0, 51.5, "UTM 31N")],
)
def test_zone_of_a_place(lon: float, lat: float, name: str) -> None:
    assert Grid.around(np.array([lon]), np.array([lat])).name == name


def test_survey_over_the_antimeridian_stays_in_one_piece() -> None:
    lon, lat = np.array([179.99, -179.99]), np.array([-17.0, -17.0])
    xy = Grid.around(lon, lat).forward(lon, lat)
    assert np.hypot(*(xy[1] - xy[0])) == pytest.approx(2129, rel=0.01)


@given(st.floats(-179, 179), st.floats(-79, 79))
def test_positions_come_back_to_a_millimetre(lon: float, lat: float) -> None:
    grid = Grid.around(np.array([lon]), np.array([lat]))
    back = grid.inverse(grid.forward(np.array([lon]), np.array([lat])))[0]
    assert back == pytest.approx([lon, lat], abs=1e-8)


def test_convergence_turns_true_north_into_grid_north() -> None:
    grid = Grid.around(np.array([37.5]), np.array([60.0]))
    lon, lat = np.array([41.9, 41.9]), np.array([60.0, 60.001])
    step = np.diff(grid.forward(lon, lat), axis=0)[0]
    azimuth_on_grid = math.degrees(math.atan2(step[0], step[1]))
    convergence, scale = grid.factors(lon[:1], lat[:1])
    # Going true north (azimuth 0) is going to -convergence on the grid.
    assert azimuth_on_grid == pytest.approx(-float(convergence[0]), abs=1e-3)
    assert abs(float(convergence[0])) > 2
    assert np.hypot(*step) == pytest.approx(111.41 * float(scale[0]), abs=0.05)


def test_area_of_a_degree_square_at_the_equator() -> None:
    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    assert geodesic_area_km2(corners) == pytest.approx(12308.8, rel=1e-4)
    assert geodesic_area_km2(corners[::-1]) == pytest.approx(12308.8, rel=1e-4)
