"""A survey before it is searched: where each photo was taken, what ground it shows, and what is wrong with it."""

from dataclasses import dataclass

from transect.census.consistency import suspects, unsampled
from transect.census.ground.coverage import Coverage, check_against_strata, cover, regions_on
from transect.census.ground.frames import Frame
from transect.census.ground.geometry import Grid, GroundView
from transect.census.ground.poses import put_on_grid
from transect.census.ground.positions import place_frames
from transect.census.ground.requirements import require_positions
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.survey import Survey
from transect.census.result import Failure
from transect.errors import SurveyError


@dataclass(frozen=True)
class Plan:
    """A survey that is ready to be searched: photos with poses on one grid, and the ground that they show.

    `failures` names what is already known to be wrong, but for the photos without a place: see `frames`.
    """

    survey: Survey
    frames: tuple[Frame, ...]
    poses: tuple[GroundView | None, ...]
    grid: Grid
    coverage: Coverage
    failures: tuple[Failure, ...]


def plan_census(survey: Survey, config: CensusConfig) -> Plan:
    """Read every photo's position and lay the footprints over the strata, before anything slow is done.

    Raises SurveyError for a survey that cannot be counted.
    """
    frames, unused = place_frames(survey, config.max_off_nadir_deg)
    grid, frames, poses = put_on_grid(frames)
    require_positions(survey, frames)
    regions = regions_on(grid, survey.spec.strata)
    numbered = {number: pose for number, pose in enumerate(poses) if pose is not None}
    coverage = cover(numbered, {n: frames[n].transect for n in numbered}, regions, survey.spec, grid.scale_at)
    check_against_strata(coverage, survey.spec)
    if regions and not coverage.units:
        _refuse_without_sample(survey)
    rows = tuple(
        Failure(row.image, "unused", f"flights.csv line {row.line} names a photo that is not below images/.")
        for row in unused
    )
    without = unsampled(frames, coverage) if survey.spec.sampling == "strip" else ()
    return Plan(survey, frames, poses, grid, coverage, (*suspects(frames, poses), *without, *rows))


def _refuse_without_sample(survey: Survey) -> None:
    if survey.spec.sampling == "strip":
        raise SurveyError(
            f"No photo of survey {survey.folder} lies on a transect in a stratum: put each transect's photos into a "
            "folder of its own below images/, or name them in flights.csv, and check the strata's polygons."
        )
    raise SurveyError(
        f"No photo of survey {survey.folder} lies in a stratum: check the strata's polygons, whose corners are "
        "[longitude, latitude], and the photos' positions."
    )
