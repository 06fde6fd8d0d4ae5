"""Dry run of a census: photos, positions, ground, overlap, strata and the expected time.

One or two photos are searched, to time them; nothing is written.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from transect.census.ground.coverage import Coverage
from transect.census.ground.overlap import Overlap, ground_areas_m2, measure_overlap
from transect.census.ground.placement.cameras import cameras_of
from transect.census.ground.placement.frames import Frame, Placement, open_frame
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.survey import Survey
from transect.census.issues import Issue
from transect.census.lonlat import lonlat_bounds
from transect.census.plan import plan_census
from transect.census.sightings.scales import Resampling, TargetGsd, resampling, target_gsd, with_scales
from transect.engine import DetectOptions, Detector
from transect.errors import ImageError
from transect.settings import Settings

_TIMED = 2


@dataclass(frozen=True)
class Spread:
    """The minimum, the median and the maximum of some values."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class StratumPlan:
    """A stratum, the number of transects that sample it, and the sampled share of its area."""

    stratum: str
    area_km2: float
    transects: int
    sampled_km2: float
    sampled_share: float


@dataclass(frozen=True)
class ExpectedTime:
    """The expected duration: `seconds` for `tiles` tiles, from `timed` photos; `why_not` where unknown."""

    tiles: int | None = None
    seconds: float | None = None
    timed: int = 0
    why_not: str = ""


@dataclass(frozen=True)
class ExcludedFile:
    """A file below images/ that is not searched, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class FileInventory:
    """Every file below images/ once: names of photos that would be searched, files left out, and unusable photos."""

    found: int
    counted: tuple[str, ...]
    left_out: tuple[ExcludedFile, ...]
    unusable: tuple[ExcludedFile, ...]


@dataclass(frozen=True)
class DryRun:
    """A survey before it is counted. Areas are ground areas in km2, heights and ground sample distances in metres.

    `resampling` is None where photos are searched in their own pixels, or where the target GSD is not known yet.
    """

    survey: str
    sampling: str
    images: int
    placed: int
    files: FileInventory
    unusable: tuple[Issue, ...]
    remarks: tuple[Issue, ...]
    cameras: tuple[dict[str, Any], ...]
    height_m: Spread | None
    gsd_m: Spread | None
    off_nadir_deg: Spread | None
    grid: str
    bounds: tuple[float, float, float, float]
    footprint_m2: Spread | None
    area_km2: float
    overlap: Overlap | None
    transects: int
    strata: tuple[StratumPlan, ...]
    resampling: Resampling | None
    time: ExpectedTime

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return asdict(self)


def dry_run(
    survey: Survey, config: CensusConfig, settings: Settings, *, detector: Detector | None, why_not: str = ""
) -> DryRun:
    """Plan the census of a survey and summarise it. `detector` None leaves out the time, with `why_not` as the reason.

    Raises SurveyError for a survey that cannot be counted, InputError for a `gsd` that cannot be had.
    """
    options = config.detect_options(settings)
    target = _target(config, detector)
    plan = plan_census(survey, config)
    plan = replace(plan, frames=with_scales(plan.frames, target))
    frames, shown = plan.frames, plan.coverage.footprints
    placed = [frame.placement for frame in frames if frame.placement is not None]
    photos = [placement for placement in placed if isinstance(placement, Placement)]
    areas = ground_areas_m2(plan.coverage, plan.grid)
    expected = ExpectedTime(why_not=why_not)
    if detector is not None:
        expected = _expected_time(frames, detector, options, settings)
    return DryRun(
        survey=survey.name,
        sampling=survey.spec.sampling,
        images=len(frames),
        placed=len(placed),
        files=_files(survey, frames),
        unusable=tuple(
            Issue(frame.name, "unreadable" if frame.unreadable else "unplaced", frame.problem)
            for frame in frames
            if frame.placement is None or frame.unreadable
        ),
        remarks=plan.issues,
        cameras=tuple(cameras_of(placed)),
        height_m=_spread([placement.height_m for placement in photos]),
        gsd_m=_spread([placement.gsd_m for placement in placed]),
        off_nadir_deg=_spread([placement.off_nadir_deg for placement in photos]),
        grid=f"EPSG:{plan.grid.epsg} ({plan.grid.name})",
        bounds=lonlat_bounds(np.array([(placement.longitude, placement.latitude) for placement in placed])),
        footprint_m2=_spread(areas.tolist()),
        area_km2=plan.coverage.area_km2,
        overlap=measure_overlap(frames, plan.coverage, plan.grid),
        transects=len({frames[number].transect for number in shown} - {None}),
        strata=_strata(plan.coverage),
        resampling=resampling(frames, target),
        time=expected,
    )


def _target(config: CensusConfig, detector: Detector | None) -> TargetGsd | None:
    """The resampling target; None also where it depends on a model and there is no detector."""
    if detector is not None:
        return target_gsd(config, detector.manifest)
    return TargetGsd(config.gsd, "given") if isinstance(config.gsd, float) else None


def _files(survey: Survey, frames: Sequence[Frame]) -> FileInventory:
    counted = tuple(sorted(frame.name for frame in frames if not frame.unreadable))
    unusable = tuple(ExcludedFile(frame.name, frame.problem) for frame in frames if frame.unreadable)
    left_out = tuple(ExcludedFile(survey.name_of(one.path), one.reason) for one in survey.left_out)
    return FileInventory(len(counted) + len(left_out) + len(unusable), counted, left_out, unusable)


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread(float(min(values)), float(np.median(values)), float(max(values))) if values else None


def _strata(coverage: Coverage) -> tuple[StratumPlan, ...]:
    found = []
    for region in coverage.regions:
        units = [unit for unit in coverage.units if unit.stratum == region.name]
        sampled = sum(unit.area_km2 for unit in units)
        found.append(StratumPlan(region.name, region.area_km2, len(units), sampled, sampled / region.area_km2))
    return tuple(found)


def _expected_time(
    frames: Sequence[Frame], detector: Detector, options: DetectOptions, settings: Settings
) -> ExpectedTime:
    """Search one photo of the middle and one of the first quarter, and extrapolate by tiles."""
    kinds = Counter((frame.width, frame.height, frame.scale) for frame in frames if not frame.unreadable)
    tiles = sum(
        count * detector.tile_count(width, height, replace(options, scale=scale))
        for (width, height, scale), count in kinds.items()
    )
    readable = [frame for frame in frames if not frame.unreadable]
    chosen = [readable[len(readable) // 2], readable[len(readable) // 4]][: min(_TIMED, len(readable))]
    seconds, timed_tiles, timed, failure = 0.0, 0, 0, ""
    for frame in chosen:
        try:
            start = time.perf_counter()
            with open_frame(frame, max_pixels=settings.max_pixels) as raster:
                result = detector.detect(raster, name=frame.name, options=replace(options, scale=frame.scale))
        except ImageError as error:
            failure = str(error)
            continue
        if result.failure is not None:
            failure = result.failure
            continue
        seconds += time.perf_counter() - start
        timed_tiles += result.tiles
        timed += 1
    if timed_tiles == 0:
        return ExpectedTime(tiles, why_not=failure or "no photo could be searched")
    return ExpectedTime(tiles, seconds / timed_tiles * tiles, timed)
