import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import box

from transect.census.ground.coverage import Coverage, Region, compute_coverage
from transect.census.ground.geometry import GroundView, Pose
from transect.census.ground.searched import searched_ground
from transect.census.inputs.survey import SurveySpec

SPEC = SurveySpec.model_validate({"name": "s"})


def plain_grid(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones(len(xy))


def whole(views: Sequence[GroundView | None]) -> NDArray[np.float64]:
    return np.ones(len(views))


def photo(x: float, gsd: float = 0.05, **changes: float) -> Pose:
    return Pose(x=x, y=0.0, yaw_deg=0.0, height_m=1000 * gsd, metres_per_pixel=gsd, width=1000, height=800, **changes)


def laid(poses: list[Pose], transects: list[str], scale: float = 1.0) -> Coverage:
    region = Region("all", 1.0, None, None)
    return compute_coverage(dict(enumerate(poses)), dict(enumerate(transects)), (region,), SPEC, scale)


def test_a_photo_has_its_own_pixels() -> None:
    poses = [photo(0)]
    found = searched_ground(poses, laid(poses, ["T1"]), whole(poses), plain_grid)
    assert found.whole == pytest.approx(0.8)
    assert found.units == pytest.approx((0.8,))


def test_overlapping_photos_count_each_place_once() -> None:
    # 50 m wide, 25 m apart: half again as much ground as one has.
    poses = [photo(0), photo(25)]
    found = searched_ground(poses, laid(poses, ["T1", "T1"]), whole(poses), plain_grid)
    assert found.whole == pytest.approx(1.5 * 0.8)


def test_a_higher_flight_has_fewer_pixels_of_as_much_ground() -> None:
    poses: list[GroundView | None] = [photo(0), None, photo(500, gsd=0.1)]
    known = {number: pose for number, pose in enumerate(poses) if pose is not None}
    coverage = compute_coverage(known, {0: "T1", 2: "T2"}, (Region("all", 1.0, None, None),), SPEC, 1.0)
    found = searched_ground(poses, coverage, whole(poses), plain_grid)
    assert found.units == pytest.approx((0.8, 0.8))
    areas = [unit.area_km2 for unit in coverage.units]
    assert areas[1] == pytest.approx(4 * areas[0])


def test_pixels_are_those_of_the_network_and_metres_those_of_the_ground() -> None:
    poses = [photo(0)]
    # A photo that is fitted into half its size has a quarter of its pixels.
    found = searched_ground(poses, laid(poses, ["T1"]), np.array([0.5]), plain_grid)
    assert found.whole == pytest.approx(0.2)
    # The grid's metres are longer than the ground's, in areas and in pixels alike.
    found = searched_ground(poses, laid(poses, ["T1"], 1.01), whole(poses), lambda xy: np.full(len(xy), 1.01))
    assert found.whole == pytest.approx(0.8)


def test_a_tilted_photo_has_as_many_pixels() -> None:
    poses = [photo(0, pitch_deg=-78.0)]
    found = searched_ground(poses, laid(poses, ["T1"]), whole(poses), plain_grid)
    assert found.whole == pytest.approx(0.8, rel=0.02)


def test_what_lies_outside_every_stratum_is_of_no_unit() -> None:
    poses = [photo(0)]
    region = Region("east", 1.0, box(0, -100, 100, 100), None)
    coverage = compute_coverage({0: poses[0]}, {0: "T1"}, (region,), SPEC, 1.0)
    found = searched_ground(poses, coverage, whole(poses), plain_grid)
    assert found.whole == pytest.approx(0.8)
    assert sum(found.units) == pytest.approx(0.4)
    assert math.isfinite(found.whole)
