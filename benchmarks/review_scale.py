"""How a review grows: start, plan and estimate of a census of 100,000 photos with a million boxes.

    python -m benchmarks.review_scale [--photos 100000] [--decisions 2000] [--markdown]

The census is simulated (benchmarks/simulated_survey.py) and written as a result folder. Each command runs in a process
of its own, as people start it, so that its peak memory is its own. The decisions are a sample as a plan would draw it,
made up at random. The exit code is 1 where a command takes over 30 s or 2 GB.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.reporting import Bar, Report, Table
from benchmarks.simulated_survey import SPECIES, simulate_survey

from transect.arrays import IntArray
from transect.census.counting.count import Model, count_survey
from transect.census.ground.coverage import compute_coverage, regions_on
from transect.census.ground.poses import project_to_grid
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.species import ReportedSpecies
from transect.census.inputs.survey import Survey
from transect.census.outputs.detections import write_detections
from transect.census.outputs.files import write_tables
from transect.census.outputs.photos import write_photos
from transect.census.outputs.units import write_units
from transect.census.plan import Plan
from transect.census.sightings.survey_detections import SurveyDetections
from transect.files import atomic_write_json, sha256_file
from transect.review.folder.items import read_items
from transect.review.planning.plan import Target, plan_review
from transect.review.population.order import Ranks, next_in_order
from transect.review.session import open_review
from transect.review.simulated import SimulatedPerson
from transect.settings import load_settings

MOST_S, MOST_GB = 30.0, 2.0


def write_result(folder: Path, photos: int, seed: int) -> None:
    """Write what a review needs of a simulated census' result."""
    flown, config = simulate_survey(photos, seed), CensusConfig()
    grid, frames, poses = project_to_grid(flown.frames)
    numbered = {row: pose for row, pose in enumerate(poses) if pose is not None}
    regions = regions_on(grid, flown.spec.strata)
    transects = {row: frames[row].transect for row in numbered}
    coverage = compute_coverage(numbered, transects, regions, flown.spec, grid.scale_at)
    survey = Survey(folder=folder, spec=flown.spec, images=())
    plan = Plan(survey=survey, frames=tuple(frames), poses=tuple(poses), grid=grid, coverage=coverage, issues=())
    found = [
        replace(one, sha256=hashlib.sha256(str(number).encode()).hexdigest()) for number, one in enumerate(flown.found)
    ]
    species = ReportedSpecies(SPECIES, {name: number for number, name in enumerate(SPECIES)})
    census = count_survey(
        plan, SurveyDetections.collect(found), species, config, corrections={}, model=Model(None, None, 0.25, 0.5)
    )
    folder.mkdir(parents=True)
    write_detections(folder / "detections.parquet", census)
    write_photos(folder / "photos.parquet", census, config.time_window_s)
    write_units(folder / "units.parquet", census)
    write_tables(folder, census.tally, census.issues, census.applicability)
    files = {path.name: {"sha256": sha256_file(path)} for path in folder.iterdir()}
    atomic_write_json(
        folder / "manifest.json",
        {
            "run": "0" * 12,
            "created_at": "2026-01-01T00:00:00+00:00",
            "survey": {"name": "simulated", "digest": "0" * 64, "sampling": flown.spec.sampling},
            "model": {"name": "", "version": "", "run_id": "", "package_sha256": "0" * 64},
            "options": {"conf": 0.25, "iou": 0.5},
            "config": config.model_dump(),
            "files": files,
        },
    )


def decide(review: Path, decisions: int) -> None:
    """Decide on a sample, half of the time on photos, as a person who finds no animal without a box."""
    items = read_items(review)
    person = SimulatedPerson({}, keeps=0.5)
    with open_review(review, load_settings({}, None)) as session:
        truth = session.truth()
        following = plan_review(truth, Target())
        boxes = np.unique(np.concatenate([following.boxes, _first(items.population.bin, items.boxes.rank, decisions)]))
        photos = np.unique(
            np.concatenate([following.photos, _first(items.population.group, items.population.photo_rank, 100)])
        )
        session.store.record_drawn(session.id, "box", [items.boxes.key[row].as_py() for row in boxes.tolist()], "1")
        digests = [items.photos.sha256[items.searchable[at]] for at in photos.tolist()]
        session.store.record_drawn(session.id, "photo", digests, "1")
        session.store.append(session.id, person.decide(items, boxes.tolist()), person.search(items, photos.tolist()))


def _first(cell: IntArray, rank: Ranks, wanted: int) -> IntArray:
    """The first items of each cell in the random order, `wanted` in all, in proportion to the cells."""
    sizes = np.bincount(cell)
    numbers = np.ceil(sizes * wanted / max(len(cell), 1)).astype(np.int64)
    return next_in_order(cell, rank, taken=np.zeros(len(cell), bool), wanted=numbers)


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (GB) of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "TRANSECT_CENSUS_LOG": "none"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--decisions", type=int, default=2_000, help="boxes that are decided on")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="review-scale-"))
    try:
        result, review = work / "result", work / "result" / "reviews" / "review"
        write_result(result, arguments.photos, seed=0)
        program = [sys.executable, "-m", "transect", "review"]
        rows = [("start", *measure([*program, "start", str(result)]))]
        decide(review, arguments.decisions)
        rows.append(("plan", *measure([*program, "plan", str(review)])))
        rows.append(("estimate", *measure([*program, "estimate", str(review)])))
        boxes = len(read_items(review).boxes)
    finally:
        shutil.rmtree(work)
    report = Report(
        "Reviews at scale",
        f"{arguments.photos} photos with {boxes} boxes in the population.",
        (Table(("command", "seconds", "peak GB"), tuple((n, f"{s:.1f}", f"{gb:.2f}") for n, s, gb in rows)),),
        tuple(
            bar
            for name, seconds, gb in rows
            for bar in (Bar(f"seconds of {name}", seconds, MOST_S), Bar(f"GB of {name}", gb, MOST_GB))
        ),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in report.bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
