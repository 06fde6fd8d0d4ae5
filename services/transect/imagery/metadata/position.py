"""Position of a photo: read EXIF's and XMP's, and choose between them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from PIL.ExifTags import GPS

from transect.imagery.metadata.coordinates import Axis, Coordinate, CoordinateError, exif_coordinate, parse_coordinate
from transect.imagery.metadata.exif import Value
from transect.imagery.metadata.numbers import decimals

_EARTH_RADIUS_M = 6_371_008.8
# Accuracy of a receiver without corrections: closer positions count as the same.
_SAME_PLACE_M = 1.0
# Signed decimal degrees by vendor. Several DJI cameras write the misspelled name.
_DECIMAL_PAIRS = (
    ("drone-dji:GpsLatitude", "drone-dji:GpsLongitude"),
    ("drone-dji:GpsLatitude", "drone-dji:GpsLongtitude"),
    ("drone-dji:GPSLatitude", "drone-dji:GPSLongitude"),
    ("drone-dji:Latitude", "drone-dji:Longitude"),
    ("drone-skydio:Latitude", "drone-skydio:Longitude"),
    ("drone-parrot:DroneLatitude", "drone-parrot:DroneLongitude"),
)
_GENERIC_PAIR = ("exif:GPSLatitude", "exif:GPSLongitude")
# Programs write positions finer than a hundred metres: with fewer decimals they dropped trailing zeros.
_FEWEST_DECIMALS = 6


@dataclass(frozen=True)
class Position:
    """A position in degrees (None if unknown), the problem, the candidates, and remarks."""

    latitude: float | None = None
    longitude: float | None = None
    problem: str = ""
    possible: tuple[tuple[float, float], ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fix:
    source: str
    latitude: float
    longitude: float
    rounding_deg: float

    def __str__(self) -> str:
        return f"{self.source} says latitude {self.latitude:.7g}, longitude {self.longitude:.7g}"


def find_position(gps: Mapping[int, Value], xmp: Mapping[str, str]) -> Position:
    """The position of a photo. EXIF takes precedence if both agree; if they differ by more than the finer one's last
    digit (and by more than a metre), the finer one is used, with a remark. A hemisphere missing in EXIF is taken from
    XMP, and otherwise not guessed: the candidates are returned.
    """
    stored, exif = None, None
    exif_problem = xmp_problem = ""
    try:
        stored = _xmp_fix(xmp)
    except CoordinateError as error:
        xmp_problem = str(error)
    try:
        exif = _exif_position(gps, stored)
    except CoordinateError as error:
        exif_problem = str(error)
    if exif is not None:
        return exif
    if stored is not None:
        remark = f"{exif_problem}; XMP's position is taken" if exif_problem else ""
        return Position(stored.latitude, stored.longitude, remarks=(remark,) if remark else ())
    return Position(problem=exif_problem or xmp_problem)


def _exif_position(gps: Mapping[int, Value], stored: _Fix | None) -> Position | None:
    """The position by EXIF and, where it is finer or gives the hemisphere, XMP's `stored`; None without one in EXIF.

    Raises CoordinateError where EXIF's cannot be used.
    """
    pair = _exif_pair(gps)
    if pair is None:
        return None
    north, east = pair
    remarks: tuple[str, ...] = ()
    if stored is not None and (north.sign is None or east.sign is None):
        remarks = ("EXIF gives no hemisphere; XMP's is taken",)
        north, east = _signed_as(north, stored.latitude), _signed_as(east, stored.longitude)
    missing = [
        _missing_hemisphere(axis, one) for axis, one in zip(Axis, (north, east), strict=True) if one.sign is None
    ]
    if missing:
        known = f"EXIF gives latitude {north.degrees:.7g}, longitude {east.degrees:.7g} and does not say whether "
        return Position(problem=known + " and ".join(missing), possible=_candidates(north, east))
    return _choose(_fix("EXIF", north, east), stored, remarks)


def _exif_pair(gps: Mapping[int, Value]) -> tuple[Coordinate, Coordinate] | None:
    """EXIF's latitude and longitude; None without both. Raises CoordinateError."""
    latitude = exif_coordinate(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), Axis.LATITUDE)
    longitude = exif_coordinate(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), Axis.LONGITUDE)
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        raise CoordinateError(f"EXIF gives a {'longitude' if latitude is None else 'latitude'} alone")
    # Zero needs no sign, on the equator or without a fix.
    latitude, longitude = (
        Coordinate(0.0, 1, one.rounding_deg) if not one.degrees else one for one in (latitude, longitude)
    )
    return latitude, longitude


def _missing_hemisphere(axis: Axis, one: Coordinate) -> str:
    return f'{axis.value[0]} (its reference is "{one.reference[:30]}")' if one.reference else axis.value[0]


