"""Place every photo: its pose from flights.csv, else from XMP and EXIF, and its time. Never a guess.

A photo without a usable pose keeps the reason; its animals are counted apart.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from transect.census.ground.orthomosaic import Georeference, read_georeference
from transect.census.ground.placement.clock import Clock, sortable, unify_clocks
from transect.census.ground.placement.elevation import PhotoTerrain
from transect.census.ground.placement.frames import Frame, Placement, SourceFile, stamp_of
from transect.census.ground.placement.hemispheres import settle_hemispheres
from transect.census.ground.placement.placing import place_photo
from transect.census.ground.placement.requirements import require_one_camera, require_one_kind, require_positions
from transect.census.ground.placement.terrain import survey_terrain
from transect.census.ground.unplaced import UnplacedError
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
    """Every photo of a survey with its pose and its time on the survey's clock.

    Raises SurveyError when flights.csv or the DEM cannot be used, photos and maps are mixed, one `camera` is given for
    several models, or no photo has a usable position.
    """
    names = [survey.name_of(path) for path in survey.images]
    unusable = {survey.name_of(one.path): one for one in survey.unusable}
    rows, unused = match_flights(survey.flights_path, read_flights(survey.flights_path), [*names, *unusable])
    with ThreadPoolExecutor(4) as pool, progress("Reading positions", len(names)) as advance:
        files = []
        bands = survey.spec.bands
        for file in pool.map(lambda name, path: _read(name, path, rows.get(name), bands), names, survey.images):
            files.append(file)
            advance()
    files += [
        SourceFile(
            name=name, path=one.path, row=rows.get(name), metadata=FrameMetadata(), failure=f"{name} {one.reason}."
        )
        for name, one in unusable.items()
    ]
    require_one_kind(survey, files)
    require_one_camera(survey, files)
    files = settle_hemispheres(files, survey.spec.strata)
    clock = unify_clocks(files, survey.flights_path, survey.spec.clock_offset)
    terrain = survey_terrain(survey, files, clock)
    # One depth for all of them: a dark map among maps of 12 bits is not one of 9 bits.
    rendering = Rendering(
        survey.spec.bands, max((file.depth for file in files if file.depth is not None), default=None)
    )
    frames = [
        replace(
            _frame(file, survey.spec, max_off_nadir_deg, terrain.by_photo.get(file.name), clock),
            rendering=Rendering(survey.spec.bands) if file.depth is None else rendering,
        )
        for file in files
    ]
    require_positions(survey, frames, unused)
    notes = (
        *clock.notes,
        *((dem, f"{dem}: {one}") for dem in [survey.spec.height.dem or ""] for one in terrain.notes),
    )
    return PlacedSurvey(tuple(sorted(frames, key=lambda frame: (sortable(frame.taken_at), frame.name))), unused, notes)


def _read(name: str, path: Path, row: FlightRow | None, bands: tuple[int, ...] | None) -> SourceFile:
    if path.exists() and not path.is_file():
        # Reading a pipe would block.
        return SourceFile(
            name=name, path=path, row=row, metadata=FrameMetadata(), failure=f"{name} is no regular file."
        )
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
        return SourceFile(
            name=name,
            path=path,
            row=row,
            metadata=FrameMetadata(),
            failure=f"{name} cannot be read: {error.strerror or error}.",
        )
    except ImageError as error:
        return SourceFile(name=name, path=path, row=row, metadata=FrameMetadata(), failure=str(error))
    file = SourceFile(name=name, path=path, row=row, metadata=metadata, stamp=stamp)
    if facts is None:
        return file
    file = replace(file, depth=facts.depth, remarks=facts.remarks)
    try:
        return replace(file, map=_read_map(path, metadata))
    except UnplacedError as error:
        return replace(file, map_problem=str(error))


def _read_map(path: Path, metadata: FrameMetadata) -> Georeference | None:
    """The georeference of a TIFF, None for an ordinary photo. Raises UnplacedError where a map cannot be placed."""
    georeference = read_georeference(path)
    if georeference is not None and metadata.orientation != 1:
        raise UnplacedError(
            "no position: it is a map with an EXIF orientation, so it could be meant either way; export it anew."
        )
    return georeference


def _frame(
    file: SourceFile, spec: SurveySpec, max_off_nadir_deg: float, ground: PhotoTerrain | None, clock: Clock
) -> Frame:
    row, metadata = file.row, file.metadata
    transect = _transect(file.name, row, spec)
    if file.failure:
        return Frame(
            name=file.name,
            path=file.path,
            transect=transect,
            taken_at=None,
            width=0,
            height=0,
            placement=None,
            problem=file.failure,
            unreadable=True,
        )
    placement: Placement | Georeference | None = file.map
    problem = file.map_problem
    if not file.is_map:
        try:
            placement = place_photo(metadata, row, spec, max_off_nadir_deg, ground)
        except UnplacedError as error:
            problem = str(error)
    remarks = tuple(
        one for one in (clock.remarks.get(file.name), *file.remarks, *(() if file.is_map else metadata.remarks)) if one
    )
    return Frame(
        name=file.name,
        path=file.path,
        transect=transect,
        taken_at=clock.times.get(file.name),
        width=metadata.width or 0,
        height=metadata.height or 0,
        placement=placement,
        problem=problem,
        remarks=remarks,
        stamp=file.stamp,
        is_map=file.is_map,
    )


def _transect(name: str, row: FlightRow | None, spec: SurveySpec) -> str | None:
    if row is not None and row.transect:
        return row.transect
    folder = name.rpartition("/")[0]
    return folder or None if spec.transects.source == "folder" else None
