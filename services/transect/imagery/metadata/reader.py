"""What a camera or drone wrote into an image file: EXIF, and the XMP of drones, of Pix4D's Camera namespace and Adobe.

The fields are read by kind: any type and spelling that says one thing is read, and what stands there and cannot be
read is a text, never taken for absent. exiftool's tables were the reference.
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
from transect.imagery.metadata.exif import Value, number_of, text_of, told
from transect.imagery.metadata.numbers import read_metres, read_number
from transect.imagery.metadata.position import find_position
from transect.imagery.metadata.xmp import read_xmp
from transect.imagery.orientation import orientation_in_file, upright_size

# EXIF 2.32, tag 0xA210: inch, centimetre, and what cameras add to them, in micrometres.
_RESOLUTION_UNITS_UM = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}
# A pixel of a camera's sensor, smallest and largest, in micrometres.
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


@dataclass(frozen=True)
class FrameMetadata:
    """Metadata of one frame; None where the file does not say, or says what cannot be.

    `width` and `height` are pixels after `orientation` (EXIF, 1 to 8). `taken_at` is aware where the file gives an
    offset from UTC, else the camera's clock without a time zone. Latitude and longitude are WGS84 degrees;
    `position_sd_m` says how well they are known (metres, each axis). `gps_altitude_m` is above sea level (or the
    ellipsoid: the receiver decides), `relative_altitude_m` above the take-off point. `pixel_pitch_um` is the distance
    of two pixels on the sensor by EXIF. Angles are degrees: `yaw_deg` is the aircraft's, clockwise from north; those
    of the gimbal are the camera's as DJI counts them (pitch -90 looks straight down, 0 ahead; with pitch -90 the yaw
    is where the picture's upper edge points).

    The problems are texts without a full stop: what stands in the file and cannot be read; empty where the value is
    absent or fine. `possible_positions` are the candidates (latitude, longitude) where a hemisphere is not written.
    `remarks` say what was decided between values that contradict one another.
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
    """Read EXIF and XMP without decoding pixels. `name` is what errors call the file (default: the path).

    EXIF wins over XMP where they agree, the finer position where they do not. Raises ImageError when the file is
    missing or no image.
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
    taken_at, time_problem, time_remarks = find_time(exif.main, exif.detail, exif.gps, xmp.items)
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
        taken_at=taken_at,
        latitude=position.latitude,
        longitude=position.longitude,
        gps_altitude_m=altitude,
        relative_altitude_m=relative,
        yaw_deg=angles.aircraft_yaw,
        gimbal_yaw_deg=angles.yaw,
        gimbal_pitch_deg=angles.pitch,
        gimbal_roll_deg=angles.roll,
        orientation=orientation,
        # What could not be read may have held what is absent.
        position_problem=position.problem or (trouble if position.latitude is None else ""),
        position_sd_m=_position_sd(xmp.items),
        pixel_pitch_um=_pixel_pitch(exif.detail, stored_width),
        digital_zoom=_positive(exif.detail.get(Base.DigitalZoomRatio)),
        time_problem=time_problem or (trouble if taken_at is None else ""),
        relative_altitude_problem=relative_problem or (trouble if relative is None else ""),
        gps_altitude_problem=altitude_problem or (trouble if altitude is None else ""),
        attitude_problem=angles.problem or (trouble if no_angles else ""),
        possible_positions=position.possible,
        remarks=position.remarks + time_remarks,
    )


def _positive(value: Value | str | None) -> float | None:
    number = read_number(value) if isinstance(value, str) else number_of(value)
    return number if number is not None and number > 0 else None


def _altitude(gps: Mapping[int, Value], xmp: Mapping[str, str]) -> tuple[float | None, str]:
    """Metres above sea level by EXIF, else by XMP, and what stands there where it cannot be read.

    Reference 1 and EXIF 3.0's 3 mean below; so does a minus sign, once. XMP's altitude of the aircraft is another
    quantity (by the barometer, mostly), so that the two are not compared.
    """
    value, problem = gps.get(GPS.GPSAltitude), ""
    if value is not None:
        altitude = read_metres(text_of(value)) if isinstance(value, str) else number_of(value)
        if altitude is not None:
            return _below(altitude, _reference(gps.get(GPS.GPSAltitudeRef))), ""
        problem = f"EXIF gives GPSAltitude as {told(value)}, which cannot be read"
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
    """DJI's RTK deviations of latitude and longitude, or the Camera namespace's GPSXYAccuracy; zero says nothing."""
    north, east = (_positive(xmp.get(f"drone-dji:{name}", "")) for name in ("RtkStdLat", "RtkStdLon"))
    if north is not None and east is not None:
        return math.sqrt((north**2 + east**2) / 2)
    return _positive(xmp.get("Camera:GPSXYAccuracy", ""))


def _pixel_pitch(detail: Mapping[int, Value], stored_width: int) -> float | None:
    """From FocalPlaneXResolution, for the picture as it is now: its pixels may be fewer than the camera's."""
    stated = number_of(detail.get(Base.FocalPlaneResolutionUnit))
    unit = _RESOLUTION_UNITS_UM.get(int(stated) if stated is not None else 2, 0.0)
    across, down = (_positive(detail.get(tag)) for tag in (Base.FocalPlaneXResolution, Base.FocalPlaneYResolution))
    if across is None or (down is not None and abs(down / across - 1) > 0.05):
        return None
    camera_width = _positive(detail.get(Base.ExifImageWidth)) or float(stored_width)
    pitch = unit / across * camera_width / stored_width
    return pitch if _PIXEL_PITCH_UM[0] <= pitch <= _PIXEL_PITCH_UM[1] else None
