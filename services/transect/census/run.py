"""The census, from a survey folder to a result folder, step by step."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from transect import __version__
from transect.census.animals import CountedOnce, count_once
from transect.census.cameras import cameras_of
from transect.census.config import CensusConfig
from transect.census.consistency import lost
from transect.census.correction import Correction, correct_species
from transect.census.coverage import Coverage, assign_to_units, cover
from transect.census.detect import Found, package_identity, search_frames, search_key
from transect.census.geometry import GroundView
from transect.census.looks import Photographed
from transect.census.observations import Observations, observe
from transect.census.outputs import Counted, write_outputs
from transect.census.plan import Plan, plan_census
from transect.census.positions import Frame, Placement
from transect.census.report import ReportInput, write_report
from transect.census.result import CensusResult, Failure
from transect.census.survey import Survey, load_survey
from transect.census.tally import UNIT_REACH_M, Tally, tally
from transect.census.workplace import alone_in, writing_to
from transect.engine import DetectOptions, Detector, PackageManifest
from transect.errors import SurveyError
from transect.files import atomic_write_json, sha256_file
from transect.settings import Settings

logger = logging.getLogger(__name__)


def run_census(
    survey: Path,
    *,
    out: Path,
    detector: Detector,
    config: CensusConfig,
    settings: Settings,
    record: Callable[[CensusResult], None] | None = None,
) -> CensusResult:
    """Count a survey and write the results to `out`/RUN.

    RUN follows from the photos, survey.yaml, flights.csv, the DEM, the model package and the options, so that the
    same command goes on with the same folder; what was found in each photo is kept in `out`/work. `record` is called
    with the result while no other census can work in `out`. Raises SurveyError for a survey that cannot be counted or
    that changes meanwhile, InputError for an `out` that cannot be written or that another census holds; a photo that
    cannot be used is listed with its reason.
    """
    loaded = load_survey(survey)
    inputs = input_digests(loaded)
    names, species_of = reported_species(loaded, detector.manifest.names)
    options = config.detect_options(settings)
    corrections = species_corrections(loaded, names, species_of, detector.manifest, options)
    plan = plan_census(loaded, config)
    with alone_in(out):
        with writing_to(out):
            found = search_frames(
                plan.frames,
                detector=detector,
                options=options,
                work=out / "work",
                workers=config.workers,
                max_pixels=settings.max_pixels,
            )
            _require_unchanged(loaded, inputs)
            census = _count(plan, found, _Species(names, species_of), config, corrections)
            digest = survey_digest(inputs, plan.frames, found)
            result = _write(
                census, out, digest, detector=detector, options=options, config=config, max_pixels=settings.max_pixels
            )
        if record is not None:
            record(result)
    return result


def _count(
    plan: Plan, found: Sequence[Found], species: "_Species", config: CensusConfig, corrections: Mapping[str, Correction]
) -> "_Census":
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
    observations = observe(searched, poses, species.of, photographed)
    once = count_once(observations, photographed, config)
    units = assign_to_units(once.animals.xy, coverage, UNIT_REACH_M)
    once = replace(once, animals=replace(once.animals, unit=units))
    names = species.names
    counted = tally(names, observations, once.animals, coverage, spec, method=config.method, corrections=corrections)
    return _Census(plan, found, usable, coverage, observations, once, counted, failures, names)


def reported_species(survey: Survey, classes: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The species to report, in order, and the number of each class among them; classes mapped to null are left out.

    Raises SurveyError where survey.yaml maps a class that the model does not have.
    """
    given = survey.spec.species
    unknown = [name for name in given if name not in classes]
    if unknown:
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} maps species {unknown[0]!r}, which the model does not know; "
            f"its classes are {', '.join(classes)}."
        )
    reported = {name: given.get(name, name) for name in classes}
    names = tuple(dict.fromkeys(name for name in reported.values() if name is not None))
    if not names:
        raise SurveyError(f"{survey.folder / 'survey.yaml'} maps every class of the model to null: nothing to count.")
    return names, {name: names.index(species) for name, species in reported.items() if species is not None}


