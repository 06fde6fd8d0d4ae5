import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.census.ground.geometry import (
    MOST_GRID_SCALE,
    Grid,
    Pose,
    distance_m,
    footprint,
    ground_sample_distance,
    ground_to_pixel,
    pixel_to_ground,
)
from transect.census.ground.projection import Views


def _camera(fields: dict[str, float], fov: float, width: int, height: int) -> Pose:
    """A pose of a camera with an angle of view of `fov` degrees over its long side."""
    gsd = 2 * fields["height_m"] * math.tan(math.radians(fov / 2)) / max(width, height)
    return Pose(metres_per_pixel=gsd, width=width, height=height, **fields)


attitudes = {"yaw_deg": st.floats(-360, 360), "height_m": st.floats(20, 200)}
places = {"x": st.floats(100_000, 900_000), "y": st.floats(0, 9_000_000)}
sizes = {"fov": st.floats(5, 75), "width": st.integers(100, 9000), "height": st.integers(100, 9000)}
poses = st.builds(_camera, st.fixed_dictionaries(places | attitudes), **sizes)
# Half an angle of view of 54 degrees over the diagonal and a tilt of 30 leave the horizon out.
tilts = {
    "pitch_deg": st.floats(-110, -70),
    "roll_deg": st.floats(-20, 20),
    "turn_deg": st.sampled_from([0.0, 90.0, 180.0, -90.0]),
}
tilted_poses = st.builds(_camera, st.fixed_dictionaries(places | attitudes | tilts), **sizes)
shares = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5)


def pose(yaw: float) -> Pose:
    return Pose(x=1000.0, y=2000.0, yaw_deg=yaw, height_m=64.0, metres_per_pixel=0.05, width=1920, height=1440)


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


@given(tilted_poses, shares)
def test_pixels_come_back(camera: Pose, where: list[tuple[float, float]]) -> None:
    pixels = np.array(where) * [camera.width, camera.height]
    there = pixel_to_ground(pixels, camera)
    assert np.isfinite(there).all()
    assert ground_to_pixel(there, camera) == pytest.approx(pixels, abs=1e-3)


@given(tilted_poses, shares)
def test_many_frames_at_once_are_what_each_is(camera: Pose, where: list[tuple[float, float]]) -> None:
    other = Pose(x=5.0, y=6.0, yaw_deg=10.0, height_m=50.0, metres_per_pixel=0.02, width=300, height=200)
    views = Views([None, camera, other])
    pixels = np.array(where) * [camera.width, camera.height]
    for number, view in ((1, camera), (2, other)):
        frame = np.full(len(pixels), number)
        xy = view.to_ground(pixels)
        assert views.to_ground(frame, pixels) == pytest.approx(xy, rel=1e-12, abs=1e-6)
        assert views.scale_at(frame, pixels) == pytest.approx(view.scale_at(pixels), rel=1e-9)
        assert views.pose_error_sd(frame, xy, 2, 1) == pytest.approx(view.pose_error_sd(xy, 2, 1), rel=1e-6, abs=1e-9)
    assert np.isnan(views.to_ground(np.zeros(1, np.int64), pixels[:1])).all()
    nothing, first, second = views.footprints()
    assert nothing is None
    assert first is not None
    assert second is not None
    assert first.symmetric_difference(footprint(camera)).area <= 1e-6 * footprint(camera).area
    assert second.area == pytest.approx(300 * 200 * 0.02**2)


@given(tilted_poses)
def test_a_tilted_footprint_has_the_area_of_its_pixels(camera: Pose) -> None:
    """The scale at each pixel, squared and summed over the picture, is the footprint's area: they come by two ways."""
    side = 60
    middles = (np.arange(side) + 0.5) / side
    pixels = np.stack(np.meshgrid(middles * camera.width, middles * camera.height), axis=-1).reshape(-1, 2)
    summed = float((camera.scale_at(pixels) ** 2).mean()) * camera.width * camera.height
    assert summed == pytest.approx(footprint(camera).area, rel=0.02)


