"""From what was found in each photo to what is counted and estimated. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from shapely import area

from transect.census.applicability.checks import Setting
from transect.census.applicability.state import UNKNOWN_ERRORS, Applicability, assess
from transect.census.counting.tally import UNIT_REACH_M, Tally, tally, with_doubtful
from transect.census.estimates.correction import Correction, without_detector
from transect.census.ground.coverage import Coverage, assign_to_units, cover
from transect.census.ground.geometry import GroundView
from transect.census.ground.placement.frames import Frame
from transect.census.ground.plausibility import lost
from transect.census.ground.searched import searched_ground
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.species import ReportedSpecies
from transect.census.issues import Failure
from transect.census.plan import Plan
from transect.census.sightings.animals import CountedOnce, count_once
from transect.census.sightings.detect import Found
from transect.census.sightings.multiplicity import Photographed
from transect.census.sightings.observations import Observations, observe
from transect.engine import ValidationProfile
from transect.errors import SurveyError

_EMPTY = Found("", 0, 0, np.empty((0, 4)), np.empty(0), (), 0, truncated=False)


@dataclass(frozen=True)
class Model:
    """What is known of the model that searched, and the thresholds it was used with."""

    profile: ValidationProfile | None
    training_gsd_m: float | None
    conf: float
    iou: float


@dataclass(frozen=True)
class Census:
    """A survey that was searched and counted. `found` and `usable` (whether it counts) have one entry a photo."""

    plan: Plan
    species: ReportedSpecies
    found: Sequence[Found]
    usable: Sequence[bool]
    coverage: Coverage
    observations: Observations
    once: CountedOnce
    tally: Tally
    failures: tuple[Failure, ...]
    applicability: Applicability

    @property
    def left_out(self) -> Mapping[str, str]:
        """The photos that were not searched, or stand there twice, each with its reason."""
        return {one.file: one.reason for one in self.failures if one.kind in ("unreadable", "duplicate")}


def count_survey(
    plan: Plan,
    found: Sequence[Found],
    species: ReportedSpecies,
    config: CensusConfig,
    *,
    corrections: Mapping[str, Correction],
    model: Model,
) -> Census:
    """Put what was found on the ground, count each animal once, and estimate.

    Where the model's validation does not speak for the survey, the detector's errors are not corrected, and what the
    correction would have given stands beside. Raises SurveyError where no photo could be searched.
    """
    spec = plan.survey.spec
    if all(one.failure for one in found):
        raise SurveyError(f"No photo of survey {plan.survey.folder} could be searched; the first: {found[0].failure}")
    usable, failures = _sort_out(plan, found)
    poses = tuple(pose if ok else None for pose, ok in zip(plan.poses, usable, strict=True))
    searched = [one if ok else _EMPTY for one, ok in zip(found, usable, strict=True)]
    numbered = {number: pose for number, pose in enumerate(poses) if pose is not None}
    coverage = plan.coverage
    if len(numbered) < len(coverage.footprints):
        transects = {number: plan.frames[number].transect for number in numbered}
        coverage = cover(numbered, transects, coverage.regions, spec, plan.grid.scale_at)
        failures += lost(plan.coverage, coverage)
    photographed = photographed_ground(plan.frames, poses, coverage, config)
    observations = observe(searched, poses, species.of_class, photographed)
    once = count_once(observations, photographed, config)
    units = assign_to_units(once.animals.xy, coverage, UNIT_REACH_M)
    once = replace(once, animals=replace(once.animals, unit=units))
    ground = searched_ground(poses, coverage, np.array([one.scale for one in found]), plan.grid.scale_at)
    setting = _setting(plan, usable, coverage, model)
    setting = replace(setting, false_by_ground=_false_by_ground(observations, species, corrections, ground.whole))
    counted_photos = [one for one, ok in zip(found, usable, strict=True) if ok]
    applicability = assess(model.profile, counted_photos, species, setting, (model.conf, model.iou))
    used = {name: _usable(one, applicability) for name, one in corrections.items()}

    def counts(given: Mapping[str, Correction]) -> Tally:
        return tally(
            species.names,
            observations,
            once.animals,
            coverage,
            spec,
            method=config.method,
            corrections=given,
            searched=ground,
        )

    counted = counts(used)
    doubtful = counted if all(used[name] is one for name, one in corrections.items()) else counts(corrections)
    counted = with_doubtful(counted, doubtful, {name: applicability.state(name) for name in species.names})
    return Census(plan, species, found, usable, coverage, observations, once, counted, failures, applicability)


def _usable(correction: Correction, applicability: Applicability) -> Correction:
    """The correction, without the detector's part where its errors on this ground are unknown."""
    if correction.detector is None or applicability.state(correction.species) != "not validated here":
        return correction
    return without_detector(correction, UNKNOWN_ERRORS)


