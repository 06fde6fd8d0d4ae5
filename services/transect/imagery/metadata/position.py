"""Position of a photo: read EXIF's and XMP's, and choose between them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from PIL.ExifTags import GPS

from transect.imagery.metadata.coordinates import Axis, Coordinate, exif_coordinate, parse_coordinate
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
    exif = _exif_pair(gps)
    stored = _xmp_fix(xmp)
    fix = stored if isinstance(stored, _Fix) else None
    remarks: tuple[str, ...] = ()
    found: _Fix | str | None
    if isinstance(exif, tuple):
        north, east = exif
        if fix is not None and (north.sign is None or east.sign is None):
            remarks = ("EXIF gives no hemisphere; XMP's is taken",)
            north, east = _signed_as(north, fix.latitude), _signed_as(east, fix.longitude)
        missing = [
            _missing_hemisphere(axis, one) for axis, one in zip(Axis, (north, east), strict=True) if one.sign is None
        ]
        if missing:
            known = f"EXIF gives latitude {north.degrees:.7g}, longitude {east.degrees:.7g} and does not say whether "
            return Position(problem=known + " and ".join(missing), possible=_candidates(north, east))
        found = _checked(_Fix("EXIF", north.signed, east.signed, min(north.rounding_deg, east.rounding_deg)))
    else:
        found = exif
    if isinstance(found, _Fix):
        return _choose(found, fix, remarks)
    if fix is not None:
        remark = f"{found}; XMP's position is taken" if found else ""
        return Position(fix.latitude, fix.longitude, remarks=(remark,) if remark else ())
    return Position(problem=found or (stored if isinstance(stored, str) else ""))


def _exif_pair(gps: Mapping[int, Value]) -> tuple[Coordinate, Coordinate] | str | None:
    latitude = exif_coordinate(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), Axis.LATITUDE)
    longitude = exif_coordinate(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), Axis.LONGITUDE)
    if isinstance(latitude, str):
        return latitude
    if isinstance(longitude, str):
        return longitude
    if latitude is None or longitude is None:
        return (
            None if latitude is longitude else f"EXIF gives a {'longitude' if latitude is None else 'latitude'} alone"
        )
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


def _checked(fix: _Fix) -> _Fix | str:
    if abs(fix.latitude) > 90 or abs(fix.longitude) > 180:
        return f"{fix.source} says latitude {fix.latitude:g}, longitude {fix.longitude:g}, which is nowhere"
    if fix.latitude == 0 and fix.longitude == 0:
        return f"{fix.source} says latitude 0, longitude 0, which cameras write that have no fix"
    return fix


def _xmp_fix(xmp: Mapping[str, str]) -> _Fix | str | None:
    """The first readable position in XMP, else the problem of the first unreadable one."""
    problem = ""
    for pair in (*_DECIMAL_PAIRS, _GENERIC_PAIR):
        texts = tuple(xmp.get(name, "") for name in pair)
        if not all(texts):
            if any(texts) and pair == _GENERIC_PAIR:
                problem = problem or f"XMP gives {pair[0 if texts[0] else 1]} alone"
            continue
        generic = pair == _GENERIC_PAIR
        coordinates = tuple(
            _xmp_coordinate(text, xmp.get(f"{name}Ref", ""), axis, generic)
            for text, name, axis in zip(texts, pair, Axis, strict=True)
        )
        found: _Fix | str
        if None in coordinates:
            at = coordinates.index(None)
            found = f'XMP gives {pair[at].partition(":")[2]} as "{texts[at][:60]}", which is no angle'
        else:
            north, east = (one for one in coordinates if one is not None)
            found = _checked(_Fix("XMP", north.signed, east.signed, min(north.rounding_deg, east.rounding_deg)))
        if isinstance(found, _Fix):
            return found
        problem = problem or found
    return problem or None


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