def species_corrections(
    survey: Survey,
    names: Sequence[str],
    species_of: Mapping[str, int],
    package: PackageManifest,
    options: DetectOptions,
) -> dict[str, Correction]:
    """How each species' count is corrected: for the detector's errors, and by survey.yaml's factors.

    Raises SurveyError where survey.yaml has factors for a species that is not reported.
    """
    given = survey.spec.corrections
    unknown = [name for name in given if name not in names]
    if unknown:
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} corrects {unknown[0]!r}, which is not reported; "
            f"the species are {', '.join(names)}."
        )
    return {
        name: correct_species(
            name,
            [one for one, species in species_of.items() if species == number],
            package.validation_counts,
            conf=package.conf if options.conf is None else options.conf,
            iou=package.iou if options.iou is None else options.iou,
            factors=given.get(name),
        )
        for number, name in enumerate(names)
    }


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


@dataclass(frozen=True)
class _Species:
    names: tuple[str, ...]
    of: Mapping[str, int]


@dataclass(frozen=True)
class _Census:
    plan: Plan
    found: Sequence[Found]
    usable: Sequence[bool]
    coverage: Coverage
    observations: Observations
    once: CountedOnce
    tally: Tally
    failures: tuple[Failure, ...]
    names: tuple[str, ...]


_EMPTY = Found("", 0, 0, np.empty((0, 4)), np.empty(0), (), 0, truncated=False)


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
    # What does not count at all is no suspect besides.
    left_out = {frame.name for frame, ok in zip(plan.frames, usable, strict=True) if not ok}
    known = (one for one in plan.failures if one.kind != "suspect" or one.file not in left_out)
    return usable, (*sorted(failures, key=lambda one: one.file), *known)


def _write(
    census: _Census,
    out: Path,
    digest: str,
    *,
    detector: Detector,
    options: DetectOptions,
    config: CensusConfig,
    max_pixels: int,
) -> CensusResult:
    plan, spec = census.plan, census.plan.survey.spec
    key = json.dumps([digest, search_key(detector, options), config.model_dump()], sort_keys=True)
    run = hashlib.sha256(key.encode()).hexdigest()[:12]
    folder = out / run
    manifest = _manifest(
        census,
        run=run,
        digest=digest,
        detector=detector,
        options=options,
        config=config,
        created_at=_created_at(folder),
    )
    counted = Counted(
        plan.frames,
        census.found,
        plan.grid,
        census.coverage,
        census.observations,
        census.once.animal_of,
        census.once.animals,
        census.tally,
        census.failures,
        census.names,
    )
    # The report shows the whole manifest, so its own hash cannot stand there.
    manifest["files"] = write_outputs(folder, counted, manifest)
    write_report(
        folder / "report.html",
        ReportInput(
            spec,
            plan.frames,
            census.coverage,
            census.observations,
            census.once.animals,
            census.tally,
            census.failures,
            census.names,
            manifest,
            max_pixels,
            plan.grid,
        ),
    )
    # The manifest comes last: where it stands, the folder is complete.
    atomic_write_json(folder / "manifest.json", manifest)
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")))
    logger.info("Census of %s written to %s.", spec.name, folder)
    return CensusResult(spec.name, folder, census.tally.rows, census.failures, folder / "report.html", manifest, files)


def input_digests(survey: Survey) -> dict[str, str]:
    """SHA-256 of the survey's files that are no photos, by name: survey.yaml, flights.csv and the DEM."""
    dem = survey.spec.height.dem
    paths = {"survey.yaml": survey.folder / "survey.yaml", "flights.csv": survey.flights_path}
    if dem is not None:
        paths[f"dem {dem}"] = survey.folder / dem
    try:
        return {name: sha256_file(path) for name, path in paths.items() if path.is_file()}
    except OSError as error:
        raise SurveyError(f"{error.filename} cannot be read: {error.strerror or error}.") from error


