"""A photo or map of a survey, and where it was taken."""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from transect.census.ground.orthomosaic import Georeference
from transect.census.ground.placement.attitude import off_nadir_deg
from transect.census.ground.placement.cameras import Camera
from transect.census.inputs.flights import FlightRow
from transect.imagery import AS_STORED, FrameMetadata, Rendering

Stamp = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Camera position (WGS84 degrees), height above ground (m) and attitude as in geometry.Pose, but from true north.

    `gsd_m` is the ground sample distance at nadir (m/px).
    """

    latitude: float
    longitude: float
    height_m: float
    yaw_deg: float
    gsd_m: float
    pitch_deg: float = -90.0
    roll_deg: float = 0.0
    turn_deg: float = 0.0
    position_sd_m: float | None = None
    camera: Camera | None = None

    @property
    def off_nadir_deg(self) -> float:
        """The angle between the camera's axis and straight down."""
        return off_nadir_deg(self.pitch_deg, self.roll_deg)

    @property
    def middle_gsd_m(self) -> float:
        """The ground sample distance in the middle of the picture (m/px): more than `gsd_m` where it is tilted.

        The root of the ground that a pixel covers there, as in Pose.scale_at.
        """
        return self.gsd_m / math.pow(math.cos(math.radians(self.off_nadir_deg)), 1.5)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One photo or map. `placement` is None with the reason in `problem`.

    `unreadable` is true for a file that is no image; `remarks` are oddities of one that counts. `stamp` is the file's
    when its position was read. Either all times of a survey have an offset from UTC, or none has. `is_map` is true for
    a map, also without a placement. `rendering` is how its samples are shown. `scale` is the factor of resampling for
    the search, 1 for none, and None without a target ground sample distance.
    """

    name: str
    path: Path
    transect: str | None
    taken_at: datetime | None
    width: int
    height: int
    placement: Placement | Georeference | None
    problem: str = ""
    unreadable: bool = False
    remarks: tuple[str, ...] = ()
    stamp: Stamp | None = None
    is_map: bool = False
    rendering: Rendering = AS_STORED
    scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file before it is placed: its metadata, its row of flights.csv, and its georeference if it is a map.

    A map that cannot be placed has the reason in `map_problem`. `depth` is the number of bits that its 16-bit samples
    use; `remarks` are on how its samples are read.
    """

    name: str
    path: Path
    row: FlightRow | None
    metadata: FrameMetadata
    map: Georeference | None = None
    map_problem: str = ""
    failure: str = ""
    stamp: Stamp | None = None
    depth: int | None = None
    remarks: tuple[str, ...] = ()

    @property
    def is_map(self) -> bool:
        """True for a map, also one that cannot be placed."""
        return self.map is not None or bool(self.map_problem)


def without_placement(frame: Frame, problem: str) -> Frame:
    """The frame without its placement, with `problem` as the reason."""
    return replace(frame, placement=None, problem=problem)


def stamp_of(path: Path) -> Stamp:
    """Modification time in ns and size of a file, to detect a change of content. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size
