"""Pixels to ground metres: a pinhole camera of any heading and tilt over flat ground, UTM grid, float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from pyproj import CRS, Geod, Proj, Transformer
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from transect.arrays import FloatArray
from transect.census.lonlat import densify_sides, geodesic_area_km2, middle_longitude

__all__ = [
    "FloatArray",
    "Grid",
    "GroundView",
    "Pose",
    "distance_m",
    "footprint",
    "geodesic_area_km2",
    "ground_sample_distance",
    "ground_to_pixel",
    "pixel_to_ground",
]


_WGS84 = Geod(ellps="WGS84")

MOST_GRID_SCALE = 1.01
"""Grid scale beyond which a position is too far away for its grid: distances would be off by more than a percent."""


def ground_sample_distance(sensor_width_mm: float, focal_mm: float, height_agl_m: float, width_px: int) -> float:
    """Metres on the ground of one pixel: sensor width x height / (focal length x image width)."""
    return sensor_width_mm * height_agl_m / (focal_mm * width_px)


def distance_m(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Metres between two positions in degrees, along the ellipsoid."""
    return float(_WGS84.inv(lon1, lat1, lon2, lat2)[2])


class Grid:
    """One UTM zone (WGS84) for a whole survey, also for the part of it that lies in the next zone.

    Beyond its own six degrees a zone stays exact (to a millimetre), but its metres grow: `factors` gives the scale, and
    MOST_GRID_SCALE is the limit.

    Usage::

        grid = Grid.around(longitudes, latitudes)
        xy = grid.forward(longitudes, latitudes)     # (n, 2) easting, northing in metres
        convergence, scale = grid.factors(longitudes, latitudes)
    """

    def __init__(self, epsg: int) -> None:
        self.epsg = epsg
        crs = CRS.from_epsg(epsg)
        self._forward = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        self._inverse = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        self._proj = Proj(crs)

    @classmethod
    def around(cls, longitudes: FloatArray, latitudes: FloatArray) -> "Grid":
        """The zone that contains the median of the positions (degrees), also across the antimeridian."""
        zone = int((middle_longitude(longitudes) + 180) // 6) % 60 + 1
        return cls((32600 if float(np.median(latitudes)) >= 0 else 32700) + zone)

    @property
    def name(self) -> str:
        """The zone's usual name, such as `UTM 36S`."""
        return f"UTM {self.epsg % 100}{'N' if self.epsg < 32700 else 'S'}"

    def forward(self, longitudes: FloatArray, latitudes: FloatArray) -> FloatArray:
        """Degrees (n,), (n,) to easting and northing in metres (n, 2)."""
        east, north = self._forward.transform(longitudes, latitudes)
        return np.stack([np.asarray(east, np.float64), np.asarray(north, np.float64)], axis=-1)

    def inverse(self, xy: FloatArray) -> FloatArray:
        """Easting and northing (n, 2) to longitude and latitude in degrees (n, 2)."""
        lon, lat = self._inverse.transform(xy[..., 0], xy[..., 1])
        return np.stack([np.asarray(lon, np.float64), np.asarray(lat, np.float64)], axis=-1)

    def factors(self, longitudes: FloatArray, latitudes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Meridian convergence in degrees (true azimuth - grid azimuth) and scale (grid m / ground m), (n,) each.

        Infinite where the zone's projection is not defined.
        """
        found = self._proj.get_factors(longitudes, latitudes)
        return (
            np.atleast_1d(np.asarray(found.meridian_convergence, np.float64)),
            np.atleast_1d(np.asarray(found.meridional_scale, np.float64)),
        )

    def scale_at(self, xy: FloatArray) -> FloatArray:
        """Grid metres a ground metre at positions (n, 2) of the grid, (n,)."""
        lonlat = self.inverse(xy)
        return self.factors(lonlat[:, 0], lonlat[:, 1])[1]

    def polygon(self, corners: Sequence[tuple[float, float]]) -> Polygon:
        """A polygon of (longitude, latitude) corners on the grid; its sides are straight in degrees."""
        points = densify_sides(corners)
        return Polygon(self.forward(points[:, 0], points[:, 1]))


class GroundView(Protocol):
    """The mapping between a picture and the ground: of a photo (Pose) or a map (orthomosaic.Mosaic).

    `x`, `y` is the centre of rotation of its pose errors, in grid metres; `position_sd_m` its standard deviation (None:
    not reported).
    """

    @property
    def x(self) -> float:
        """Easting in grid metres."""

    @property
    def y(self) -> float:
        """Northing in grid metres."""

    @property
    def width(self) -> int:
        """Pixels."""

    @property
    def height(self) -> int:
        """Pixels."""

    @property
    def position_sd_m(self) -> float | None:
        """Standard deviation of the position along each axis in metres."""

    def to_ground(self, pixels: FloatArray) -> FloatArray:
        """Pixels (n, 2), x to the right and y down from the upper left corner, to grid metres (n, 2)."""

    def to_pixels(self, xy: FloatArray) -> FloatArray:
        """The inverse of `to_ground`."""

    def scale_at(self, pixels: FloatArray) -> FloatArray:
        """Grid metres a pixel at pixels (n, 2): the square root of the ground that a pixel covers, (n,)."""

    def outline(self) -> BaseGeometry:
        """The ground that it shows, in grid metres."""

    def pose_error_sd(self, xy: FloatArray, yaw_error_deg: float, height_error_m: float) -> FloatArray:
        """Standard deviation (n,) in metres that errors of yaw and height cause at places (n, 2)."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A photo's exterior orientation in grid coordinates.

    `x`, `y` is the point below the camera and `height_m` the camera's height above the ground, all in grid metres;
    `metres_per_pixel` is that of a nadir camera at this height: height / focal length in pixels. `yaw_deg` is clockwise
    from grid north; `pitch_deg` is -90 at nadir and more than that ahead; `roll_deg` is positive where the right side
    is down. `turn_deg` is the clockwise rotation of the picture's upper edge from the camera's (EXIF orientation).
    """

    x: float
    y: float
    yaw_deg: float
    height_m: float
    metres_per_pixel: float
    width: int
    height: int
    pitch_deg: float = -90.0
    roll_deg: float = 0.0
    turn_deg: float = 0.0
    position_sd_m: float | None = None

    @property
    def focal_px(self) -> float:
        """The focal length in pixels."""
        return self.height_m / self.metres_per_pixel

    @cached_property
    def _axes(self) -> FloatArray:
        return image_axes(self.yaw_deg, self.pitch_deg, self.roll_deg, self.turn_deg)

    def rays(self, pixels: FloatArray) -> FloatArray:
        """Viewing directions (n, 3), east, north and down, of pixels (n, 2); not of length 1."""
        right, up = pixels[..., 0] - self.width / 2, self.height / 2 - pixels[..., 1]
        viewing = np.stack([right, up, np.full_like(right, self.focal_px)], axis=-1)
        return np.asarray(viewing @ self._axes, np.float64)

    def to_ground(self, pixels: FloatArray) -> FloatArray:
        """See GroundView. NaN for a pixel at or above the horizon."""
        rays = self.rays(pixels)
        down = np.where(rays[..., 2] > 0, rays[..., 2], np.nan)
        return np.asarray([self.x, self.y] + rays[..., :2] * (self.height_m / down)[..., None], np.float64)

    def to_pixels(self, xy: FloatArray) -> FloatArray:
        """See GroundView."""
        east, north = xy[..., 0] - self.x, xy[..., 1] - self.y
        seen = np.stack([east, north, np.full_like(east, self.height_m)], axis=-1) @ self._axes.T
        zoom = self.focal_px / seen[..., 2]
        return np.stack([self.width / 2 + seen[..., 0] * zoom, self.height / 2 - seen[..., 1] * zoom], axis=-1)

    def scale_at(self, pixels: FloatArray) -> FloatArray:
        """See GroundView: height x sqrt(focal length / down3) for a ray that goes down by `down` pixels.

        From the solid angle of a pixel, focal / |ray|^3, and the ground of a solid angle, (height / cos)^2 / cos.
        """
        down = self.rays(pixels)[..., 2]
        return np.asarray(self.height_m * np.sqrt(self.focal_px / np.where(down > 0, down, np.nan) ** 3), np.float64)

    def steepest_ray_deg(self) -> float:
        """The greatest angle in degrees between nadir and the viewing direction of a corner."""
        rays = self.rays(_corners(self.width, self.height))
        return float(np.degrees(np.arccos(rays[:, 2] / np.linalg.norm(rays, axis=1))).max())

    def outline(self) -> Polygon:
        """See GroundView."""
        return Polygon(self.to_ground(_corners(self.width, self.height)))

    def pose_error_sd(self, xy: FloatArray, yaw_error_deg: float, height_error_m: float) -> FloatArray:
        """See GroundView: both errors grow with the distance from the point below the camera."""
        distance = np.hypot(xy[..., 0] - self.x, xy[..., 1] - self.y)
        return np.asarray(
            distance * math.hypot(math.radians(yaw_error_deg), height_error_m / self.height_m), np.float64
        )


def image_axes(
    yaw_deg: float | FloatArray,
    pitch_deg: float | FloatArray,
    roll_deg: float | FloatArray,
    turn_deg: float | FloatArray,
) -> FloatArray:
    """The picture's directions right, up and into it (rows), each as east, north, down: (..., 3, 3), orthonormal.

    Yaw, pitch and roll turn about the down, right and forward axes in that order (Tait-Bryan angles of aviation,
    z-y'-x''), for a camera that is fixed below the aircraft, nadir at pitch -90.
    """
    yaw, pitch, roll, turn = (
        np.radians(np.asarray(angle, np.float64))
        for angle in (yaw_deg, np.asarray(pitch_deg, np.float64) + 90, roll_deg, turn_deg)
    )
    sy, cy, sp, cp, sr, cr = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch), np.sin(roll), np.cos(roll)
    ahead = np.stack([cp * sy, cp * cy, -sp], axis=-1)
    right = np.stack([sr * sp * sy + cr * cy, sr * sp * cy - cr * sy, sr * cp], axis=-1)
    down = np.stack([cr * sp * sy - sr * cy, cr * sp * cy + sr * sy, cr * cp], axis=-1)
    st, ct = np.sin(turn)[..., None], np.cos(turn)[..., None]
    return np.stack([right * ct - ahead * st, ahead * ct + right * st, down], axis=-2)


def _corners(width: int, height: int) -> FloatArray:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def pixel_to_ground(pixels: FloatArray, view: GroundView) -> FloatArray:
    """Pixel positions (n, 2), x to the right and y down from the upper left corner, to grid metres (n, 2)."""
    return view.to_ground(pixels)


def ground_to_pixel(xy: FloatArray, view: GroundView) -> FloatArray:
    """The inverse of `pixel_to_ground`."""
    return view.to_pixels(xy)


def footprint(view: GroundView) -> BaseGeometry:
    """The ground that a picture shows, in grid metres."""
    return view.outline()
