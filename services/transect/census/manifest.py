"""Provenance of a census: digests of its inputs, and the manifest of a run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from transect import __version__
from transect.census.applicability.state import overall
from transect.census.counting.count import Census
from transect.census.ground.placement.cameras import cameras_of
from transect.census.ground.placement.frames import Frame, Placement
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.survey import Survey
from transect.census.sightings.detect import Searcher, package_identity, search_key
from transect.census.sightings.scales import Resampling
from transect.census.sightings.survey_detections import SurveyDetections
from transect.engine import DetectOptions, Detector
from transect.errors import SurveyError
from transect.files import sha256_file
from transect.pictures.files import count_reasons


def input_digests(survey: Survey) -> dict[str, str]:
    """SHA-256 of the survey's files other than photos, by name: survey.yaml, flights.csv and the DEM."""
    paths = {"survey.yaml": survey.folder / "survey.yaml", "flights.csv": survey.flights_path}
    if survey.dem_path is not None:
        paths[f"dem {survey.spec.height.dem}"] = survey.dem_path
    try:
        return {name: sha256_file(path) for name, path in paths.items() if path.is_file()}
    except OSError as error:
        raise SurveyError(f"{error.filename} cannot be read: {error.strerror or error}.") from error


def survey_digest(inputs: Mapping[str, str], frames: Sequence[Frame], found: SurveyDetections) -> str:
    """SHA-256 over the survey's other files (see input_digests), and the name and content of every photo."""
    lines = [f"{name} {digest}" for name, digest in inputs.items()]
    lines += sorted(f"images/{frame.name} {found.sha256(row)}" for row, frame in enumerate(frames))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def run_name(digest: str, detector: Searcher, options: DetectOptions, config: CensusConfig) -> str:
    """The hash that identifies a run: of the survey (`digest`), the model and every option that changes its files.

    Without candidates it is what it was before there were any.
    """
    changing = config.model_dump(exclude={"trust"} | ({"review_conf"} if config.review_conf is None else set()))
    key = json.dumps([digest, search_key(detector, options), changing], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def created_at(folder: Path) -> str:
    """The time at which the run in `folder` was first finished, else now; a repeated run keeps its date."""
    try:
        return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["created_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.now(UTC).isoformat(timespec="seconds")


def census_manifest(
    census: Census,
    *,
    run: str,
    digest: str,
    detector: Detector,
    searcher: Searcher,
    options: DetectOptions,
    config: CensusConfig,
    resampled: Resampling | None,
    created_at: str,
) -> dict[str, Any]:
    """The manifest of a run, without the list of its files; `searcher` is what ran the model, on whichever machine."""
    package, plan = detector.manifest, census.plan
    conf, iou = package.thresholds(options)
    placed = [frame.placement for frame, ok in zip(plan.frames, census.usable, strict=True) if ok and frame.placement]
    times = [frame.taken_at for frame in plan.frames if frame.taken_at is not None]
    kinds = [issue.kind for issue in census.issues]
    errors = census.unique.errors
    states = {name: census.applicability.state(name) for name in census.species.names}
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
            "backend": searcher.backend,
            "precision": searcher.precision,
            "instructions": searcher.instructions,
            "library": searcher.library,
            "conf": conf,
            "iou": iou,
            "tile": options.tile,
            "overlap": options.overlap,
            "image_size": package.image_size,
        },
        "config": config.model_dump(),
        "images": {
            "found": len(plan.frames),
            "counted": sum(1 for pose in census.coverage.footprints),
            **{kind: kinds.count(kind) for kind in ("unreadable", "unplaced", "duplicate", "suspect", "remark")},
            "truncated": int(census.found.truncated.sum()),
        },
        # Whether the model's validation applies to this survey; estimate.json has the reasons.
        "detector": {"state": overall(states), "species": states},
        # Files below images/ that are not pictures of the survey, by reason.
        "left_out": count_reasons(plan.survey.left_out),
        "positions": {
            "counting": config.counting,
            "gps_error_m": errors.gps_m,
            "gps_error": errors.gps,
            "yaw_error_deg": errors.yaw_deg,
            "yaw_error": errors.yaw,
            "height_error_m": errors.height_m,
            "photo_pairs": errors.pairs,
            "repeated_animals": census.unique.repeated,
        },
        # None: photos were searched in their own pixels.
        "resampling": None if resampled is None else resampled.to_json(),
        "tiles": int(census.found.tiles.sum()),
        "area_km2": census.coverage.area_km2,
        "gsd_m": _spread([placement.gsd_m for placement in placed]),
        "height_m": _spread([placement.height_m for placement in placed if isinstance(placement, Placement)]),
        "cameras": cameras_of(placed),
    }


def _spread(values: Sequence[float]) -> Mapping[str, float] | None:
    if not values:
        return None
    return {"least": float(min(values)), "median": float(np.median(values)), "most": float(max(values))}
