"""Camera angles and relative altitude from XMP, by each vendor's names, with problems of unreadable values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from transect.imagery.metadata.numbers import read_degrees, read_metres

# Yaw, pitch and roll of the camera. Skydio writes a structure in the frame north, east, down (degrees).
_CAMERA = (
    ("drone-dji:GimbalYawDegree", "drone-dji:GimbalPitchDegree", "drone-dji:GimbalRollDegree"),
    (
        "drone-skydio:CameraOrientationNED/Yaw",
        "drone-skydio:CameraOrientationNED/Pitch",
        "drone-skydio:CameraOrientationNED/Roll",
    ),
    ("drone-skydio:GimbalYawDegree", "drone-skydio:GimbalPitchDegree", "drone-skydio:GimbalRollDegree"),
    ("drone-parrot:CameraYawDegree", "drone-parrot:CameraPitchDegree", "drone-parrot:CameraRollDegree"),
    ("Camera:Yaw", "Camera:Pitch", "Camera:Roll"),
)
_AIRCRAFT_YAW = ("drone-dji:FlightYawDegree", "drone-skydio:FlightYawDegree", "drone-skydio:VehicleOrientationNED/Yaw")
_RELATIVE_ALTITUDE = ("drone-dji:RelativeAltitude", "drone-skydio:RelativeAltitude", "Camera:AboveGroundAltitude")


@dataclass(frozen=True)
class Angles:
    """Degrees as in FrameMetadata; `problem` names angles of the file that cannot be read."""

    aircraft_yaw: float | None
    yaw: float | None
    pitch: float | None
    roll: float | None
    problem: str


def find_angles(xmp: Mapping[str, str]) -> Angles:
    """The camera's angles in DJI's convention, from the first vendor whose angles can all be read.

    Pix4D's Camera namespace (also of senseFly, MicaSense, Parrot Sequoia, Sentera, Autel) measures the pitch from
    straight down. Some files with that namespace measure it from the horizon; a pitch within 10 degrees of -90 must be
    such, since the camera would otherwise point back at the horizon.
    """
    aircraft, aircraft_problem = first_read(xmp, _AIRCRAFT_YAW, read_degrees)
    problem = ""
    for names in _CAMERA:
        if names[0] not in xmp and names[1] not in xmp:
            continue
        reads = [first_read(xmp, (name,), read_degrees) for name in names]
        unreadable = "; ".join(text for _, text in reads if text)
        if not unreadable:
            yaw, pitch, roll = (number for number, _ in reads)
            if names[0].startswith("Camera:") and pitch is not None and not -100 <= pitch <= -80:
                pitch -= 90
            # Without the camera's own yaw, the aircraft's is used.
            return Angles(aircraft, yaw, pitch, roll, aircraft_problem if yaw is None else "")
        problem = problem or unreadable
    return Angles(aircraft, None, None, None, "; ".join(filter(None, (problem, aircraft_problem))))


def find_relative_altitude(xmp: Mapping[str, str]) -> tuple[float | None, str]:
    """Metres above the take-off point, and the problem if it cannot be read."""
    return first_read(xmp, _RELATIVE_ALTITUDE, read_metres)


def first_read(
    xmp: Mapping[str, str], names: tuple[str, ...], read: Callable[[str], float | None]
) -> tuple[float | None, str]:
    """The first readable value, else None and the problem of the first unreadable one, if any."""
    problem = ""
    for name in names:
        text = xmp.get(name)
        if text is None:
            continue
        number = read(text)
        if number is not None:
            return number, ""
        label = name.partition(":")[2].replace("/", " ")
        problem = problem or f'XMP gives {label} as "{text[:60]}", which cannot be read'
    return None, problem
