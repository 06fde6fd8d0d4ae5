"""Local tangent plane (metres east and north) to WGS 84 longitude and latitude, exactly."""

from dataclasses import dataclass

import numpy as np

_A = 6378137.0  # semi-major axis, m
_F = 1 / 298.257223563
_E2 = _F * (2 - _F)


@dataclass(frozen=True)
class LocalFrame:
    """The plane that touches the ellipsoid at `latitude`, `longitude` (degrees), with axes east and north.

    Points of the plane are projected to the ellipsoid by geocentric coordinates; formulas of
    Hofmann-Wellenhof et al., GNSS (2008), sections 8.2 and 8.4. A kilometre from the origin, lengths
    agree with those on the ellipsoid within 0.1 mm.
    """

    latitude: float
    longitude: float

    def to_lonlat(self, east: float, north: float) -> tuple[float, float]:
        """Longitude and latitude in degrees."""
        lat, lon = np.radians(self.latitude), np.radians(self.longitude)
        sin_lat, cos_lat, sin_lon, cos_lon = np.sin(lat), np.cos(lat), np.sin(lon), np.cos(lon)
        radius = _A / np.sqrt(1 - _E2 * sin_lat**2)
        x = radius * cos_lat * cos_lon - sin_lon * east - sin_lat * cos_lon * north
        y = radius * cos_lat * sin_lon + cos_lon * east - sin_lat * sin_lon * north
        z = radius * (1 - _E2) * sin_lat + cos_lat * north
        return float(np.degrees(np.arctan2(y, x))), float(np.degrees(_latitude(np.hypot(x, y), z)))


def _latitude(axis_distance: float, z: float) -> float:
    """Geodetic latitude in radians, by fixed point iteration (contracts by the eccentricity squared)."""
    latitude = float(np.arctan2(z, axis_distance * (1 - _E2)))
    for _ in range(8):
        radius = _A / np.sqrt(1 - _E2 * np.sin(latitude) ** 2)
        latitude = float(np.arctan2(z + _E2 * radius * np.sin(latitude), axis_distance))
    return latitude
