"""Count a searched survey: from the detections in each photo to counts and estimates. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from shapely import area

from transect.arrays import BoolArray, FloatArray
from transect.census.applicability.checks import SurveyContext
from transect.census.applicability.state import UNKNOWN_ERRORS, Applicability, assess
from transect.census.counting.tally import UNIT_REACH_M, Tally, tally, with_doubtful
from transect.census.estimates.correction import Correction, without_detector
from transect.census.ground.coverage import Coverage, assign_to_units, compute_coverage
from transect.census.ground.geometry import GroundView
from transect.census.ground.placement.frames import Frame
from transect.census.ground.plausibility import unsearched_transects
from transect.census.ground.searched import searched_ground
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.species import ReportedSpecies
from transect.census.issues import Issue
from transect.census.plan import Plan
from transect.census.sightings.animals import UniqueCount, count_unique
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import Observations, observe, typical_sizes
from transect.census.sightings.survey_detections import SurveyDetections
from transect.engine import ValidationProfile
from transect.errors import SurveyError


@dataclass(frozen=True)
class Model:
    """The model's validation profile and training GSD, and the thresholds of the search."""

    profile: ValidationProfile | None
    training_gsd_m: float | None
    conf: float
    iou: float


@dataclass(frozen=True, kw_only=True)
class Census:
    """A counted survey. `found` and `usable` (whether the photo counts) have one entry a photo.

    `candidates` are boxes below the threshold, of the photos that count; no number follows from them. `sizes` are the
    typical_sizes() of the boxes that count, by species.
    """

    plan: Plan
    species: ReportedSpecies
    found: SurveyDetections
    usable: BoolArray
    coverage: Coverage
    observations: Observations
    candidates: Observations
    sizes: FloatArray
    unique: UniqueCount
    tally: Tally
    issues: tuple[Issue, ...]
    applicability: Applicability

    @property
    def left_out(self) -> Mapping[str, str]:
        """The photos that were not searched or are duplicates, each with its reason."""
        return {one.file: one.reason for one in self.issues if one.kind in ("unreadable", "duplicate")}


def count_survey(
    plan: Plan,
    found: SurveyDetections,
    species: ReportedSpecies,
    config: CensusConfig,
    *,
    corrections: Mapping[str, Correction],
    model: Model,
) -> Census:
    """Project the detections onto the ground, count each animal once, and estimate.

    Where the model's validation does not apply to the survey, the detector's errors are not corrected, and the
    corrected numbers are reported as doubtful. Raises SurveyError where no photo could be searched.
    """
    spec = plan.survey.spec
    if len(found.failure) == len(found):
        raise SurveyError(f"No photo of survey {plan.survey.folder} could be searched; the first: {found[0].failure}")
    usable, issues = _select_photos(plan, found)
    poses = tuple(pose if ok else None for pose, ok in zip(plan.poses, usable, strict=True))
    numbered = {number: pose for number, pose in enumerate(poses) if pose is not None}
    coverage = plan.coverage
    if len(numbered) < len(coverage.footprints):
        transects = {number: plan.frames[number].transect for number in numbered}
        coverage = compute_coverage(numbered, transects, coverage.regions, spec, plan.grid.scale_at)
        issues += unsearched_transects(plan.coverage, coverage)
    footprints = footprint_index(plan.frames, poses, coverage, config)
    observations = observe(found.counted.only(usable), poses, species.of_class, footprints)
    sizes = typical_sizes(observations, poses, len(species.names))
    candidates = observe(found.candidates.only(usable), poses, species.of_class, footprints, sizes)
    unique = count_unique(observations, footprints, config)
    units = assign_to_units(unique.animals.xy, coverage, UNIT_REACH_M)
    unique = replace(unique, animals=replace(unique.animals, unit=units))
    ground = searched_ground(poses, coverage, found.scale, plan.grid.scale_at)
    context = _survey_context(plan, usable, coverage, model)
    context = replace(context, false_by_ground=_false_by_ground(observations, species, corrections, ground.whole))
    applicability = assess(model.profile, found, usable, species, context, thresholds=(model.conf, model.iou))
    used = {name: _usable(one, applicability) for name, one in corrections.items()}

    def counts(given: Mapping[str, Correction]) -> Tally:
        return tally(
            species.names,
            observations,
            unique.animals,
            coverage,
            spec,
            method=config.method,
            corrections=given,
            searched=ground,
        )

    counted = counts(used)
    doubtful = counted if all(used[name] is one for name, one in corrections.items()) else counts(corrections)
    counted = with_doubtful(counted, doubtful, {name: applicability.state(name) for name in species.names})
    return Census(
        plan=plan,
        species=species,
        found=found,
        usable=usable,
        coverage=coverage,
        observations=observations,
        candidates=candidates,
        sizes=sizes,
        unique=unique,
        tally=counted,
        issues=issues,
        applicability=applicability,
    )


