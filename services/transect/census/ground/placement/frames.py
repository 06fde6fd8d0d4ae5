"""A photo or map of a survey, and where it was taken."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from transect.census.ground.orthomosaic import Georeference
from transect.census.ground.placement.attitude import off_nadir_deg
from transect.census.ground.placement.cameras import Camera
from transect.census.ground.readings.reading import PhotoReading
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.photos import ChangedPhotoError, Photo, Stamp
from transect.errors import ImageError
from transect.imagery import AS_STORED, FrameMetadata, Raster, Rendering, open_raster


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

    `photo` is its file. `unreadable` is true for a file that is no image; `remarks` are oddities of one that counts.
    `stamp` is the file's when its position was read. Either all times of a survey have an offset from UTC, or none
    has. `is_map` is true for a map, also without a placement. `rendering` is how its samples are shown. `scale` is the
    factor of resampling for the search, 1 for none, and None without a target ground sample distance.
    """

    name: str
    photo: Photo
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
    """A file before it is placed: its name, its row of flights.csv, and what was read in it."""

    name: str
    photo: Photo
    row: FlightRow | None
    read: PhotoReading

    @property
    def metadata(self) -> FrameMetadata:
        """EXIF and XMP; empty for a file that could not be read."""
        return self.read.metadata

    @property
    def failure(self) -> str:
        """The reason why it is no picture; empty for one."""
        return self.read.failure

    @property
    def map(self) -> Georeference | None:
        """The georeference of a map."""
        return self.read.map

    @property
    def is_map(self) -> bool:
        """True for a map, also one that cannot be placed."""
        return self.read.map is not None or bool(self.read.map_problem)


@contextmanager
def open_frame(frame: Frame, *, max_pixels: int) -> Iterator[Raster]:
    """The pixels of a photo as its samples are shown. Raises ImageError where it cannot be read or has changed."""
    try:
        with (
            frame.photo.content() as content,
            open_raster(content.source, name=frame.name, max_pixels=max_pixels, rendering=frame.rendering) as raster,
        ):
            yield raster
    except OSError as error:
        raise ImageError(f"{frame.name} cannot be read: {error.strerror or error}.") from error
    except ChangedPhotoError as error:
        raise ImageError(f"{frame.name} has changed since the survey was read.") from error


def without_placement(frame: Frame, problem: str) -> Frame:
    """The frame without its placement, with `problem` as the reason."""
    return replace(frame, placement=None, problem=problem)
