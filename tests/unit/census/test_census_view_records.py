"""Views as JSON: what is read back projects every pixel to the same float64."""

import math

import numpy as np
import pytest
from pyproj import CRS
from shapely.geometry import Polygon, box

from transect.census.ground.geometry import GroundView, Pose
from transect.census.ground.orthomosaic import Georeference, Mosaic
from transect.census.ground.view_records import view_from_json, view_to_json

POSE = Pose(
    x=500_000.1 + 1e-9,
    y=math.pi * 1e6,
    yaw_deg=1 / 3,
    height_m=64.0000001,
    metres_per_pixel=0.1,
    width=640,
    height=480,
    pitch_deg=-88.3,
    roll_deg=0.7,
    turn_deg=90.0,
    position_sd_m=0.02,
)
MAP = Mosaic(
    Georeference(
        crs=CRS.from_epsg(32736).to_wkt(),
        affine=(0.1, 1e-7, 500_000.3, 1e-7, -0.1, 9_830_000.7),
        width=640,
        height=480,
        valid=Polygon([(0, 0), (640, 0), (640, 1 / 3), (0, 480)], [[(1, 1), (2, 1), (1, 2)]]).union(
            box(630, 470, 640, 480)
        ),
        latitude=-1.5,
        longitude=33.0,
        gsd_m=0.1,
    ),
    32735,
)


@pytest.mark.parametrize("view", [POSE, Pose(**{**POSE.__dict__, "position_sd_m": None}), MAP])
def test_a_view_that_is_read_back_is_the_same(view: GroundView) -> None:
    again = view_from_json(view_to_json(view))
    assert again == view
    pixels = np.random.default_rng(0).uniform(0, 480, (1000, 2))
    xy = view.to_ground(pixels)
    assert np.array_equal(again.to_ground(pixels), xy)
    assert np.array_equal(again.to_pixels(xy), view.to_pixels(xy))
    assert np.array_equal(again.scale_at(pixels), view.scale_at(pixels))
    assert np.array_equal(again.pose_error_sd(xy, 2, 1), view.pose_error_sd(xy, 2, 1))
    assert again.outline().equals_exact(view.outline(), 0)
    assert (again.x, again.y, again.position_sd_m) == (view.x, view.y, view.position_sd_m)


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="the kind of view 'globe'"):
        view_from_json('{"kind": "globe"}')
    with pytest.raises(TypeError, match="no record is known for a object"):
        view_to_json(object())  # type: ignore[arg-type] # what a type checker would not let through