def _false_by_ground(
    observations: Observations, species: ReportedSpecies, corrections: Mapping[str, Correction], mpx: float
) -> dict[str, float]:
    """For each species whose alarms on empty ground are known, the share of its boxes here that these make."""
    counts = np.bincount(observations.species, observations.weight, minlength=len(species.names))
    shares = {}
    for name, count in zip(species.names, counts.tolist(), strict=True):
        correction = corrections.get(name)
        if correction is not None and correction.ground is not None:
            shares[name] = min(correction.ground.rate * mpx / count, 1.0) if count > 0 else 1.0
    return shares


def _setting(plan: Plan, usable: Sequence[bool], coverage: Coverage, model: Model) -> Setting:
    gsds = [
        frame.placement.middle_gsd_m / (frame.scale or 1.0)
        for frame, ok in zip(plan.frames, usable, strict=True)
        if ok and frame.placement is not None
    ]
    shown = sum(area(one) for one in coverage.footprints.values()) / 1e6
    return Setting(
        gsd_m=float(np.median(gsds)) if gsds else None,
        training_gsd_m=model.training_gsd_m,
        together=math.ceil(shown / coverage.area_km2 - 0.5) if coverage.area_km2 > 0 else 1,
    )


def photographed_ground(
    frames: Sequence[Frame], poses: Sequence[GroundView | None], coverage: Coverage, config: CensusConfig
) -> Photographed:
    """The footprints of the photos that count, with their middles and times."""
    middles = np.array([(math.nan, math.nan) if pose is None else (pose.x, pose.y) for pose in poses])
    times = [frame.taken_at for frame in frames]
    start = min((time for time in times if time is not None), default=None)
    seconds = np.array(
        [math.nan if time is None or start is None else (time - start).total_seconds() for time in times]
    )
    shapes = [coverage.footprints.get(number) for number in range(len(frames))]
    return Photographed(shapes, middles.reshape(-1, 2), seconds, window_s=config.time_window_s)


def _sort_out(plan: Plan, found: Sequence[Found]) -> tuple[list[bool], tuple[Failure, ...]]:
    """Which photos count, and why the others do not (or not on the ground)."""
    usable, failures, first = [], list[Failure](), dict[str, str]()
    for frame, one in zip(plan.frames, found, strict=True):
        twin = first.setdefault(one.sha256, frame.name) if one.sha256 else frame.name
        usable.append(not one.failure and twin == frame.name)
        if one.failure:
            failures.append(Failure(frame.name, "unreadable", one.failure))
        elif twin != frame.name:
            failures.append(Failure(frame.name, "duplicate", f"{frame.name} is the same photo as {twin}."))
        elif frame.placement is None:
            failures.append(Failure(frame.name, "unplaced", f"{frame.name} has {frame.problem}"))
    # What does not count at all needs no remark besides.
    left_out = {frame.name for frame, ok in zip(plan.frames, usable, strict=True) if not ok}
    known = (one for one in plan.failures if one.kind not in ("suspect", "remark") or one.file not in left_out)
    return usable, (*sorted(failures, key=lambda one: one.file), *known)
