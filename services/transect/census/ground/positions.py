"""Where each photo was taken: flights.csv first, then XMP and EXIF. Nothing is guessed.

A photo without a usable pose keeps the reason; its animals are counted apart.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from transect.census.ground.attitude import Attitude, attitude_of, off_nadir_deg
from transect.census.ground.cameras import Camera, camera_name, camera_of
from transect.census.ground.elevation import Ground, height_above, sample_terrain
from transect.census.ground.geometry import Pose, distance_m
from transect.census.ground.orthomosaic import Georeference, read_georeference
from transect.census.inputs.flights import EARLIEST_YEAR, FlightRow, match_flights, read_flights
from transect.census.inputs.survey import Survey, SurveySpec
from transect.errors import ImageError, SurveyError
from transect.imagery import FrameMetadata, read_frame_metadata
from transect.progress import progress

# flights.csv and EXIF that lie further apart speak of different photos.
_CONTRADICTION_M = 1000.0
# A corner of the picture that looks further than this from straight down is lost to relief and haze.
_STEEPEST_RAY_DEG = 80.0
_TIFF = frozenset({".tif", ".tiff"})

Stamp = tuple[int, int]


@dataclass(frozen=True)
class Placement:
    """Camera position (WGS84 degrees), height above ground (m) and attitude as in geometry.Pose, but from true north.

    `gsd_m` is the ground sample distance straight below the camera (m/px).
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


@dataclass(frozen=True)
class Frame:
    """One photo or map. `placement` is None where `problem` says why; `unreadable` where it is no image at all.

    `remark` says what is odd about one that counts all the same. `stamp` is the file's when its position was read.
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
    remark: str = ""
    stamp: Stamp | None = None


@dataclass(frozen=True)
class _Read:
    """A file before it is placed: what it says, its row of flights.csv, and its georeference if it is a map."""

    name: str
    path: Path
    row: FlightRow | None
    metadata: FrameMetadata
    map: Georeference | str | None = None
    failure: str = ""
    stamp: Stamp | None = None


def place_frames(survey: Survey, max_off_nadir_deg: float) -> tuple[tuple[Frame, ...], tuple[FlightRow, ...]]:
    """Every photo of a survey with its pose, in order of time and name; and rows of flights.csv without photo.

    Raises SurveyError when flights.csv or the DEM cannot be used, photos and maps are mixed, one `camera` is given for
    several, or no photo has a usable position.
    """
    names = [survey.name_of(path) for path in survey.images]
    rows, unused = match_flights(survey.flights_path, read_flights(survey.flights_path), names)
    with ThreadPoolExecutor(4) as pool, progress("Reading positions", len(names)) as advance:
        reads = []
        for read in pool.map(lambda name, path: _read(name, path, rows.get(name)), names, survey.images):
            reads.append(read)
            advance()
    _require_one_kind(survey, reads)
    _require_one_camera(survey, reads)
    grounds = _grounds(survey, reads)
    frames = [_frame(read, survey.spec, max_off_nadir_deg, grounds.get(read.name)) for read in reads]
    require_positions(survey, frames)
    return tuple(sorted(frames, key=_flown_order)), unused


def _flown_order(frame: Frame) -> tuple[bool, datetime, str]:
    return frame.taken_at is None, frame.taken_at or datetime.min, frame.name  # noqa: DTZ901 - camera clocks have no zone


def stamp_of(path: Path) -> Stamp:
    """When a file was last written, in ns, and its size: another stamp is another content. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _read(name: str, path: Path, row: FlightRow | None) -> _Read:
    if path.exists() and not path.is_file():
        # A pipe would be waited for.
        return _Read(name, path, row, FrameMetadata(), failure=f"{name} is no regular file.")
    try:
        stamp = stamp_of(path)
        metadata = read_frame_metadata(path, name=name)
    except OSError as error:
        return _Read(name, path, row, FrameMetadata(), failure=f"{name} cannot be read: {error.strerror or error}.")
    except ImageError as error:
        return _Read(name, path, row, FrameMetadata(), failure=str(error))
    georeference = read_georeference(path) if path.suffix.lower() in _TIFF else None
    if isinstance(georeference, Georeference) and metadata.orientation != 1:
        georeference = (
            "no position: it is a map with an EXIF orientation, so it could be meant either way; export it anew."
        )
    return _Read(name, path, row, metadata, georeference, stamp=stamp)