def _signed_as(coordinate: Coordinate, other: float) -> Coordinate:
    if coordinate.sign is not None or other == 0:
        return coordinate
    return Coordinate(coordinate.degrees, -1 if other < 0 else 1, coordinate.rounding_deg)


def _candidates(latitude: Coordinate, longitude: Coordinate) -> tuple[tuple[float, float], ...]:
    signs = ((1, -1) if one.sign is None else (one.sign,) for one in (latitude, longitude))
    if latitude.degrees > 90 or longitude.degrees > 180:
        return ()
    return tuple((north * latitude.degrees, east * longitude.degrees) for north, east in product(*signs))


def _fix(source: str, north: Coordinate, east: Coordinate) -> _Fix:
    """The position of two coordinates with a sign. Raises CoordinateError for one that is nowhere, or none at all."""
    fix = _Fix(source, north.signed, east.signed, min(north.rounding_deg, east.rounding_deg))
    if abs(fix.latitude) > 90 or abs(fix.longitude) > 180:
        raise CoordinateError(f"{source} says latitude {fix.latitude:g}, longitude {fix.longitude:g}, which is nowhere")
    if fix.latitude == 0 and fix.longitude == 0:
        raise CoordinateError(f"{source} says latitude 0, longitude 0, which cameras write that have no fix")
    return fix


def _xmp_fix(xmp: Mapping[str, str]) -> _Fix | None:
    """The first usable position in XMP, None without any. Raises the CoordinateError of the first unusable one."""
    problem: CoordinateError | None = None
    for pair in (*_DECIMAL_PAIRS, _GENERIC_PAIR):
        try:
            fix = _xmp_pair(xmp, pair)
        except CoordinateError as error:
            problem = problem or error
            continue
        if fix is not None:
            return fix
    if problem is not None:
        raise problem
    return None


def _xmp_pair(xmp: Mapping[str, str], pair: tuple[str, str]) -> _Fix | None:
    texts = tuple(xmp.get(name, "") for name in pair)
    generic = pair == _GENERIC_PAIR
    if not all(texts):
        if any(texts) and generic:
            raise CoordinateError(f"XMP gives {pair[0 if texts[0] else 1]} alone")
        return None
    coordinates = []
    for text, name, axis in zip(texts, pair, Axis, strict=True):
        one = _xmp_coordinate(text, xmp.get(f"{name}Ref", ""), axis, generic)
        if one is None:
            raise CoordinateError(f'XMP gives {name.partition(":")[2]} as "{text[:60]}", which is no angle')
        coordinates.append(one)
    return _fix("XMP", *coordinates)


def _xmp_coordinate(text: str, reference: str, axis: Axis, generic: bool) -> Coordinate | None:
    """XMP's own form needs a letter (XMP specification part 2, GPSCoordinate); signed decimals carry their sign."""
    found = parse_coordinate(text, axis, comma="minutes" if generic else "decimal")
    if found is None:
        return None
    rounding = found.rounding_deg if generic else 10.0 ** -max(decimals(text), _FEWEST_DECIMALS)
    sign = found.sign if found.sign is not None else axis.sign_of(reference.strip())
    return Coordinate(found.degrees, 1 if sign is None else sign, rounding)


def _choose(exif: _Fix, xmp: _Fix | None, remarks: tuple[str, ...]) -> Position:
    chosen = exif
    if xmp is not None:
        apart = _distance_m(exif, xmp)
        finer = xmp if xmp.rounding_deg < exif.rounding_deg else exif
        metre = math.degrees(1 / _EARTH_RADIUS_M)
        remark = f"{exif} and {xmp}, {_metres(apart)} apart; the finer one, {finer.source}, is taken"
        if finer is xmp and apart > max(_SAME_PLACE_M, xmp.rounding_deg / metre):
            chosen, remarks = xmp, (*remarks, remark)
        elif finer is exif and apart > max(_SAME_PLACE_M, (xmp.rounding_deg + exif.rounding_deg) / metre):
            remarks = (*remarks, remark)
    return Position(chosen.latitude, chosen.longitude, remarks=remarks)


def _metres(distance: float) -> str:
    return f"{distance / 1000:.3g} km" if distance >= 1000 else f"{distance:.3g} m"


def _distance_m(one: _Fix, other: _Fix) -> float:
    """Haversine on the sphere of the Earth's mean radius."""
    first, second = math.radians(one.latitude), math.radians(other.latitude)
    across = math.radians(other.longitude - one.longitude)
    half = math.sin((second - first) / 2) ** 2 + math.cos(first) * math.cos(second) * math.sin(across / 2) ** 2
    return 2 * _EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))
