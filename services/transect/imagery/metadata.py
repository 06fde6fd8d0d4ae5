"""What a camera or drone wrote into an image file: EXIF, and the XMP of DJI, Parrot and Pix4D's Camera namespace."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from transect.imagery.decode import open_image
from transect.imagery.xmp import xmp_items

# Orientations 5 to 8 turn the image by a quarter (EXIF 2.32, tag 0x0112).
_QUARTER_TURNS = frozenset({5, 6, 7, 8})
# EXIF 2.32, tag 0xA210: inch, centimetre, and what cameras add to them, in micrometres.
_RESOLUTION_UNITS_UM = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}
# A pixel of a camera's sensor, smallest and largest, in micrometres.
_PIXEL_PITCH_UM = (0.4, 20.0)


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
    """Read EXIF and XMP (written as attributes or as elements) without decoding pixels.

    EXIF wins over XMP. Absent or impossible values are None. `name` is what errors call it (default: the path).
    Raises ImageError when the file is missing or no image.
    """
    with open_image(path, name or str(path)) as image:
        main, detail, gps = _exif_blocks(image)
        xmp = xmp_items(image)
        stored_width, stored_height = image.size
    orientation = main.get(Base.Orientation)
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    turned = orientation in _QUARTER_TURNS
    latitude, longitude, problem = _position(gps, xmp)
    yaw, pitch, roll = _camera_angles(xmp)
    return FrameMetadata(
        width=stored_height if turned else stored_width,
        height=stored_width if turned else stored_height,
        make=_text(main.get(Base.Make)),
        model=_text(main.get(Base.Model)),
        focal_mm=_positive(detail.get(Base.FocalLength)),
        taken_at=_time(main, detail),
        latitude=latitude,
        longitude=longitude,
        gps_altitude_m=_altitude(gps, xmp),
        relative_altitude_m=_first(xmp, "drone-dji:RelativeAltitude", "Camera:AboveGroundAltitude"),
        yaw_deg=_angle(xmp.get("drone-dji:FlightYawDegree")),
        gimbal_yaw_deg=yaw,
        gimbal_pitch_deg=pitch,
        gimbal_roll_deg=roll,
        orientation=orientation,
        position_problem=problem,
        position_sd_m=_position_sd(xmp),
        pixel_pitch_um=_pixel_pitch(detail, stored_width),
        digital_zoom=_positive(detail.get(Base.DigitalZoomRatio)),
    )


def _exif_blocks(image: Image.Image) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    """The main, Exif and GPS directories; a damaged block reads as empty."""
    try:
        exif = image.getexif()
        return dict(exif), dict(exif.get_ifd(IFD.Exif)), dict(exif.get_ifd(IFD.GPSInfo))
    except Exception:  # noqa: BLE001  Pillow raises many kinds on damaged EXIF, and a photo without position is no error
        return {}, {}, {}


def _number(value: Any) -> float | None:
    """A finite number, also from a text such as +61.30 or 613/10."""
    try:
        if isinstance(value, str) and "/" in value:
            above, _, below = value.partition("/")
            number = float(above) / float(below)
        else:
            number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _angle(value: Any) -> float | None:
    angle = _number(value)
    return angle if angle is not None and abs(angle) <= 360 else None


def _first(xmp: Mapping[str, str], *names: str) -> float | None:
    return next((number for number in map(_number, map(xmp.get, names)) if number is not None), None)


def _text(value: Any) -> str | None:
    return (value.replace("\x00", "").strip() or None) if isinstance(value, str) else None


def _time(main: dict[int, Any], detail: dict[int, Any]) -> datetime | None:
    text = _text(detail.get(Base.DateTimeOriginal)) or _text(main.get(Base.DateTime))
    if text is None:
        return None
    try:
        moment = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007  EXIF has no time zone here
    except ValueError:
        return None
    fraction = _text(detail.get(Base.SubsecTimeOriginal)) or ""
    return moment.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction.isdecimal() else moment


def _camera_angles(xmp: Mapping[str, str]) -> tuple[float | None, float | None, float | None]:
    """Yaw, pitch and roll of the camera as DJI counts them.

    Pix4D's Camera namespace (senseFly, MicaSense, Parrot Sequoia, Sentera, Autel write it too) counts the pitch from
    straight down. Some files with that namespace count it from the horizon all the same; within 10 degrees of -90
    it can only be that, since the camera would look back to the horizon.
    """
    for yaw_name, pitch_name, roll_name in (
        ("drone-dji:GimbalYawDegree", "drone-dji:GimbalPitchDegree", "drone-dji:GimbalRollDegree"),
        ("drone-parrot:CameraYawDegree", "drone-parrot:CameraPitchDegree", "drone-parrot:CameraRollDegree"),
    ):
        if yaw_name in xmp or pitch_name in xmp:
            return _angle(xmp.get(yaw_name)), _angle(xmp.get(pitch_name)), _angle(xmp.get(roll_name))
    yaw, pitch, roll = (_angle(xmp.get(f"Camera:{name}")) for name in ("Yaw", "Pitch", "Roll"))
    if pitch is not None and not -100 <= pitch <= -80:
        pitch -= 90
    return yaw, pitch, roll


def _position(gps: dict[int, Any], xmp: Mapping[str, str]) -> tuple[float | None, float | None, str]:
    """Latitude, longitude, and what is wrong with them where they are absent though the file has them."""
    latitude = _degrees(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), "S")
    longitude = _degrees(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), "W")
    source = "EXIF"
    if latitude is None or longitude is None:
        source = "XMP"
        latitude = _number(xmp.get("drone-dji:GpsLatitude"))
        # DJI's own misspelling is in the files of several of its cameras.
        longitude = _number(xmp.get("drone-dji:GpsLongitude", xmp.get("drone-dji:GpsLongtitude")))
    if latitude is None or longitude is None:
        latitude = _xmp_degrees(xmp.get("exif:GPSLatitude"))
        longitude = _xmp_degrees(xmp.get("exif:GPSLongitude"))
    if latitude is None or longitude is None:
        return None, None, ""
    if abs(latitude) > 90 or abs(longitude) > 180:
        return None, None, f"{source} says latitude {latitude:g}, longitude {longitude:g}, which is nowhere"
    if latitude == 0 and longitude == 0:
        return None, None, f"{source} says latitude 0, longitude 0, which cameras write that have no fix"
    return latitude, longitude, ""


def _degrees(parts: Any, reference: Any, negative: str) -> float | None:
    try:
        numbers = [_number(part) for part in parts]
    except TypeError:
        return None
    if len(numbers) != 3 or any(number is None for number in numbers):
        return None
    degrees, minutes, seconds = (number or 0.0 for number in numbers)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if _text(reference) == negative else value


def _xmp_degrees(text: str | None) -> float | None:
    """`34,45.5E`, `34,45,30E` (XMP specification, part 2, GPSCoordinate) or a plain signed number."""
    if not text:
        return None
    negative, digits = text[-1:] in "SWsw", text.rstrip("NSEWnsew")
    parts = [_number(part) for part in digits.split(",")]
    if len(parts) > 3 or any(part is None for part in parts):
        return None
    value = sum((part or 0.0) / float(60**power) for power, part in enumerate(parts))
    return -value if negative else value


def _altitude(gps: dict[int, Any], xmp: Mapping[str, str]) -> float | None:
    altitude, below_sea = _number(gps.get(GPS.GPSAltitude)), gps.get(GPS.GPSAltitudeRef) in (1, b"\x01")
    if altitude is None:
        altitude, below_sea = _number(xmp.get("exif:GPSAltitude")), xmp.get("exif:GPSAltitudeRef") == "1"
    if altitude is None:
        return _first(xmp, "drone-dji:AbsoluteAltitude")
    return -altitude if below_sea else altitude


def _position_sd(xmp: Mapping[str, str]) -> float | None:
    """DJI's RTK deviations of latitude and longitude, or the Camera namespace's GPSXYAccuracy; zero says nothing."""
    north, east = _positive(xmp.get("drone-dji:RtkStdLat")), _positive(xmp.get("drone-dji:RtkStdLon"))
    if north is not None and east is not None:
        return math.sqrt((north**2 + east**2) / 2)
    return _positive(xmp.get("Camera:GPSXYAccuracy"))


def _pixel_pitch(detail: dict[int, Any], stored_width: int) -> float | None:
    """From FocalPlaneXResolution, for the picture as it is now: its pixels may be fewer than the camera's."""
    unit = _RESOLUTION_UNITS_UM.get(detail.get(Base.FocalPlaneResolutionUnit, 2), 0.0)
    across, down = (_positive(detail.get(tag)) for tag in (Base.FocalPlaneXResolution, Base.FocalPlaneYResolution))
    if across is None or (down is not None and abs(down / across - 1) > 0.05):
        return None
    camera_width = _positive(detail.get(Base.ExifImageWidth)) or float(stored_width)
    pitch = unit / across * camera_width / stored_width
    return pitch if _PIXEL_PITCH_UM[0] <= pitch <= _PIXEL_PITCH_UM[1] else None