def test_a_camera_that_looks_ahead_shows_what_trigonometry_says() -> None:
    """64 m high, 30 degrees ahead of straight down, 1 px = 1/1280 of the focal length; by hand."""
    camera = Pose(x=0, y=0, yaw_deg=0, height_m=64.0, metres_per_pixel=0.05, width=1920, height=1440, pitch_deg=-60)
    middle, top, bottom, right = pixel_to_ground(np.array([[960.0, 720.0], [960, 0], [960, 1440], [1920, 720]]), camera)
    half = math.degrees(math.atan(720 / 1280))
    assert middle == pytest.approx([0, 64 * math.tan(math.radians(30))])
    assert top == pytest.approx([0, 64 * math.tan(math.radians(30 + half))])
    assert bottom == pytest.approx([0, 64 * math.tan(math.radians(30 - half))])
    # The ray to the middle is 64 / cos 30 long, and the picture is 960 px wide on either side of it.
    assert right[0] == pytest.approx(960 / 1280 * 64 / math.cos(math.radians(30)))


def test_yaw_roll_and_orientation_tilt_to_the_side_they_say() -> None:
    shift = 64 * math.tan(math.radians(10))
    middle = np.array([[960.0, 720.0]])
    east = Pose(x=0, y=0, yaw_deg=90, height_m=64.0, metres_per_pixel=0.05, width=1920, height=1440, pitch_deg=-80)
    assert pixel_to_ground(middle, east)[0] == pytest.approx([shift, 0], abs=1e-9)
    # With the right side down, what hangs below points to the left.
    rolled = Pose(x=0, y=0, yaw_deg=0, height_m=64.0, metres_per_pixel=0.05, width=1920, height=1440, roll_deg=10)
    assert pixel_to_ground(middle, rolled)[0] == pytest.approx([-shift, 0], abs=1e-9)
    # A picture that EXIF turns has another upper edge, and the same viewing direction.
    turned = Pose(
        x=0, y=0, yaw_deg=0, height_m=64.0, metres_per_pixel=0.05, width=1440, height=1920, pitch_deg=-80, turn_deg=-90
    )
    assert pixel_to_ground(np.array([[720.0, 960.0]]), turned)[0] == pytest.approx([0, shift], abs=1e-9)
    assert pixel_to_ground(np.array([[720.0, 0.0]]), turned)[0][0] < -40


def test_a_pixel_above_the_horizon_is_nowhere() -> None:
    camera = Pose(x=0, y=0, yaw_deg=0, height_m=64.0, metres_per_pixel=0.05, width=1920, height=1440, pitch_deg=-20)
    assert np.isnan(pixel_to_ground(np.array([[960.0, 0.0]]), camera)).all()
    assert camera.steepest_ray_deg() > 90


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


@given(st.floats(-179, 179), st.floats(-84, 84))
def test_positions_come_back_to_a_millimetre(lon: float, lat: float) -> None:
    grid = Grid.around(np.array([lon]), np.array([lat]))
    back = grid.inverse(grid.forward(np.array([lon]), np.array([lat])))[0]
    assert back == pytest.approx([lon, lat], abs=1e-8)


@pytest.mark.parametrize(("lat", "degrees"), [(0.0, 6.5), (45.0, 9.0), (-60.0, 13.0)])
def test_a_survey_over_two_zones_keeps_its_lengths(lat: float, degrees: float) -> None:
    """What the grid adds to a length is what `factors` says, as far as the limit on it allows to go."""
    grid = Grid.around(np.array([33.0]), np.array([lat]))
    lon = np.array([33.0 + degrees, 33.0 + degrees])
    xy = grid.forward(lon, np.array([lat, lat + 1e-3]))
    scale = grid.scale_at(xy)[0]
    assert 1.003 < scale < MOST_GRID_SCALE
    length = distance_m(lon[0], lat, lon[1], lat + 1e-3)
    assert float(np.hypot(*(xy[1] - xy[0]))) / scale == pytest.approx(length, rel=1e-6)


def test_one_position_in_error_does_not_move_the_zone() -> None:
    lon, lat = np.array([36.1, 36.2, 36.3, 179.0]), np.array([-1.0, -1.1, -1.2, 80.0])
    assert Grid.around(lon, lat).name == "UTM 37S"


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
