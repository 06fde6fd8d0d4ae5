"""EXIF and XMP in the form of a drone's pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from transect.synth.camera.flight import Camera, Shot
from transect.synth.camera.geo import LocalFrame

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825


@dataclass(frozen=True)
class Site:
    """The origin of the flight's plane, the height of the ground above sea level, and the camera."""

    place: LocalFrame
    elevation_m: float
    camera: Camera


def write_frame(path: Path, pixels: NDArray[np.uint8], shot: Shot, site: Site, *, quality: int) -> None:
    """Write 8-bit RGB pixels as JPEG with the recorded (not the true) pose of the shot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    xmp = _xmp(shot, site).encode()
    Image.fromarray(pixels).save(path, "JPEG", quality=quality, exif=_exif(shot, site), xmp=xmp)


def _exif(shot: Shot, site: Site) -> Image.Exif:
    longitude, latitude = site.place.to_lonlat(shot.recorded.x, shot.recorded.y)
    time = shot.taken_at.strftime("%Y:%m:%d %H:%M:%S")
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = site.camera.make, site.camera.model, time
    exif[0x0112] = 1  # upright
    exif[_EXIF_IFD] = {
        0x9003: time,
        0x9004: time,
        0x9291: f"{shot.taken_at.microsecond // 1000:03d}",
        0x920A: IFDRational(round(site.camera.focal_mm * 100), 100),
        0xA405: round(site.camera.focal_mm * 36 / site.camera.sensor_width_mm),
        0xA002: site.camera.width,
        0xA003: site.camera.height,
    }
    exif[_GPS_IFD] = {
        0: b"\x02\x03\x00\x00",
        1: "N" if latitude >= 0 else "S",
        2: _sexagesimal(latitude),
        3: "E" if longitude >= 0 else "W",
        4: _sexagesimal(longitude),
        5: b"\x00",
        6: IFDRational(round((site.elevation_m + shot.recorded.height_m) * 1000), 1000),
    }
    return exif


def _sexagesimal(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Degrees, minutes and seconds to 1e-6 seconds (3e-10 degrees)."""
    micro = round(abs(degrees) * 3600 * 1_000_000)
    minutes, seconds = divmod(micro, 60 * 1_000_000)
    whole, minutes = divmod(minutes, 60)
    return IFDRational(whole, 1), IFDRational(minutes, 1), IFDRational(seconds, 1_000_000)


def _xmp(shot: Shot, site: Site) -> str:
    pose = shot.recorded
    yaw = (pose.yaw_deg + 180.0) % 360.0 - 180.0
    fields = {
        "AbsoluteAltitude": f"{site.elevation_m + pose.height_m:+.3f}",
        "RelativeAltitude": f"{pose.height_m:+.3f}",
        "GimbalRollDegree": "+0.00",
        "GimbalYawDegree": f"{yaw:+.2f}",
        "GimbalPitchDegree": "-90.00",
        "FlightRollDegree": "+0.00",
        "FlightYawDegree": f"{yaw:+.2f}",
        "FlightPitchDegree": "+0.00",
    }
    attributes = "".join(f'\n    drone-dji:{name}="{value}"' for name, value in fields.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        '  <rdf:Description rdf:about="" xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/"'
        f"{attributes}/>\n"
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )
