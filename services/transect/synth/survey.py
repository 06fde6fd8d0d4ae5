"""A sample survey with ground truth: frames along transects, survey.yaml and truth.geojson."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from transect.files import atomic_write_json
from transect.progress import progress
from transect.synth.animals.species import SPECIES
from transect.synth.camera.flight import BREAK_S, SPEED_M_S, PositionNoise, Shot
from transect.synth.camera.geo import LocalFrame
from transect.synth.camera.light import develop
from transect.synth.camera.metadata import Site, write_frame
from transect.synth.output import GENERATOR, build_folder, is_finished, map_in_processes
from transect.synth.plan import SurveyDesign, SurveyPlan, plan_survey
from transect.synth.savanna import survey_optics
from transect.synth.scene import expose
from transect.synth.sightings import perfect_sightings

PLACE = LocalFrame(latitude=-1.5, longitude=35.1)
"""South-west corner of the sample stratum, in the Mara-Serengeti plains."""

ELEVATION_M = 1650.0
"""Ground above sea level."""

_STRATUM = "plain"


@dataclass(frozen=True)
class SurveyTruth:
    """The ground truth of a sample survey."""

    folder: Path
    frames: int
    population: dict[str, int]
    """Animals of the whole stratum, by species."""
    photographed: dict[str, int]
    """Animals whose centre lies in at least one frame."""


@dataclass(frozen=True)
class _Job:
    folder: Path
    design: SurveyDesign
    index: int


def make_survey(
    out: Path,
    *,
    frames: int = 96,
    seed: int = 0,
    overlap: float = 0.25,
    height_m: float = 64.0,
    transects: int | None = None,
    noise: PositionNoise | None = None,
    side_overlap: float | None = None,
    passes: int = 1,
    break_s: float = BREAK_S,
    speed_m_s: float = SPEED_M_S,
    animal_speed_m_s: float = 0.0,
    processes: int = 2,
) -> SurveyTruth:
    """Make `out/images/T01/T01_0001.jpg` ..., `out/survey.yaml` and `out/truth.geojson`.

    The parameters are those of SurveyDesign. A finished survey of the same parameters is left as it is; the
    frames do not depend on `processes`.
    Raises InputError for a bad parameter or when `out` contains other files.
    """
    design = SurveyDesign(
        frames=frames,
        seed=seed,
        overlap=overlap,
        height_m=height_m,
        transects=transects,
        noise=noise or PositionNoise(),
        side_overlap=side_overlap,
        passes=passes,
        break_s=break_s,
        speed_m_s=speed_m_s,
        animal_speed_m_s=animal_speed_m_s,
    )
    return photograph_survey(out, design, processes=processes)


def photograph_survey(out: Path, design: SurveyDesign, *, processes: int = 2) -> SurveyTruth:
    """Make the survey of any design; see `make_survey`."""
    parameters = design.parameters()
    if not is_finished(out, parameters):
        with build_folder(out, parameters) as part:
            _build(part, design, processes)
    return _read_truth(out)


def _build(part: Path, design: SurveyDesign, processes: int) -> None:
    plan = _cached_plan(design)
    jobs = [_Job(part, design, index) for index in range(len(plan.flight.shots))]
    with progress("Making sample survey", len(jobs), "frames") as advance:
        for _ in map_in_processes(_take, jobs, processes):
            advance()
    (part / "survey.yaml").write_text(yaml.safe_dump(_survey_yaml(plan), sort_keys=False), encoding="utf-8")
    atomic_write_json(part / "truth.geojson", _truth(plan))


@lru_cache(maxsize=2)
def _cached_plan(design: SurveyDesign) -> SurveyPlan:
    return plan_survey(design)


def _take(job: _Job) -> None:
    """Render one frame from its true pose and write its recorded pose."""
    plan = _cached_plan(job.design)
    shot, camera, seed = plan.flight.shots[job.index], plan.flight.camera, plan.design.seed
    radiance, _ = expose(plan.scene_of(shot), camera.view(shot.true))
    optics = survey_optics(np.random.default_rng((seed, 44)))
    rng = np.random.default_rng((seed, 45, job.index))
    optics = replace(optics, exposure=optics.exposure * float(rng.uniform(0.96, 1.04)))
    pixels = develop(radiance, optics, rng)
    write_frame(frame_path(job.folder, shot), pixels, shot, Site(PLACE, ELEVATION_M, camera), quality=optics.quality)


def frame_path(folder: Path, shot: Shot) -> Path:
    """The path of a shot's frame in a survey folder."""
    return folder / "images" / shot.transect / f"{shot.name}.jpg"


def _survey_yaml(plan: SurveyPlan) -> dict[str, Any]:
    flight = plan.flight
    corners = ((0.0, 0.0), (flight.width_m, 0.0), (flight.width_m, flight.height_m), (0.0, flight.height_m), (0.0, 0.0))
    polygon = [list(_rounded(*corner)) for corner in corners]
    return {
        "schema": 1,
        "name": "sample",
        "camera": {"sensor_width_mm": flight.camera.sensor_width_mm, "focal_mm": flight.camera.focal_mm},
        "height": {"source": "relative_altitude"},
        "sampling": "strip" if plan.design.side_overlap is None else "total",
        "strata": [
            {"name": _STRATUM, "area_km2": round(flight.width_m * flight.height_m / 1e6, 6), "polygon": polygon}
        ],
        "transects": {"from": "folder"},
        "species": {},
    }


def _truth(plan: SurveyPlan) -> dict[str, Any]:
    """Each animal's position at the first photo, and the frames that show its middle at their own time."""
    features = []
    population: Counter[str] = Counter({kind.name: 0 for kind in SPECIES})
    photographed: Counter[str] = Counter({kind.name: 0 for kind in SPECIES})
    moving = plan.design.animal_speed_m_s > 0
    for number, (animal, frames) in enumerate(zip(plan.scene.animals, _frames(plan), strict=True)):
        name = SPECIES[animal.species].name
        population[name] += 1
        photographed[name] += bool(frames)
        properties = {
            "id": number, "species": name, "length_m": round(animal.length_m, 3),
            "photographed": bool(frames), "frames": frames,
        }  # fmt: skip
        if moving:
            properties["velocity_m_s"] = [round(speed, 4) for speed in animal.velocity]
        geometry = {"type": "Point", "coordinates": list(_rounded(animal.x, animal.y))}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    summary = {
        "seed": plan.design.seed, "frames": len(plan.flight.shots), "version": GENERATOR,
        "population": dict(population), "photographed": dict(photographed),
    }  # fmt: skip
    return {"type": "FeatureCollection", "features": features, "transect": summary}


def _frames(plan: SurveyPlan) -> list[list[str]]:
    """For each animal the names of the frames that show it."""
    frames: list[list[str]] = [[] for _ in plan.scene.animals]
    sightings = perfect_sightings(plan)
    for animal, frame in zip(sightings.animal.tolist(), sightings.frame.tolist(), strict=True):
        frames[animal].append(plan.flight.shots[frame].name)
    return frames


def _rounded(x: float, y: float) -> tuple[float, float]:
    longitude, latitude = PLACE.to_lonlat(x, y)
    return round(longitude, 9), round(latitude, 9)


def _read_truth(out: Path) -> SurveyTruth:
    summary = json.loads((out / "truth.geojson").read_text(encoding="utf-8"))["transect"]
    return SurveyTruth(out, summary["frames"], summary["population"], summary["photographed"])
