"""Place every photo: its pose from flights.csv, else from XMP and EXIF, and its time. Never a guess.

A photo without a usable pose keeps the reason; its animals are counted apart.
"""

from dataclasses import dataclass, replace

from transect.census.ground.orthomosaic import Georeference
from transect.census.ground.placement.clock import Clock, sortable, unify_clocks
from transect.census.ground.placement.elevation import PhotoTerrain
from transect.census.ground.placement.frames import Frame, Placement, SourceFile
from transect.census.ground.placement.hemispheres import settle_hemispheres
from transect.census.ground.placement.placing import place_photo
from transect.census.ground.placement.requirements import require_one_camera, require_one_kind, require_positions
from transect.census.ground.placement.terrain import survey_terrain
from transect.census.ground.readings.kept import KeptReadings
from transect.census.ground.readings.reading import PhotoReading
from transect.census.ground.readings.survey import read_photos, shown_alike
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.flights import FlightRow, match_flights, read_flights
from transect.census.inputs.survey import Survey, SurveySpec


@dataclass(frozen=True)
class PlacedSurvey:
    """Photos in order of time and name, rows of flights.csv without photo, and notes: file and sentence."""

    frames: tuple[Frame, ...]
    unused: tuple[FlightRow, ...]
    notes: tuple[tuple[str, str], ...]


def place_frames(survey: Survey, max_off_nadir_deg: float, kept: KeptReadings | None = None) -> PlacedSurvey:
    """Every photo of a survey with its pose and its time on the survey's clock.

    A photo whose reading is in `kept` is not read again. Raises SurveyError when flights.csv or the DEM cannot be used,
    photos and maps are mixed, one `camera` is given for several models, or no photo has a usable position.
    """
    names = [survey.name_of(path) for path in survey.images]
    unusable = {survey.name_of(one.path): one for one in survey.unusable}
    rows, unused = match_flights(survey.flights_path, read_flights(survey.flights_path), [*names, *unusable])
    photos = dict(zip(names, map(survey.photo, survey.images), strict=True))
    readings = read_photos(photos, survey.spec.bands, kept, remote=survey.is_remote)
    files = [SourceFile(name=name, photo=photos[name], row=rows.get(name), read=readings[name]) for name in names]
    files += [
        SourceFile(
            name=name,
            photo=survey.photo(one.path),
            row=rows.get(name),
            read=PhotoReading(failure=f"{name} {one.reason}."),
        )
        for name, one in unusable.items()
    ]
    require_one_kind(survey, files)
    require_one_camera(survey, files)
    files = settle_hemispheres(files, survey.spec.strata)
    clock = unify_clocks(files, survey.flights_path, survey.spec.clock_offset)
    terrain = survey_terrain(survey, files, clock)
    rendering = shown_alike(survey.spec.bands, (file.read for file in files))
    frames = [
        replace(
            _frame(file, survey.spec, max_off_nadir_deg, terrain.by_photo.get(file.name), clock),
            rendering=rendering(file.read),
        )
        for file in files
    ]
    require_positions(survey, frames, unused)
    notes = (
        *clock.notes,
        *((dem, f"{dem}: {one}") for dem in [survey.spec.height.dem or ""] for one in terrain.notes),
    )
    return PlacedSurvey(tuple(sorted(frames, key=lambda frame: (sortable(frame.taken_at), frame.name))), unused, notes)


def _frame(
    file: SourceFile, spec: SurveySpec, max_off_nadir_deg: float, ground: PhotoTerrain | None, clock: Clock
) -> Frame:
    row, metadata = file.row, file.metadata
    transect = _transect(file.name, row, spec)
    if file.failure:
        return Frame(
            name=file.name,
            photo=file.photo,
            transect=transect,
            taken_at=None,
            width=0,
            height=0,
            placement=None,
            problem=file.failure,
            unreadable=True,
        )
    placement: Placement | Georeference | None = file.map
    problem = file.read.map_problem
    if not file.is_map:
        try:
            placement = place_photo(metadata, row, spec, max_off_nadir_deg, ground)
        except UnplacedError as error:
            problem = str(error)
    remarks = tuple(
        one
        for one in (clock.remarks.get(file.name), *file.read.remarks, *(() if file.is_map else metadata.remarks))
        if one
    )
    return Frame(
        name=file.name,
        photo=file.photo,
        transect=transect,
        taken_at=clock.times.get(file.name),
        width=metadata.width or 0,
        height=metadata.height or 0,
        placement=placement,
        problem=problem,
        remarks=remarks,
        stamp=file.read.stamp,
        is_map=file.is_map,
    )


def _transect(name: str, row: FlightRow | None, spec: SurveySpec) -> str | None:
    if row is not None and row.transect:
        return row.transect
    folder = name.rpartition("/")[0]
    return folder or None if spec.transects.source == "folder" else None
