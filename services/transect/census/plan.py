"""Plan a census: each photo's pose and footprint, the coverage of the strata, and the issues, before any detection."""

from collections.abc import Sequence
from dataclasses import dataclass

from transect.census.ground.coverage import Coverage, check_against_strata, compute_coverage, regions_on
from transect.census.ground.geometry import Grid, GroundView
from transect.census.ground.placement.frames import Frame
from transect.census.ground.placement.hemispheres import NEAR_M
from transect.census.ground.placement.positions import place_frames
from transect.census.ground.placement.requirements import require_positions
from transect.census.ground.plausibility import plausibility_issues, unsampled_transects
from transect.census.ground.poses import project_to_grid
from transect.census.ground.readings.kept import KeptReadings
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.survey import Survey
from transect.census.issues import Issue
from transect.census.lonlat import metres_to_polygon
from transect.errors import SurveyError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A survey that is ready to be searched: photos with poses on one grid, and the ground that they show.

    `issues` are those known before detection, except for photos without a position: see `frames`.
    """

    survey: Survey
    frames: tuple[Frame, ...]
    poses: tuple[GroundView | None, ...]
    grid: Grid
    coverage: Coverage
    issues: tuple[Issue, ...]


def plan_census(survey: Survey, config: CensusConfig, kept: KeptReadings | None = None) -> Plan:
    """Read every photo's position and compute the coverage of the strata, before anything slow is done.

    Photos whose readings are in `kept` are not read again. Raises SurveyError for a survey that cannot be counted.
    """
    placed = place_frames(survey, config.max_off_nadir_deg, kept)
    grid, frames, poses = project_to_grid(placed.frames)
    require_positions(survey, frames, placed.unused)
    regions = regions_on(grid, survey.spec.strata)
    numbered = {number: pose for number, pose in enumerate(poses) if pose is not None}
    coverage = compute_coverage(
        numbered, {n: frames[n].transect for n in numbered}, regions, survey.spec, grid.scale_at
    )
    check_against_strata(coverage, survey.spec)
    if regions and not coverage.units:
        _refuse_without_sample(survey, frames, coverage)
    rows = tuple(
        Issue(row.image, "unused", f"flights.csv line {row.line} names a photo that is not below images/.")
        for row in placed.unused
    )
    notes = tuple(Issue(file, "note", sentence) for file, sentence in placed.notes)
    without = unsampled_transects(frames, coverage) if survey.spec.sampling == "strip" else ()
    return Plan(
        survey=survey,
        frames=frames,
        poses=poses,
        grid=grid,
        coverage=coverage,
        issues=(*notes, *plausibility_issues(frames, poses), *without, *rows),
    )


def _refuse_without_sample(survey: Survey, frames: Sequence[Frame], coverage: Coverage) -> None:
    if survey.spec.sampling == "strip" and coverage.region_of:
        raise SurveyError(
            f"No photo of survey {survey.folder} lies on a transect in a stratum: put each transect's photos into a "
            "folder of its own below images/, or name them in flights.csv, and check the strata's polygons."
        )
    raise SurveyError(f"No photo of survey {survey.folder} lies in a stratum: {_why_outside(survey, frames)}.")


def _why_outside(survey: Survey, frames: Sequence[Frame]) -> str:
    """The photo nearest to a stratum and its distance, the likely cause, and the photos without a position."""
    polygons = {one.name: one.polygon for one in survey.spec.strata if one.polygon is not None}
    metres, frame, stratum = min(
        (
            (metres_to_polygon(placement.longitude, placement.latitude, polygon), frame, name)
            for frame in frames
            if (placement := frame.placement) is not None
            for name, polygon in polygons.items()
        ),
        key=lambda one: one[0],
    )
    placement = frame.placement
    if placement is None:
        return "check the strata's polygons"
    lat, lon = placement.latitude, placement.longitude
    message = (
        "check the strata's polygons, whose corners are [longitude, latitude], and the photos' positions; the nearest, "
        f"{frame.name} at latitude {lat:.6f}, longitude {lon:.6f}, lies {metres / 1000:.3g} km from stratum {stratum}"
    )
    for latitude, longitude, what in (
        (-lat, lon, "with the other sign of its latitude"),
        (lat, -lon, "with the other sign of its longitude"),
        (-lat, -lon, "with the other signs of both"),
        (lon, lat, "with latitude and longitude exchanged"),
    ):
        near = abs(latitude) <= 84 and min(metres_to_polygon(longitude, latitude, one) for one in polygons.values())
        if near is not False and near <= NEAR_M < metres:
            message += f", and {what} it would lie there"
            break
    unplaced = [one for one in frames if one.placement is None]
    if unplaced:
        first = unplaced[0]
        message += f"; {len(unplaced)} more cannot be placed, the first: {first.name}: {first.problem.rstrip('.')}"
    return message
