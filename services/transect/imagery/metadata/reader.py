"""Read the metadata of a camera or drone: EXIF, and XMP of drones, Pix4D's Camera namespace and Adobe.

Every unambiguous type and spelling of a field is read. An unreadable field is reported as a text, and never treated
as absent. exiftool's tables were the reference.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL.ExifTags import GPS, Base

from transect.imagery.decode import DECODE_ERRORS, open_image
from transect.imagery.metadata.camera_angles import find_angles, find_relative_altitude, first_read
from transect.imagery.metadata.capture_time import find_time
from transect.imagery.metadata.containers import Embedded, read_embedded
from transect.imagery.metadata.exif import Value, number_of, quote, text_of
from transect.imagery.metadata.numbers import read_metres, read_number
from transect.imagery.metadata.position import find_position
from transect.imagery.metadata.xmp import read_xmp
from transect.imagery.orientation import orientation_in_file, upright_size

# EXIF 2.32, tag 0xA210: inch, centimetre, and the units that cameras add, in micrometres.
_RESOLUTION_UNITS_UM = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}
# Plausible range of a sensor's pixel pitch, in micrometres.
_PIXEL_PITCH_UM = (0.4, 20.0)
_WANTED = frozenset(
    {
        Base.Make,
        Base.Model,
        Base.DateTime,
        Base.DateTimeOriginal,
        Base.DateTimeDigitized,
        Base.SubsecTime,
        Base.SubsecTimeOriginal,
        Base.SubsecTimeDigitized,
        Base.OffsetTime,
        Base.OffsetTimeOriginal,
        Base.OffsetTimeDigitized,
        Base.FocalLength,
        Base.DigitalZoomRatio,
        Base.FocalPlaneXResolution,
        Base.FocalPlaneYResolution,
        Base.FocalPlaneResolutionUnit,
        Base.ExifImageWidth,
        GPS.GPSLatitude,
        GPS.GPSLatitudeRef,
        GPS.GPSLongitude,
        GPS.GPSLongitudeRef,
        GPS.GPSAltitude,
        GPS.GPSAltitudeRef,
        GPS.GPSDateStamp,
        GPS.GPSTimeStamp,
    }
)


@dataclass(frozen=True, kw_only=True)
class FrameMetadata:
    """Metadata of one frame; None for absent or impossible values.

    `width` and `height` are pixels after `orientation` (EXIF, 1 to 8). `taken_at` is aware if the file has an offset
    from UTC, else the camera's clock without a time zone. Latitude and longitude are WGS84 degrees; `position_sd_m` is
    their standard deviation (metres, each axis). `gps_altitude_m` is above sea level (or the ellipsoid, depending on
    the receiver), `relative_altitude_m` above the take-off point. `pixel_pitch_um` is the pixel pitch of the sensor by
    EXIF. Angles are degrees: `yaw_deg` is the aircraft's, clockwise from north; those of the gimbal are the camera's in
    DJI's convention (pitch -90 is straight down, 0 ahead; with pitch -90 the yaw is the direction of the picture's
    upper edge).

    The problems are texts without a full stop that describe an unreadable value; empty if the value is absent or
    valid. `possible_positions` are the candidates (latitude, longitude) if a hemisphere is missing. `remarks` describe
    the choice between contradictory values.
    """

    width: int | None = None
    height: int | None = None
    make: str | None = None
    model: str | None = None
    focal_mm: float | None = None
    taken_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    gps_altitude_m: float | None = None
    relative_altitude_m: float | None = None
    yaw_deg: float | None = None
    gimbal_yaw_deg: float | None = None
    gimbal_pitch_deg: float | None = None
    gimbal_roll_deg: float | None = None
    orientation: int = 1
    position_problem: str = ""
    position_sd_m: float | None = None
    pixel_pitch_um: float | None = None
    digital_zoom: float | None = None
    time_problem: str = ""
    relative_altitude_problem: str = ""
    gps_altitude_problem: str = ""
    attitude_problem: str = ""
    possible_positions: tuple[tuple[float, float], ...] = ()
    remarks: tuple[str, ...] = ()


def read_frame_metadata(path: Path, *, name: str = "") -> FrameMetadata:
    """Read EXIF and XMP without decoding pixels. `name` is the file's name in errors (default: the path).

    EXIF takes precedence over XMP if they agree, else the finer position. Raises ImageError if the file is missing or
    not an image.
    """
    with open_image(path, name or str(path)) as image:
        stored_width, stored_height = image.size
        orientation = orientation_in_file(path, image, DECODE_ERRORS)
    try:
        embedded = read_embedded(path, _WANTED)
    except OSError:
        embedded = Embedded(damage=["the file could not be read a second time"])
    exif = embedded.exif
    xmp = read_xmp(embedded.packets, embedded.extensions, embedded.damage)
    trouble = "; ".join(xmp.trouble)
    width, height = upright_size(stored_width, stored_height, orientation)
    position = find_position(exif.gps, xmp.items)
    time = find_time(exif.main, exif.detail, exif.gps, xmp.items)
    altitude, altitude_problem = _altitude(exif.gps, xmp.items)
    relative, relative_problem = find_relative_altitude(xmp.items)
    angles = find_angles(xmp.items)
    no_angles = angles.yaw is None and angles.aircraft_yaw is None and angles.pitch is None
    return FrameMetadata(
        width=width,
        height=height,
        make=text_of(exif.main.get(Base.Make)) or None,
        model=text_of(exif.main.get(Base.Model)) or None,
        focal_mm=_positive(exif.detail.get(Base.FocalLength)),
        taken_at=time.taken_at,
        latitude=position.latitude,
        longitude=position.longitude,
        gps_altitude_m=altitude,
        relative_altitude_m=relative,
        yaw_deg=angles.aircraft_yaw,
        gimbal_yaw_deg=angles.yaw,
        gimbal_pitch_deg=angles.pitch,
        gimbal_roll_deg=angles.roll,
        orientation=orientation,
        # An absent value may be in the unreadable part.
        position_problem=position.problem or (trouble if position.latitude is None else ""),
        position_sd_m=_position_sd(xmp.items),
        pixel_pitch_um=_pixel_pitch(exif.detail, stored_width),
        digital_zoom=_positive(exif.detail.get(Base.DigitalZoomRatio)),
        time_problem=time.problem or (trouble if time.taken_at is None else ""),
        relative_altitude_problem=relative_problem or (trouble if relative is None else ""),
        gps_altitude_problem=altitude_problem or (trouble if altitude is None else ""),
        attitude_problem=angles.problem or (trouble if no_angles else ""),
        possible_positions=position.possible,
        remarks=position.remarks + time.remarks,
    )


def _positive(value: Value | str | None) -> float | None:
    number = read_number(value) if isinstance(value, str) else number_of(value)
    return number if number is not None and number > 0 else None


def _altitude(gps: Mapping[int, Value], xmp: Mapping[str, str]) -> tuple[float | None, str]:
    """Metres above sea level by EXIF, else by XMP, and the problem if it cannot be read.

    Reference 1 and EXIF 3.0's 3 mean below; so does a minus sign, without a double negation. XMP's altitude of the
    aircraft is another quantity (mostly barometric), so the two are not compared.
    """
    value, problem = gps.get(GPS.GPSAltitude), ""
    if value is not None:
        altitude = read_metres(text_of(value)) if isinstance(value, str) else number_of(value)
        if altitude is not None:
            return _below(altitude, _reference(gps.get(GPS.GPSAltitudeRef))), ""
        problem = f"EXIF gives GPSAltitude as {quote(value)}, which cannot be read"
    altitude, generic_problem = first_read(xmp, ("exif:GPSAltitude",), read_metres)
    if altitude is not None:
        return _below(altitude, xmp.get("exif:GPSAltitudeRef", "")), ""
    altitude, vendor_problem = first_read(
        xmp,
        (
            "drone-dji:AbsoluteAltitude",
            "drone-skydio:AbsoluteAltitude",
            "drone-parrot:DroneAltitudeEgm96Amsl",
        ),
        read_metres,
    )
    return altitude, "" if altitude is not None else problem or generic_problem or vendor_problem


def _below(altitude: float, reference: str) -> float:
    return -abs(altitude) if reference in ("1", "3") else altitude


def _reference(value: Value | None) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes) and value[:1].isdigit():
        return value[:1].decode("ascii")
    number = number_of(value)
    return f"{number:g}" if number is not None else ""


def _position_sd(xmp: Mapping[str, str]) -> float | None:
    """DJI's RTK deviations of latitude and longitude, or the Camera namespace's GPSXYAccuracy; zero means unknown."""
    north, east = (_positive(xmp.get(f"drone-dji:{name}", "")) for name in ("RtkStdLat", "RtkStdLon"))
    if north is not None and east is not None:
        return math.sqrt((north**2 + east**2) / 2)
    return _positive(xmp.get("Camera:GPSXYAccuracy", ""))


def _pixel_pitch(detail: Mapping[int, Value], stored_width: int) -> float | None:
    """Pixel pitch from FocalPlaneXResolution, corrected for a resized picture."""
    stated = number_of(detail.get(Base.FocalPlaneResolutionUnit))
    unit = _RESOLUTION_UNITS_UM.get(int(stated) if stated is not None else 2, 0.0)
    across, down = (_positive(detail.get(tag)) for tag in (Base.FocalPlaneXResolution, Base.FocalPlaneYResolution))
    if across is None or (down is not None and abs(down / across - 1) > 0.05):
        return None
    camera_width = _positive(detail.get(Base.ExifImageWidth)) or float(stored_width)
    pitch = unit / across * camera_width / stored_width
    return pitch if _PIXEL_PITCH_UM[0] <= pitch <= _PIXEL_PITCH_UM[1] else None
