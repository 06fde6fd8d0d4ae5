"""A sample survey with known truth: frames along transects, survey.yaml and truth.geojson."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import InputError
from ..files import atomic_write_json
from ..progress import progress
from .flight import Camera, Flight, PositionNoise, Shot, plan_flight
from .geo import LocalFrame
from .light import develop
from .metadata import Site, write_frame
from .output import GENERATOR, building, finished, spread
from .population import draw_population
from .savanna import survey_cover, survey_ground, survey_light, survey_optics
from .scene import Scene, expose
from .species import SPECIES, Animal

PLACE = LocalFrame(latitude=-1.5, longitude=35.1)
"""South-west corner of the sample stratum, in the Mara-Serengeti plains."""

ELEVATION_M = 1650.0
"""Ground above sea level."""

_STRATUM = "plain"


@dataclass(frozen=True)
class SurveyTruth:
    """What there is to find in a sample survey."""

    folder: Path
    frames: int
    population: dict[str, int]
    """Animals of the whole stratum, by species."""
    photographed: dict[str, int]
    """Animals whose centre lies in at least one frame."""


@dataclass(frozen=True)
class SurveyPlan:
    """A survey before its pictures are taken."""

    seed: int
    flight: Flight
    scene: Scene

    def frames_of(self, animal: Animal) -> list[str]:
        """Names of the frames that hold the animal's centre."""
        camera = self.flight.camera
        return [shot.name for shot in self.flight.shots if camera.view(shot.true).holds(animal.x, animal.y)]


@dataclass(frozen=True)
class _Job:
    folder: Path
    parameters: tuple[tuple[str, Any], ...]
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
    processes: int = 2,
) -> SurveyTruth:
    """Make `out/images/T01/T01_0001.jpg` ..., `out/survey.yaml` and `out/truth.geojson`.

    frames: 2 or more. overlap: share of a frame that its follower shows again, 0 to 0.8. height_m: above
    ground, 20 to 200; the default gives 5 cm a pixel. noise: errors of the recorded positions.
    A finished survey of the same parameters is left as it is; the frames do not depend on `processes`.
    Raises InputError for a bad parameter or when `out` holds something else.
    """
    if frames < 2 or seed < 0 or not 0 <= overlap <= 0.8 or not 20 <= height_m <= 200:
        raise InputError(
            "A sample survey needs at least 2 frames, a seed from 0 on, an overlap of 0 to 0.8 "
            "and a height of 20 to 200 m."
        )
    if transects is not None and not 1 <= transects <= frames:
        raise InputError(f"{frames} frames cannot make {transects} transects; ask for 1 to {frames}.")
    noise = noise or PositionNoise()
    parameters = {
        "kind": "survey",
        "frames": frames,
        "seed": seed,
        "overlap": overlap,
        "height_m": height_m,
        "transects": transects,
        "gps_noise_m": noise.gps_m,
        "yaw_noise_deg": noise.yaw_deg,
        "height_noise_m": noise.height_m,
    }
    if not finished(out, parameters):
        with building(out, parameters) as part:
            _build(part, parameters, processes)
    return _read_truth(out)


def plan_survey(parameters: dict[str, Any]) -> SurveyPlan:
    """The flight, the land and its animals, from the parameters that synth.json holds."""
    seed = parameters["seed"]
    noise = PositionNoise(parameters["gps_noise_m"], parameters["yaw_noise_deg"], parameters["height_noise_m"])
    flight = plan_flight(
        parameters["frames"],
        seed,
        camera=Camera(),
        height_m=parameters["height_m"],
        overlap=parameters["overlap"],
        transects=parameters["transects"],
        noise=noise,
    )
    animals = draw_population(flight.width_m, flight.height_m, seed)
    world = int(np.random.SeedSequence((seed, 40)).generate_state(1)[0])
    light = survey_light(np.random.default_rng((seed, 43)))
    return SurveyPlan(seed, flight, Scene(world, survey_ground(), survey_cover(), light, animals))


def _build(part: Path, parameters: dict[str, Any], processes: int) -> None:
    key = tuple(sorted(parameters.items()))
    plan = _planned(key)
    jobs = [_Job(part, key, index) for index in range(len(plan.flight.shots))]
    with progress("Making sample survey", len(jobs), "frames") as advance:
        for _ in spread(_take, jobs, processes):
            advance()
    (part / "survey.yaml").write_text(yaml.safe_dump(_survey_yaml(plan), sort_keys=False), encoding="utf-8")
    atomic_write_json(part / "truth.geojson", _truth(plan))


@lru_cache(maxsize=2)
def _planned(key: tuple[tuple[str, Any], ...]) -> SurveyPlan:
    return plan_survey(dict(key))


def _take(job: _Job) -> None:
    """Take one frame from its true pose and write its recorded pose."""
    plan = _planned(job.parameters)
    shot, camera = plan.flight.shots[job.index], plan.flight.camera
    radiance, _ = expose(plan.scene, camera.view(shot.true))
    optics = survey_optics(np.random.default_rng((plan.seed, 44)))
    rng = np.random.default_rng((plan.seed, 45, job.index))
    optics = replace(optics, exposure=optics.exposure * float(rng.uniform(0.96, 1.04)))
    pixels = develop(radiance, optics, rng)
    write_frame(frame_path(job.folder, shot), pixels, shot, Site(PLACE, ELEVATION_M, camera), quality=optics.quality)


def frame_path(folder: Path, shot: Shot) -> Path:
    """Where the frame of a shot lies in a survey folder."""
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
        "sampling": "strip",
        "strata": [
            {"name": _STRATUM, "area_km2": round(flight.width_m * flight.height_m / 1e6, 6), "polygon": polygon}
        ],
        "transects": {"from": "folder"},
        "species": {},
    }


def _truth(plan: SurveyPlan) -> dict[str, Any]:
    features = []
    population: Counter[str] = Counter({kind.name: 0 for kind in SPECIES})
    photographed: Counter[str] = Counter({kind.name: 0 for kind in SPECIES})
    for number, animal in enumerate(plan.scene.animals):
        name = SPECIES[animal.species].name
        frames = plan.frames_of(animal)
        population[name] += 1
        photographed[name] += bool(frames)
        properties = {
            "id": number, "species": name, "length_m": round(animal.length_m, 3),
            "photographed": bool(frames), "frames": frames,
        }  # fmt: skip
        geometry = {"type": "Point", "coordinates": list(_rounded(animal.x, animal.y))}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    summary = {
        "seed": plan.seed, "frames": len(plan.flight.shots), "version": GENERATOR,
        "population": dict(population), "photographed": dict(photographed),
    }  # fmt: skip
    return {"type": "FeatureCollection", "features": features, "transect": summary}


def _rounded(x: float, y: float) -> tuple[float, float]:
    longitude, latitude = PLACE.to_lonlat(x, y)
    return round(longitude, 9), round(latitude, 9)


def _read_truth(out: Path) -> SurveyTruth:
    summary = json.loads((out / "truth.geojson").read_text(encoding="utf-8"))["transect"]
    return SurveyTruth(out, summary["frames"], summary["population"], summary["photographed"])
