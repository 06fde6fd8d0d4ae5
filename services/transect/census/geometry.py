"""From pixels to ground metres: pinhole camera looking straight down, UTM grid, float64 throughout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod, Proj, Transformer
from shapely.geometry import Polygon

FloatArray = NDArray[np.float64]

_WGS84 = Geod(ellps="WGS84")


def ground_sample_distance(sensor_width_mm: float, focal_mm: float, height_agl_m: float, width_px: int) -> float:
    """Metres on the ground of one pixel: sensor width x height / (focal length x image width)."""
    return sensor_width_mm * height_agl_m / (focal_mm * width_px)


def geodesic_area_km2(corners: Sequence[tuple[float, float]]) -> float:
    """Area in km2 of a polygon of (longitude, latitude) corners on the WGS84 ellipsoid."""
    area, _ = _WGS84.polygon_area_perimeter([lon for lon, _ in corners], [lat for _, lat in corners])
    return abs(float(area)) / 1e6


class Grid:
    """One UTM zone (WGS84) for a whole survey.

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
        """The zone that holds the middle of the positions (degrees), also across the antimeridian."""
        angles = np.radians(longitudes)
        middle = math.degrees(math.atan2(float(np.sin(angles).mean()), float(np.cos(angles).mean())))
        zone = int((middle + 180) // 6) % 60 + 1
        return cls((32600 if float(np.mean(latitudes)) >= 0 else 32700) + zone)

    @property
    def name(self) -> str:
        """The zone as people write it, such as `UTM 36S`."""
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
        """Meridian convergence in degrees (true azimuth - grid azimuth) and scale (grid m / ground m), (n,) each."""
        found = self._proj.get_factors(longitudes, latitudes)
        return (
            np.atleast_1d(np.asarray(found.meridian_convergence, np.float64)),
            np.atleast_1d(np.asarray(found.meridional_scale, np.float64)),
        )


@dataclass(frozen=True)
class Pose:
    """Where a photo was taken, in grid coordinates.

    `yaw_deg` is the direction of the image's upper edge, clockwise from grid north; `metres_per_pixel` is
    in grid metres, `height_m` above ground.
    """

    x: float
    y: float
    yaw_deg: float
    height_m: float
    metres_per_pixel: float
    width: int
    height: int


def pixel_to_ground(pixels: FloatArray, pose: Pose) -> FloatArray:
    """Pixel positions (n, 2), x to the right and y down from the upper left corner, to grid metres (n, 2)."""
    right = (pixels[..., 0] - pose.width / 2) * pose.metres_per_pixel
    ahead = (pose.height / 2 - pixels[..., 1]) * pose.metres_per_pixel
    sine, cosine = math.sin(math.radians(pose.yaw_deg)), math.cos(math.radians(pose.yaw_deg))
    return np.stack([pose.x + right * cosine + ahead * sine, pose.y - right * sine + ahead * cosine], axis=-1)


def ground_to_pixel(xy: FloatArray, pose: Pose) -> FloatArray:
    """The inverse of `pixel_to_ground`."""
    east, north = xy[..., 0] - pose.x, xy[..., 1] - pose.y
    sine, cosine = math.sin(math.radians(pose.yaw_deg)), math.cos(math.radians(pose.yaw_deg))
    right, ahead = east * cosine - north * sine, east * sine + north * cosine
    return np.stack(
        [right / pose.metres_per_pixel + pose.width / 2, pose.height / 2 - ahead / pose.metres_per_pixel], axis=-1
    )


def footprint(pose: Pose) -> Polygon:
    """The ground that a photo shows, in grid metres."""
    corners = np.array([[0, 0], [pose.width, 0], [pose.width, pose.height], [0, pose.height]], np.float64)
    return Polygon(pixel_to_ground(corners, pose))
