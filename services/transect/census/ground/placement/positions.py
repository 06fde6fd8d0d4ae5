"""Where each photo was taken: flights.csv first, then XMP and EXIF. Nothing is guessed.

A photo without a usable pose keeps the reason; its animals are counted apart.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from transect.census.ground.orthomosaic import Georeference, read_georeference
from transect.census.ground.placement.clock import Clock, one_clock, sortable
from transect.census.ground.placement.elevation import Ground
from transect.census.ground.placement.frames import Frame, Reading, stamp_of
from transect.census.ground.placement.hemispheres import settle_hemispheres
from transect.census.ground.placement.placing import place
from transect.census.ground.placement.requirements import require_one_camera, require_one_kind, require_positions
from transect.census.ground.placement.terrain import terrain_below
from transect.census.inputs.flights import FlightRow, match_flights, read_flights
from transect.census.inputs.survey import Survey, SurveySpec
from transect.errors import ImageError
from transect.imagery import FrameMetadata, Rendering, inspect_picture, is_tiff, read_frame_metadata
from transect.progress import progress


@dataclass(frozen=True)
class PlacedSurvey:
    """Photos in order of time and name, rows of flights.csv without photo, and notes: file and sentence."""

    frames: tuple[Frame, ...]
    unused: tuple[FlightRow, ...]
    notes: tuple[tuple[str, str], ...]


def place_frames(survey: Survey, max_off_nadir_deg: float) -> PlacedSurvey:
    """Every photo of a survey with its pose and its time on the survey's one clock.

    Raises SurveyError when flights.csv or the DEM cannot be used, photos and maps are mixed, one `camera` is given for
    several, or no photo has a usable position.
    """
    names = [survey.name_of(path) for path in survey.images]
    unusable = {survey.name_of(one.path): one for one in survey.unusable}
    rows, unused = match_flights(survey.flights_path, read_flights(survey.flights_path), [*names, *unusable])
    with ThreadPoolExecutor(4) as pool, progress("Reading positions", len(names)) as advance:
        reads = []
        bands = survey.spec.bands
        for read in pool.map(lambda name, path: _read(name, path, rows.get(name), bands), names, survey.images):
            reads.append(read)
            advance()
    reads += [
        Reading(name, one.path, rows.get(name), FrameMetadata(), failure=f"{name} {one.reason}.")
        for name, one in unusable.items()
    ]
    require_one_kind(survey, reads)
    require_one_camera(survey, reads)
    reads = settle_hemispheres(reads, survey.spec.strata)
    clock = one_clock(reads, survey.flights_path, survey.spec.clock_offset)
    terrain = terrain_below(survey, reads, clock)
    # One brightness for all of them: a dark one among maps of 12 bits is no map of 9.
    rendering = Rendering(
        survey.spec.bands, max((read.depth for read in reads if read.depth is not None), default=None)
    )
    frames = [
        replace(
            _frame(read, survey.spec, max_off_nadir_deg, terrain.grounds.get(read.name), clock),
            rendering=Rendering(survey.spec.bands) if read.depth is None else rendering,
        )
        for read in reads
    ]
    require_positions(survey, frames, unused)
    notes = (
        *clock.notes,
        *((dem, f"{dem}: {one}") for dem in [survey.spec.height.dem or ""] for one in terrain.notes),
    )
    return PlacedSurvey(tuple(sorted(frames, key=lambda frame: (sortable(frame.taken_at), frame.name))), unused, notes)


def _read(name: str, path: Path, row: FlightRow | None, bands: tuple[int, ...] | None) -> Reading:
    if path.exists() and not path.is_file():
        # A pipe would be waited for.
        return Reading(name, path, row, FrameMetadata(), failure=f"{name} is no regular file.")
    try:
        stamp = stamp_of(path)
        facts = inspect_picture(path, name=name, rendering=Rendering(bands)) if is_tiff(path) else None
        try:
            metadata = read_frame_metadata(path, name=name)
        except ImageError:
            # Pillow does not open all TIFFs that GDAL reads; such maps have no EXIF.
            if facts is None:
                raise
            metadata = FrameMetadata(width=facts.width, height=facts.height, orientation=facts.orientation)
    except OSError as error:
        return Reading(name, path, row, FrameMetadata(), failure=f"{name} cannot be read: {error.strerror or error}.")
    except ImageError as error:
        return Reading(name, path, row, FrameMetadata(), failure=str(error))
    georeference = read_georeference(path) if facts is not None else None
    if isinstance(georeference, Georeference) and metadata.orientation != 1:
        georeference = (
            "no position: it is a map with an EXIF orientation, so it could be meant either way; export it anew."
        )
    if facts is None:
        return Reading(name, path, row, metadata, stamp=stamp)
    return Reading(name, path, row, metadata, georeference, stamp=stamp, depth=facts.depth, remarks=facts.remarks)


def _frame(read: Reading, spec: SurveySpec, max_off_nadir_deg: float, ground: Ground | None, clock: Clock) -> Frame:
    row, metadata, is_map = read.row, read.metadata, read.map is not None
    transect = _transect(read.name, row, spec)
    if read.failure:
        return Frame(read.name, read.path, transect, None, 0, 0, None, read.failure, unreadable=True)
    found = read.map if read.map is not None else place(metadata, row, spec, max_off_nadir_deg, ground)
    problem, placement = (found, None) if isinstance(found, str) else ("", found)
    size = (metadata.width or 0, metadata.height or 0)
    remarks = tuple(
        one for one in (clock.remarks.get(read.name), *read.remarks, *(() if is_map else metadata.remarks)) if one
    )
    return Frame(
        read.name,
        read.path,
        transect,
        clock.times.get(read.name),
        *size,
        placement,
        problem,
        remarks=remarks,
        stamp=read.stamp,
        is_map=is_map,
    )


def _transect(name: str, row: FlightRow | None, spec: SurveySpec) -> str | None:
    if row is not None and row.transect:
        return row.transect
    folder = name.rpartition("/")[0]
    return folder or None if spec.transects.source == "folder" else None