def _require_unchanged(survey: Survey, inputs: Mapping[str, str]) -> None:
    now = input_digests(survey)
    for name in {**inputs, **now}:
        if inputs.get(name) != now.get(name):
            raise SurveyError(
                f"{name} of survey {survey.folder} changed while the census ran, so its numbers would be of neither; "
                "run the same command again: what was found in the photos is kept."
            )


def survey_digest(inputs: Mapping[str, str], frames: Sequence[Frame], found: Sequence[Found]) -> str:
    """SHA-256 over the survey's other files (see input_digests), and the name and content of every photo."""
    lines = [f"{name} {digest}" for name, digest in inputs.items()]
    lines += sorted(f"images/{frame.name} {one.sha256}" for frame, one in zip(frames, found, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _created_at(folder: Path) -> str:
    """When this run was first finished; a run that is repeated keeps its date."""
    try:
        return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["created_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.now(UTC).isoformat(timespec="seconds")


def _manifest(
    census: _Census,
    *,
    run: str,
    digest: str,
    detector: Detector,
    options: DetectOptions,
    config: CensusConfig,
    created_at: str,
) -> dict[str, Any]:
    package, plan = detector.manifest, census.plan
    placed = [frame.placement for frame, ok in zip(plan.frames, census.usable, strict=True) if ok and frame.placement]
    times = [frame.taken_at for frame in plan.frames if frame.taken_at is not None]
    kinds = [failure.kind for failure in census.failures]
    errors = census.once.errors
    return {
        "schema": 1,
        "run": run,
        "created_at": created_at,
        "transect_version": __version__,
        "survey": {
            "name": plan.survey.spec.name,
            "digest": digest,
            "sampling": plan.survey.spec.sampling,
            "first_photo": min(times).isoformat() if times else None,
            "last_photo": max(times).isoformat() if times else None,
            "grid": f"EPSG:{plan.grid.epsg} ({plan.grid.name})",
        },
        "model": {
            "name": detector.ref.name,
            "version": detector.ref.version,
            "run_id": detector.ref.run_id or package.run_id,
            "architecture": package.architecture,
            "package_sha256": package_identity(detector),
            "dataset": package.dataset_name,
            "dataset_digest": package.dataset_digest,
            "git_commit": package.git_commit,
            "git_dirty": package.git_dirty,
        },
        "options": {
            "backend": detector.backend,
            "precision": detector.precision,
            "conf": package.conf if options.conf is None else options.conf,
            "iou": package.iou if options.iou is None else options.iou,
            "tile": options.tile,
            "overlap": options.overlap,
            "image_size": package.image_size,
        },
        "config": config.model_dump(),
        "images": {
            "found": len(plan.frames),
            "counted": sum(1 for pose in census.coverage.footprints),
            **{kind: kinds.count(kind) for kind in ("unreadable", "unplaced", "duplicate", "suspect")},
            "truncated": sum(one.truncated for one in census.found),
        },
        "positions": {
            "counting": config.counting,
            "gps_error_m": errors.gps_m,
            "gps_error": errors.gps,
            "yaw_error_deg": errors.yaw_deg,
            "yaw_error": errors.yaw,
            "height_error_m": errors.height_m,
            "photo_pairs": errors.pairs,
            "repeated_animals": census.once.repeated,
        },
        "tiles": sum(one.tiles for one in census.found),
        "area_km2": census.coverage.area_km2,
        "gsd_m": _spread([placement.gsd_m for placement in placed]),
        "height_m": _spread([placement.height_m for placement in placed if isinstance(placement, Placement)]),
        "cameras": cameras_of(placed),
    }


def _spread(values: Sequence[float]) -> Mapping[str, float] | None:
    if not values:
        return None
    return {"least": float(min(values)), "median": float(np.median(values)), "most": float(max(values))}
