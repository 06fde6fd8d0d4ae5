"""Where each photo was taken: flights.csv first, then XMP and EXIF. Nothing is guessed.

A photo without a usable pose keeps the reason; its animals are counted apart.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np

from transect.census.ground.elevation import Ground, sample_terrain
from transect.census.ground.frames import Frame, Reading, stamp_of
from transect.census.ground.orthomosaic import Georeference, read_georeference
from transect.census.ground.placing import place, position_of
from transect.census.ground.requirements import require_one_camera, require_one_kind, require_positions
from transect.census.inputs.flights import EARLIEST_YEAR, FlightRow, match_flights, read_flights
from transect.census.inputs.survey import Survey, SurveySpec
from transect.errors import ImageError
from transect.imagery import FrameMetadata, read_frame_metadata
from transect.progress import progress

_TIFF = frozenset({".tif", ".tiff"})


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
    require_one_kind(survey, reads)
    require_one_camera(survey, reads)
    grounds = _grounds(survey, reads)
    frames = [_frame(read, survey.spec, max_off_nadir_deg, grounds.get(read.name)) for read in reads]
    require_positions(survey, frames)
    return tuple(sorted(frames, key=_flown_order)), unused


def _flown_order(frame: Frame) -> tuple[bool, datetime, str]:
    return frame.taken_at is None, frame.taken_at or datetime.min, frame.name  # noqa: DTZ901 - camera clocks have no zone


def _read(name: str, path: Path, row: FlightRow | None) -> Reading:
    if path.exists() and not path.is_file():
        # A pipe would be waited for.
        return Reading(name, path, row, FrameMetadata(), failure=f"{name} is no regular file.")
    try:
        stamp = stamp_of(path)
        metadata = read_frame_metadata(path, name=name)
    except OSError as error:
        return Reading(name, path, row, FrameMetadata(), failure=f"{name} cannot be read: {error.strerror or error}.")
    except ImageError as error:
        return Reading(name, path, row, FrameMetadata(), failure=str(error))
    georeference = read_georeference(path) if path.suffix.lower() in _TIFF else None
    if isinstance(georeference, Georeference) and metadata.orientation != 1:
        georeference = (
            "no position: it is a map with an EXIF orientation, so it could be meant either way; export it anew."
        )
    return Reading(name, path, row, metadata, georeference, stamp=stamp)


def _frame(read: Reading, spec: SurveySpec, max_off_nadir_deg: float, ground: Ground | None) -> Frame:
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


def _grounds(survey: Survey, reads: Sequence[Reading]) -> Mapping[str, Ground]:
    """The terrain below each photo that has a position and needs it, by name."""
    rule = survey.spec.height
    if rule.source != "dem" or rule.dem is None:
        return {}
    known = []
    for read in reads:
        position = position_of(read.metadata, read.row or FlightRow(0, ""))
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


def _read_order(read: Reading) -> tuple[bool, datetime, str]:
    time = (read.row.time if read.row is not None else None) or read.metadata.taken_at
    usable = time is not None and time.year >= EARLIEST_YEAR
    return not usable, time if usable and time is not None else datetime.min, read.name  # noqa: DTZ901 - as above
