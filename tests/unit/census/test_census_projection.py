from dataclasses import dataclass

import numpy as np
import pytest
from shapely import box
from shapely.geometry.base import BaseGeometry

from transect.arrays import FloatArray
from transect.census.ground.geometry import GroundView, Pose
from transect.census.ground.projection import Views


@dataclass(frozen=True)
class Plain:
    """A map with its north up and a metre a pixel."""

    x: float
    y: float
    width: int = 100
    height: int = 50
    position_sd_m: float | None = 0.0

    def to_ground(self, pixels: FloatArray) -> FloatArray:
        return np.asarray([self.x, self.y] + pixels * [1, -1], np.float64)

    def to_pixels(self, xy: FloatArray) -> FloatArray:
        return np.asarray((xy - [self.x, self.y]) * [1, -1], np.float64)

    def scale_at(self, pixels: FloatArray) -> FloatArray:
        return np.ones(len(pixels))

    def outline(self) -> BaseGeometry:
        return box(self.x, self.y - self.height, self.x + self.width, self.y)

    def pose_error_sd(self, xy: FloatArray, yaw_error_deg: float, height_error_m: float) -> FloatArray:
        return np.zeros(len(xy))


PHOTO = Pose(x=500.0, y=500.0, yaw_deg=30.0, height_m=64.0, metres_per_pixel=0.1, width=1000, height=800)


def test_maps_and_photos_in_any_order_are_what_each_is() -> None:
    all_of_them: list[GroundView | None] = [Plain(0, 0), PHOTO, None, Plain(1000, 1000)]
    views = Views(all_of_them)
    rng = np.random.default_rng(0)
    frame, pixels = rng.integers(0, 4, 200), rng.uniform(0, 50, (200, 2))
    ground, scale = views.to_ground(frame, pixels), views.scale_at(frame, pixels)
    turning = views.pose_error_sd(frame, ground, 2.0, 1.0)
    for number, view in enumerate(all_of_them):
        rows = frame == number
        if view is None:
            assert np.isnan(ground[rows]).all()
            continue
        assert ground[rows] == pytest.approx(view.to_ground(pixels[rows]))
        assert scale[rows] == pytest.approx(view.scale_at(pixels[rows]))
        assert turning[rows] == pytest.approx(view.pose_error_sd(ground[rows], 2.0, 1.0))
    assert [None if one is None else one.area for one in views.footprints()] == pytest.approx([5000, 8000, None, 5000])
    assert np.isnan(views.position_sd_m).tolist() == [False, True, True, False]


def test_no_frames() -> None:
    views = Views([])
    assert views.footprints() == []
    assert views.to_ground(np.empty(0, np.int64), np.empty((0, 2))).shape == (0, 2)
