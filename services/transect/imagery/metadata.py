"""What a camera or drone wrote into an image file: EXIF, and DJI's XMP."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from transect.imagery.decode import open_image

# Orientations 5 to 8 turn the image by a quarter (EXIF 2.32, tag 0x0112).
_QUARTER_TURNS = frozenset({5, 6, 7, 8})
_XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
_TIFF_XMP_TAG = 700
_DJI_ITEM = re.compile(r'(?<!/)drone-dji:(\w+)\s*(?:=\s*["\']([^"\']*)["\']|>\s*([^<]*)<)')


@dataclass(frozen=True)
class FrameMetadata:
    """Metadata of one frame; None where the file does not say, or says what cannot be.

    `width` and `height` are pixels after orientation. `taken_at` is the camera's clock, without a
    time zone. Latitude and longitude are WGS84 degrees. `gps_altitude_m` is above sea level,
    `relative_altitude_m` above the take-off point. Angles are degrees; yaw is clockwise from north.
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


def read_frame_metadata(path: Path) -> FrameMetadata:
    """Read EXIF and XMP (`drone-dji`, written as attributes or as elements) without decoding pixels.

    Absent or impossible values are None. Raises ImageError when the file is missing or no image.
    """
    with open_image(path, str(path)) as image:
        main, detail, gps = _exif_blocks(image)
        dji = _dji_items(image)
        width, height = image.size
        if main.get(Base.Orientation) in _QUARTER_TURNS:
            width, height = height, width
    latitude, longitude = _position(gps, dji)
    focal = _number(detail.get(Base.FocalLength))
    return FrameMetadata(
        width=width,
        height=height,
        make=_text(main.get(Base.Make)),
        model=_text(main.get(Base.Model)),
        focal_mm=focal if focal is not None and focal > 0 else None,
        taken_at=_time(main, detail),
        latitude=latitude,
        longitude=longitude,
        gps_altitude_m=_altitude(gps),
        relative_altitude_m=_number(dji.get("RelativeAltitude")),
        yaw_deg=_angle(dji.get("FlightYawDegree")),
        gimbal_yaw_deg=_angle(dji.get("GimbalYawDegree")),
        gimbal_pitch_deg=_angle(dji.get("GimbalPitchDegree")),
        gimbal_roll_deg=_angle(dji.get("GimbalRollDegree")),
    )


def _exif_blocks(image: Image.Image) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    """The main, Exif and GPS directories; a damaged block reads as empty."""
    try:
        exif = image.getexif()
        return dict(exif), dict(exif.get_ifd(IFD.Exif)), dict(exif.get_ifd(IFD.GPSInfo))
    except Exception:  # noqa: BLE001  Pillow raises many kinds on damaged EXIF, and a photo without position is no error
        return {}, {}, {}


def _dji_items(image: Image.Image) -> dict[str, str]:
    raw: Any = next((image.info[key] for key in _XMP_KEYS if key in image.info), None)
    if raw is None:
        raw = getattr(image, "tag_v2", {}).get(_TIFF_XMP_TAG)
    if isinstance(raw, bytes):
        raw = raw.decode("utf-8", errors="replace")
    if not isinstance(raw, str):
        return {}
    return {name: attribute or element for name, attribute, element in _DJI_ITEM.findall(raw)}


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def _angle(value: Any) -> float | None:
    angle = _number(value)
    return angle if angle is not None and abs(angle) <= 360 else None


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


def _position(gps: dict[int, Any], dji: dict[str, str]) -> tuple[float | None, float | None]:
    latitude = _degrees(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), "S")
    longitude = _degrees(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), "W")
    if latitude is None or longitude is None:
        latitude = _number(dji.get("GpsLatitude"))
        # DJI's own misspelling is in the files of several of its cameras.
        longitude = _number(dji.get("GpsLongitude", dji.get("GpsLongtitude")))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None, None
    # Cameras without a fix write zeros.
    return (None, None) if latitude == 0 and longitude == 0 else (latitude, longitude)


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


def _altitude(gps: dict[int, Any]) -> float | None:
    altitude = _number(gps.get(GPS.GPSAltitude))
    below_sea = gps.get(GPS.GPSAltitudeRef) in (1, b"\x01")
    return -altitude if altitude is not None and below_sea else altitude
