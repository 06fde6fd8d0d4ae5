"""Polygons in longitude and latitude: areas, densified sides, and the antimeridian.

A side of a polygon is a straight line in degrees, as in GeoJSON (RFC 7946, section 3.1.1), in the direction of the
shorter way: corners at 179.9 and -179.9 are neighbours.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pyproj import Geod
from shapely import box, get_parts, transform
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from transect.arrays import FloatArray

_WGS84 = Geod(ellps="WGS84")
# A side of 0.02 degrees (2 km) leaves a line on the grid by less than 0.1 m up to 60 degrees of latitude.
_LONGEST_SIDE_DEG = 0.02
_MOST_POINTS_A_SIDE = 2000
# A degree of latitude on a sphere of 6,371 km.
_DEGREE_M = 111_195.0


def geodesic_area_km2(corners: Sequence[tuple[float, float]]) -> float:
    """Area in km2 of a polygon of (longitude, latitude) corners on the WGS84 ellipsoid, with geodesics as sides."""
    area, _ = _WGS84.polygon_area_perimeter([lon for lon, _ in corners], [lat for _, lat in corners])
    return abs(float(area)) / 1e6


def polygon_area_km2(corners: Sequence[tuple[float, float]]) -> float:
    """Area in km2 of a polygon of (longitude, latitude) corners, with straight lines in degrees as sides."""
    return geodesic_area_km2([(lon, lat) for lon, lat in densify_sides(corners).tolist()])


def unwrap_longitudes(longitudes: FloatArray) -> FloatArray:
    """Longitudes in degrees (n,) without jumps: each within 180 of the one before, so that some may pass 180."""
    return np.asarray(np.rad2deg(np.unwrap(np.deg2rad(longitudes))), np.float64)


def middle_longitude(longitudes: FloatArray) -> float:
    """The median of longitudes in degrees (n,), -180 to 180, also across the antimeridian."""
    angles = np.radians(longitudes)
    about = np.degrees(np.arctan2(np.sin(angles).mean(), np.cos(angles).mean()))
    offset = (longitudes - about + 180) % 360 - 180
    return float((about + np.median(offset) + 180) % 360 - 180)


def lonlat_bounds(places: FloatArray) -> tuple[float, float, float, float]:
    """West, south, east and north of positions (n, 2) in degrees, n > 0.

    West is the larger number where they lie across the antimeridian (RFC 7946, 5.2).
    """
    middle = middle_longitude(places[:, 0])
    offset = (places[:, 0] - middle + 180) % 360 - 180
    west, east = ((middle + limit + 180) % 360 - 180 for limit in (offset.min(), offset.max()))
    return float(west), float(places[:, 1].min()), float(east), float(places[:, 1].max())


def planar_polygon(corners: Sequence[tuple[float, float]]) -> Polygon:
    """The polygon in the plane of degrees; longitudes beyond 180 where it lies across the antimeridian."""
    array = np.array(corners, np.float64)
    array[:, 0] = unwrap_longitudes(array[:, 0])
    return Polygon(array)


def metres_to_polygon(longitude: float, latitude: float, corners: Sequence[tuple[float, float]]) -> float:
    """The approximate distance in metres of a position from a polygon, 0 inside; good to some percent within 100 km."""
    ring = np.array(planar_polygon(corners).exterior.coords)
    turns = round((float(ring[:, 0].mean()) - longitude) / 360)
    east = (ring[:, 0] - 360 * turns - longitude) * np.cos(np.radians(latitude))
    return float(Polygon(np.column_stack([east, ring[:, 1] - latitude])).distance(Point(0, 0))) * _DEGREE_M


def densify_sides(corners: Sequence[tuple[float, float]]) -> FloatArray:
    """Points (m, 2) along the sides of a polygon, dense enough for straight lines between them on any grid."""
    ring = np.array(planar_polygon(corners).exterior.coords)
    pieces = []
    for start, end in pairwise(ring):
        longest = float(np.abs(end - start).max())
        count = min(max(int(np.ceil(longest / _LONGEST_SIDE_DEG)), 1), _MOST_POINTS_A_SIDE)
        pieces.append(start + (end - start) * np.arange(count)[:, None] / count)
    points = np.concatenate(pieces)
    points[:, 0] = (points[:, 0] + 180) % 360 - 180
    return points


def cut_at_antimeridian(shape: BaseGeometry) -> BaseGeometry:
    """A polygonal shape in degrees whose rings may jump from 180 to -180, in parts that do not (RFC 7946, 3.1.9).

    No dependency on the library `antimeridian`: what it does beyond these lines is for shapes around a pole and for
    planet-wide ones, which no survey has.
    """
    west, _, east, _ = shape.bounds if not shape.is_empty else (0.0, 0.0, 0.0, 0.0)
    if east - west <= 180:
        return shape
    parts = []
    for part in get_parts(shape):
        whole = transform(part, lambda lonlat: np.column_stack([lonlat[:, 0] % 360, lonlat[:, 1]]))
        parts.append(whole.intersection(box(0, -90, 180, 90)))
        beyond = whole.intersection(box(180, -90, 360, 90))
        parts.append(transform(beyond, lambda lonlat: np.column_stack([lonlat[:, 0] - 360, lonlat[:, 1]])))
    kept = [one for part in parts for one in get_parts(part) if one.geom_type == "Polygon" and not one.is_empty]
    return kept[0] if len(kept) == 1 else MultiPolygon(kept)
