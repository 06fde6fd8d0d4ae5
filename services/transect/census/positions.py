"""Where each photo was taken: flights.csv first, then XMP and EXIF. Nothing is guessed.

A photo without a usable pose keeps the reason; its animals are counted apart.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from transect.census.flights import FlightRow, match_flights, read_flights
from transect.census.geometry import ground_sample_distance
from transect.census.survey import Survey, SurveySpec
from transect.errors import ImageError, SurveyError
from transect.imagery import FrameMetadata, read_frame_metadata
from transect.progress import progress


@dataclass(frozen=True)
class Placement:
    """Camera position (WGS84 degrees), height above ground (m), heading of the image's upper edge (degrees
    clockwise from true north) and ground sample distance (m/px)."""

    latitude: float
    longitude: float
    height_m: float
    yaw_deg: float
    gsd_m: float


@dataclass(frozen=True)
class Frame:
    """One photo. `placement` is None where `problem` says why; `unreadable` where it is no image at all."""

    name: str
    path: Path
    transect: str | None
    taken_at: datetime | None
    width: int
    height: int
    placement: Placement | None
    problem: str = ""
    unreadable: bool = False


def place_frames(survey: Survey, max_off_nadir_deg: float) -> tuple[tuple[Frame, ...], tuple[FlightRow, ...]]:
    """Every photo of a survey with its pose, in order of time and name; and rows of flights.csv without photo.

    Raises SurveyError when the camera is unknown, flights.csv is malformed, or no photo has a usable position.
    """
    _require_camera(survey)
    names = [survey.name_of(path) for path in survey.images]
    rows, unused = match_flights(survey.flights_path, read_flights(survey.flights_path), names)

    def one(name: str, path: Path) -> Frame:
        return _frame(name, path, rows.get(name), survey.spec, max_off_nadir_deg)

    with ThreadPoolExecutor(4) as pool, progress("Reading positions", len(names)) as advance:
        frames = []
        for frame in pool.map(one, names, survey.images):
            frames.append(frame)
            advance()
    _require_positions(survey, frames)
    return tuple(sorted(frames, key=_flown_order)), unused


def _flown_order(frame: Frame) -> tuple[bool, datetime, str]:
    return frame.taken_at is None, frame.taken_at or datetime.min, frame.name  # noqa: DTZ901 - camera clocks have no zone


def _frame(name: str, path: Path, row: FlightRow | None, spec: SurveySpec, max_off_nadir_deg: float) -> Frame:
    transect = _transect(name, row, spec)
    try:
        metadata = read_frame_metadata(path)
    except ImageError as error:
        return Frame(name, path, transect, None, 0, 0, None, str(error), unreadable=True)
    placement = place(metadata, row, spec, max_off_nadir_deg)
    return Frame(
        name,
        path,
        transect,
        row.time if row is not None and row.time is not None else metadata.taken_at,
        metadata.width or 0,
        metadata.height or 0,
        None if isinstance(placement, str) else placement,
        placement if isinstance(placement, str) else "",
    )


def _transect(name: str, row: FlightRow | None, spec: SurveySpec) -> str | None:
    if row is not None and row.transect:
        return row.transect
    folder = name.rpartition("/")[0]
    return folder or None if spec.transects.source == "folder" else None


def place(
    metadata: FrameMetadata, row: FlightRow | None, spec: SurveySpec, max_off_nadir_deg: float
) -> Placement | str:
    """The pose of one photo, or a sentence that says what it lacks."""
    row = row or FlightRow(0, "")
    latitude = metadata.latitude if row.lat is None else row.lat
    longitude = metadata.longitude if row.lon is None else row.lon
    if latitude is None or longitude is None:
        return "no position: neither flights.csv nor EXIF gives latitude and longitude."
    if abs(latitude) > 84 or abs(longitude) > 180 or (latitude == 0 and longitude == 0):
        return f"no position: latitude {latitude:g}, longitude {longitude:g} is not where a photo was taken."
    height = _height(metadata, row, spec)
    if isinstance(height, str):
        return height
    yaw = next((y for y in (row.yaw_deg, metadata.gimbal_yaw_deg, metadata.yaw_deg) if y is not None), None)
    if yaw is None:
        return "no heading: neither flights.csv (yaw_deg) nor XMP says which way the photo's upper edge points."
    tilt = _tilt(metadata)
    if tilt > max_off_nadir_deg:
        return (
            f"not looking down: the camera was {tilt:.1f} degrees off the vertical; the limit is {max_off_nadir_deg:g}."
        )
    gsd = _gsd(metadata, spec, height)
    return gsd if isinstance(gsd, str) else Placement(latitude, longitude, height, yaw % 360, gsd)


def _height(metadata: FrameMetadata, row: FlightRow, spec: SurveySpec) -> float | str:
    rule = spec.height
    height: float | None
    if row.height_agl_m is not None:
        height = row.height_agl_m
    elif rule.source == "fixed":
        height = rule.height_agl_m
    elif rule.source == "gps_altitude":
        altitude, ground = metadata.gps_altitude_m, rule.ground_elevation_m
        height = None if altitude is None or ground is None else altitude - ground
    elif rule.source == "relative_altitude":
        height = metadata.relative_altitude_m
    else:
        height = None
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


def _tilt(metadata: FrameMetadata) -> float:
    # Without a gimbal angle the camera is taken to look straight down; the report says so.
    pitch = 0.0 if metadata.gimbal_pitch_deg is None else abs(metadata.gimbal_pitch_deg + 90)
    roll = abs(metadata.gimbal_roll_deg or 0.0) % 180
    # Some gimbals write 180 degrees of roll for straight down.
    return max(pitch, min(roll, 180 - roll))


def _gsd(metadata: FrameMetadata, spec: SurveySpec, height: float) -> float | str:
    camera = spec.camera
    if camera is None:
        return "no camera: survey.yaml names no sensor."
    focal = camera.focal_mm or metadata.focal_mm
    if focal is None or focal <= 0:
        return "no focal length: neither survey.yaml (camera: focal_mm) nor EXIF gives one."
    if not metadata.width or not metadata.height:
        return "no image size."
    # The sensor's width is its long side, also for a photo that is stored upright.
    return ground_sample_distance(camera.sensor_width_mm, focal, height, max(metadata.width, metadata.height))


def _require_camera(survey: Survey) -> None:
    if survey.spec.camera is None:
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} names no camera: add `camera: {{sensor_width_mm: ..., focal_mm: ...}}`, "
            "which turns pixels into metres."
        )


def _require_positions(survey: Survey, frames: list[Frame]) -> None:
    if any(frame.placement is not None for frame in frames):
        return
    if all(frame.unreadable for frame in frames):
        raise SurveyError(f"No photo of survey {survey.folder} can be read; the first: {frames[0].problem}")
    frame = next(frame for frame in frames if not frame.unreadable)
    raise SurveyError(
        f"No photo of survey {survey.folder} has a usable position ({frame.name}: {frame.problem.rstrip('.')}); "
        f"add {survey.flights_path.name} with columns image, transect, lat, lon, height_agl_m, yaw_deg."
    )