def _usable(correction: Correction, applicability: Applicability) -> Correction:
    """The correction, without the detector's part where its errors on this ground are unknown."""
    if correction.detector is None or applicability.state(correction.species) != "not validated here":
        return correction
    return without_detector(correction, UNKNOWN_ERRORS)


def _false_by_ground(
    observations: Observations, species: ReportedSpecies, corrections: Mapping[str, Correction], mpx: float
) -> dict[str, float]:
    """By species with a known rate of false alarms on empty ground: their expected share of its boxes here."""
    counts = np.bincount(observations.species, observations.weight, minlength=len(species.names))
    shares = {}
    for name, count in zip(species.names, counts.tolist(), strict=True):
        correction = corrections.get(name)
        if correction is not None and correction.ground is not None:
            shares[name] = min(correction.ground.rate * mpx / count, 1.0) if count > 0 else 1.0
    return shares


def _survey_context(plan: Plan, usable: BoolArray, coverage: Coverage, model: Model) -> SurveyContext:
    gsds = [
        frame.placement.middle_gsd_m / (frame.scale or 1.0)
        for frame, ok in zip(plan.frames, usable, strict=True)
        if ok and frame.placement is not None
    ]
    shown = sum(area(one) for one in coverage.footprints.values()) / 1e6
    return SurveyContext(
        gsd_m=float(np.median(gsds)) if gsds else None,
        training_gsd_m=model.training_gsd_m,
        photos_per_group=math.ceil(shown / coverage.area_km2 - 0.5) if coverage.area_km2 > 0 else 1,
    )


def footprint_index(
    frames: Sequence[Frame], poses: Sequence[GroundView | None], coverage: Coverage, config: CensusConfig
) -> FootprintIndex:
    """The footprints of the photos that count, with their middles and times."""
    middles = np.array([(math.nan, math.nan) if pose is None else (pose.x, pose.y) for pose in poses])
    shapes = [coverage.footprints.get(number) for number in range(len(frames))]
    return FootprintIndex(shapes, middles.reshape(-1, 2), frame_seconds(frames), window_s=config.time_window_s)


def frame_seconds(frames: Sequence[Frame]) -> FloatArray:
    """The time of each photo in seconds after the first one; NaN where it has none."""
    times = [frame.taken_at for frame in frames]
    start = min((time for time in times if time is not None), default=None)
    return np.array([math.nan if time is None or start is None else (time - start).total_seconds() for time in times])


def _select_photos(plan: Plan, found: SurveyDetections) -> tuple[BoolArray, tuple[Issue, ...]]:
    """Which photos count, and the issues of the others and of those without a position."""
    frames, first = plan.frames, found.first_of_content()
    usable = first == np.arange(len(found))
    usable[list(found.failure)] = False
    issues = [Issue(frames[row].name, "unreadable", reason) for row, reason in found.failure.items()]
    for row in np.flatnonzero(~usable).tolist():
        if row not in found.failure:
            name, twin = frames[row].name, frames[int(first[row])].name
            issues.append(Issue(name, "duplicate", f"{name} is the same photo as {twin}."))
    issues += [
        Issue(frame.name, "unplaced", f"{frame.name} has {frame.problem}")
        for frame, ok in zip(frames, usable.tolist(), strict=True)
        if ok and frame.placement is None
    ]
    # A photo that does not count needs no further remark.
    left_out = {frames[row].name for row in np.flatnonzero(~usable).tolist()}
    known = (one for one in plan.issues if one.kind not in ("suspect", "remark") or one.file not in left_out)
    return usable, (*sorted(issues, key=lambda one: one.file), *known)