def _frame(read: _Read, spec: SurveySpec, max_off_nadir_deg: float, ground: Ground | None) -> Frame:
    row, metadata = read.row, read.metadata
    transect = _transect(read.name, row, spec)
    if read.failure:
        return Frame(read.name, read.path, transect, None, 0, 0, None, read.failure, unreadable=True)
    taken_at, remark = row.time if row is not None else None, ""
    # The date in a map is that of its making.
    if taken_at is None and read.map is None:
        taken_at = metadata.taken_at
        if taken_at is not None and taken_at.year < EARLIEST_YEAR:
            remark = (
                f"it says that it was taken on {taken_at:%Y-%m-%d}: the camera's clock was not set, so it has no time."
            )
            taken_at = None
    found = read.map if read.map is not None else place(metadata, row, spec, max_off_nadir_deg, ground)
    problem, placement = (found, None) if isinstance(found, str) else ("", found)
    size = (metadata.width or 0, metadata.height or 0)
    return Frame(read.name, read.path, transect, taken_at, *size, placement, problem, remark=remark, stamp=read.stamp)


def _transect(name: str, row: FlightRow | None, spec: SurveySpec) -> str | None:
    if row is not None and row.transect:
        return row.transect
    folder = name.rpartition("/")[0]
    return folder or None if spec.transects.source == "folder" else None


def place(
    metadata: FrameMetadata,
    row: FlightRow | None,
    spec: SurveySpec,
    max_off_nadir_deg: float,
    ground: Ground | None = None,
) -> Placement | str:
    """The pose of one photo, or a sentence that says what it lacks. `ground` is the terrain, where a DEM gives it."""
    row = row or FlightRow(0, "")
    position = _position(metadata, row)
    if isinstance(position, str):
        return position
    height = _height(metadata, row, spec, ground)
    if isinstance(height, str):
        return height
    attitude = attitude_of(metadata, row)
    if isinstance(attitude, str):
        return attitude
    camera = camera_of(metadata, spec)
    if isinstance(camera, str):
        return camera
    problem = _tilt_problem(attitude, camera, metadata, max_off_nadir_deg)
    if problem:
        return problem
    accuracy = row.accuracy_m if row.lat is not None else row.accuracy_m or metadata.position_sd_m
    return Placement(
        position[0],
        position[1],
        height,
        attitude.yaw_deg,
        height / camera.focal_px,
        attitude.pitch_deg,
        attitude.roll_deg,
        attitude.turn_deg,
        accuracy,
        camera,
    )


def _tilt_problem(attitude: Attitude, camera: Camera, metadata: FrameMetadata, max_off_nadir_deg: float) -> str:
    if attitude.off_nadir_deg > max_off_nadir_deg:
        return (
            f"a tilted camera: it looked {attitude.off_nadir_deg:.1f} degrees off the vertical; the limit is "
            f"{max_off_nadir_deg:g} (a pitch of -90 is straight down)."
        )
    size = (metadata.width or 0, metadata.height or 0)
    # Angles alone: the same at any height.
    pose = Pose(0, 0, 0, camera.focal_px, 1.0, *size, attitude.pitch_deg, attitude.roll_deg, attitude.turn_deg)
    steepest = pose.steepest_ray_deg()
    if steepest > _STEEPEST_RAY_DEG:
        return f"a tilted camera: a corner of the picture looks {steepest:.0f} degrees off the vertical."
    return ""


def _position(metadata: FrameMetadata, row: FlightRow) -> tuple[float, float] | str:
    latitude, longitude = metadata.latitude, metadata.longitude
    if row.lat is not None and row.lon is not None:
        if latitude is not None and longitude is not None:
            apart = distance_m(longitude, latitude, row.lon, row.lat)
            if apart > _CONTRADICTION_M:
                return (
                    f"contradictory positions: EXIF and flights.csv line {row.line} lie {apart / 1000:.3g} km apart; "
                    "correct the row, or the photo that it names."
                )
        latitude, longitude = row.lat, row.lon
    if latitude is None or longitude is None:
        told = metadata.position_problem or "neither flights.csv nor EXIF gives latitude and longitude"
        return f"no position: {told}."
    if abs(latitude) > 84 or abs(longitude) > 180 or (latitude == 0 and longitude == 0):
        return f"no position: latitude {latitude:g}, longitude {longitude:g} is not where a photo was taken."
    return latitude, longitude


