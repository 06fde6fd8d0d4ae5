"""The camera's attitude: yaw, pitch and roll from flights.csv or XMP, and the rotation by EXIF orientation."""

import math
from dataclasses import dataclass

from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.flights import FlightRow
from transect.imagery import FrameMetadata

# Clockwise rotation in degrees of the upright picture's upper edge from the stored one's; the others are mirrored.
_TURNS = {1: 0.0, 3: 180.0, 6: -90.0, 8: 90.0}
# A gimbal that reports more roll than this points down over its back.
_UPSIDE_DOWN_DEG = 90.0


def off_nadir_deg(pitch_deg: float, roll_deg: float) -> float:
    """The angle between a camera's axis and straight down, from pitch and roll as in geometry.Pose."""
    cosine = math.cos(math.radians(pitch_deg + 90)) * math.cos(math.radians(roll_deg))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


@dataclass(frozen=True)
class Attitude:
    """Degrees as in geometry.Pose, the yaw clockwise from true north, 0 to 360."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    turn_deg: float

    @property
    def off_nadir_deg(self) -> float:
        """The angle between the camera's axis and straight down."""
        return off_nadir_deg(self.pitch_deg, self.roll_deg)


def attitude_of(metadata: FrameMetadata, row: FlightRow) -> Attitude:
    """The attitude of a photo; flights.csv takes precedence cell by cell. Raises UnplacedError where it has none.

    Without a pitch the camera is taken to be at nadir, except where XMP has an angle that cannot be read and
    flights.csv does not give it. A yaw is that of the picture as the camera stored it.
    """
    turn = _TURNS.get(metadata.orientation)
    if turn is None:
        raise UnplacedError("no heading: its EXIF orientation mirrors it; store it as the camera took it.")
    if metadata.attitude_problem and None in _gimbal(metadata, row):
        raise UnplacedError(
            f"no heading: {metadata.attitude_problem}; give yaw_deg, pitch_deg and roll_deg in flights.csv."
        )
    yaw = next((y for y in (row.yaw_deg, metadata.gimbal_yaw_deg, metadata.yaw_deg) if y is not None), None)
    if yaw is None:
        raise UnplacedError(
            "no heading: neither flights.csv (yaw_deg) nor XMP says which way the photo's upper edge points."
        )
    pitch = next((p for p in (row.pitch_deg, metadata.gimbal_pitch_deg) if p is not None), -90.0)
    roll = next((r for r in (row.roll_deg, metadata.gimbal_roll_deg) if r is not None), 0.0)
    roll = _signed(roll)
    if abs(roll) > _UPSIDE_DOWN_DEG:
        yaw, roll = yaw + _half_turn(metadata, row), _signed(roll + 180)
    return Attitude(yaw % 360, pitch, roll, turn)


def _gimbal(metadata: FrameMetadata, row: FlightRow) -> tuple[float | None, ...]:
    """Yaw, pitch and roll as far as flights.csv or the gimbal gives them."""
    pairs = (
        (row.yaw_deg, metadata.gimbal_yaw_deg),
        (row.pitch_deg, metadata.gimbal_pitch_deg),
        (row.roll_deg, metadata.gimbal_roll_deg),
    )
    return tuple(written if written is not None else reported for written, reported in pairs)


def _half_turn(metadata: FrameMetadata, row: FlightRow) -> float:
    """The correction of the yaw of a gimbal that writes a roll of 180 degrees at nadir. Raises UnplacedError.

    At nadir, roll and yaw turn about one axis. Some gimbals write such a roll together with a yaw that is off by half a
    circle (DJI H30T, compared with poses from photogrammetry: issue 36 of leftfield-geospatial/orthority), others with
    the right yaw. The aircraft's own heading decides.
    """
    if row.yaw_deg is not None:
        return 0.0
    if metadata.yaw_deg is None or metadata.gimbal_yaw_deg is None:
        raise UnplacedError(
            "no heading: the gimbal writes a roll of 180 degrees, and nothing says whether its yaw is turned with it."
        )
    apart = abs(_signed(metadata.gimbal_yaw_deg - metadata.yaw_deg))
    if 60 < apart < 120:
        raise UnplacedError("no heading: the gimbal writes a roll of 180 degrees and a yaw across the aircraft's.")
    return 180.0 if apart >= 120 else 0.0


def _signed(degrees: float) -> float:
    return (degrees + 180) % 360 - 180