def _height(metadata: FrameMetadata, row: FlightRow, spec: SurveySpec, ground: Ground | None) -> float | str:
    rule = spec.height
    height: float | str | None
    if row.height_agl_m is not None:
        height = row.height_agl_m
    elif rule.source == "fixed":
        height = rule.height_agl_m
    elif rule.source == "gps_altitude":
        altitude, elevation = metadata.gps_altitude_m, rule.ground_elevation_m
        height = None if altitude is None or elevation is None else altitude - elevation
    elif rule.source == "relative_altitude":
        height = metadata.relative_altitude_m
    elif rule.source == "dem":
        height = height_above(ground, rule, metadata.relative_altitude_m, metadata.gps_altitude_m)
    else:
        height = None
    if isinstance(height, str):
        return height
    if height is None:
        asked = {
            "relative_altitude": "XMP has no RelativeAltitude and flights.csv no height_agl_m",
            "flights": "flights.csv has no height_agl_m for it",
            "gps_altitude": "EXIF has no GPSAltitude and flights.csv no height_agl_m",
            "fixed": "survey.yaml gives none",
        }
        return f"no height above ground: {asked[rule.source]}."
    if not 0.1 <= height <= 20_000:
        return f"no height above ground: {height:g} m is impossible."
    return height


def _grounds(survey: Survey, reads: Sequence[_Read]) -> Mapping[str, Ground]:
    """The terrain below each photo that has a position and needs it, by name."""
    rule = survey.spec.height
    if rule.source != "dem" or rule.dem is None:
        return {}
    known = []
    for read in reads:
        position = _position(read.metadata, read.row or FlightRow(0, ""))
        if not isinstance(position, str):
            known.append((read, position))
    if not known:
        return {}
    places = np.array([(lon, lat) for _, (lat, lon) in known])
    if rule.altitude == "relative":
        first = min(known, key=lambda one: _read_order(one[0]))[1]
        take_off = rule.take_off or (first[1], first[0])
        places = np.concatenate([places, [take_off]])
    elevations = sample_terrain(survey.folder / rule.dem, places[:, 0], places[:, 1])
    start = float(elevations[-1]) if rule.altitude == "relative" else None
    return {read.name: Ground(float(below), start) for (read, _), below in zip(known, elevations, strict=False)}


def _read_order(read: _Read) -> tuple[bool, datetime, str]:
    time = (read.row.time if read.row is not None else None) or read.metadata.taken_at
    usable = time is not None and time.year >= EARLIEST_YEAR
    return not usable, time if usable and time is not None else datetime.min, read.name  # noqa: DTZ901 - as above


def _require_one_kind(survey: Survey, reads: Sequence[_Read]) -> None:
    maps = [read.name for read in reads if read.map is not None]
    photos = [read.name for read in reads if read.map is None and not read.failure]
    if maps and photos:
        raise SurveyError(
            f"Survey {survey.folder} mixes orthomosaics ({maps[0]}) and photos ({photos[0]}): a map is made of photos, "
            "so their animals would stand in it twice; count them as two surveys."
        )


def _require_one_camera(survey: Survey, reads: Sequence[_Read]) -> None:
    """One sensor for all is wrong where several models took the photos."""
    spec = survey.spec
    if spec.camera is None:
        return
    models = {
        read.metadata.model: camera_name(read.metadata)
        for read in reads
        if read.map is None and read.metadata.model and read.metadata.model not in spec.cameras
    }
    if len(models) > 1:
        first, second, *_ = sorted(models.values())
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} gives one camera for all photos, but they come from several "
            f"({first}, {second}); give each its own as `cameras: {{MODEL: {{sensor_width_mm: ..., focal_mm: ...}}}}`, "
            "or none where the table of cameras knows them."
        )


def require_positions(survey: Survey, frames: Sequence[Frame]) -> None:
    """Raise SurveyError where no photo can be placed, with the reason of the first."""
    if any(frame.placement is not None for frame in frames):
        return
    if all(frame.unreadable for frame in frames):
        raise SurveyError(f"No photo of survey {survey.folder} can be read; the first: {frames[0].problem}")
    frame = next(frame for frame in frames if not frame.unreadable)
    reason = f"No photo of survey {survey.folder} has a usable position ({frame.name}: {frame.problem.rstrip('.')})"
    if frame.problem.startswith(("no position", "no height", "no heading")):
        columns = "image, transect, lat, lon, height_agl_m, yaw_deg"
        raise SurveyError(f"{reason}; add {survey.flights_path.name} with columns {columns}.")
    raise SurveyError(f"{reason}.")


def displaced(frame: Frame, problem: str) -> Frame:
    """The frame without its placement, for the reason given."""
    return replace(frame, placement=None, problem=problem)
