"""How the census grows: from the positions of the photos and the boxes found in them to estimates, stage by stage.

    python -m benchmarks.scale [--sizes 1000 10000 100000] [--markdown]

Simulated surveys with known truth (benchmarks/simulated_survey.py), ten boxes a photo, run through all steps of a
census after the files are read and the photos searched. Each size runs in a separate process, on two cores, so that
its peak memory is its own (the simulated survey in memory is part of it). The peer is the method of public scripts:
join boxes of one species that lie closer than a fixed distance (k-d tree, connected components), at the tried distance
that comes nearest to the truth. The exit code is 1 where the largest survey takes over 60 s or 2 GB.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from benchmarks.reporting import Bar, Report, Table, number
from benchmarks.simulated_survey import SPECIES, SimulatedSurvey, simulate_survey
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from transect.census.counting.count import footprint_index
from transect.census.counting.tally import UNIT_REACH_M, tally
from transect.census.ground.coverage import assign_to_units, check_against_strata, compute_coverage, regions_on
from transect.census.ground.plausibility import plausibility_issues, unsampled_transects
from transect.census.ground.poses import project_to_grid
from transect.census.inputs.config import CensusConfig
from transect.census.sightings.animals import count_unique
from transect.census.sightings.observations import Observations, observe

SIZES = (1_000, 10_000, 100_000)
MOST_S, MOST_GB, CORES = 60.0, 2.0, 2
PEER_DISTANCES_M = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """One stage: its seconds, those of the processor, and the peak of memory (GB) of the process at its end."""

    name: str
    seconds: float
    cpu_s: float
    peak_gb: float


@dataclass(frozen=True)
class Outcome:
    """One size: stages in order, animals counted and photographed, and the peer's seconds, distance and count."""

    photos: int
    boxes: int
    before_gb: float
    stages: tuple[Stage, ...]
    unique: int
    truth: int
    peer_s: float
    peer_m: float
    peer_unique: int

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def once_s(self) -> float:
        """What the peer's step takes here."""
        return next(stage.seconds for stage in self.stages if stage.name == "each animal once")


class Stages:
    """A stopwatch for one stage after the other."""

    def __init__(self) -> None:
        self.done: list[Stage] = []

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do it, and note how long it took."""
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.done.append(Stage(name, time.perf_counter() - start, time.process_time() - cpu, peak_gb()))
        return result


def peak_gb() -> float:
    """The most memory that this process has held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(photos: int, seed: int) -> Outcome:
    """Count one survey, and time it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    flown, config = simulate_survey(photos, seed), CensusConfig()
    before, stages = peak_gb(), Stages()
    observations, unique = count(flown, config, stages)
    peer_s, peer_m, peer_unique = peer(observations, flown.truth)
    return Outcome(
        len(flown.frames), flown.boxes, before, tuple(stages.done), unique, flown.truth, peer_s, peer_m, peer_unique
    )


def count(flown: SimulatedSurvey, config: CensusConfig, stages: Stages) -> tuple[Observations, int]:
    """What transect.census.run does once the photos are searched: the boxes on the ground, and the animals."""
    grid, frames, poses = stages.run("photos to the grid", lambda: project_to_grid(flown.frames))
    numbered = {row: pose for row, pose in enumerate(poses) if pose is not None}
    transects = {row: frames[row].transect for row in numbered}
    regions = regions_on(grid, flown.spec.strata)
    coverage = stages.run(
        "footprints, units, areas", lambda: compute_coverage(numbered, transects, regions, flown.spec, grid.scale_at)
    )
    check_against_strata(coverage, flown.spec)
    stages.run("consistency", lambda: (unsampled_transects(frames, coverage), plausibility_issues(frames, poses)))
    photographed = stages.run("index of places", lambda: footprint_index(frames, poses, coverage, config))
    species_of = {name: row for row, name in enumerate(SPECIES)}
    observations = stages.run("boxes to the ground", lambda: observe(flown.found, poses, species_of, photographed))
    animals = stages.run("each animal once", lambda: count_unique(observations, photographed, config).animals)
    unit = stages.run("animals to units", lambda: assign_to_units(animals.xy, coverage, UNIT_REACH_M))
    animals = replace(animals, unit=unit)
    stages.run("estimates", lambda: tally(SPECIES, observations, animals, coverage, flown.spec, method=config.method))
    return observations, len(animals.score)


def peer(observations: Observations, truth: int) -> tuple[float, float, int]:
    """Seconds, distance (m) and animals of joining boxes by distance alone, at the best of PEER_DISTANCES_M."""
    rows = np.flatnonzero(observations.placed)
    # The species are kept apart, as a script would that takes one after the other.
    places = np.column_stack([observations.xy[rows], observations.species[rows] * 1e6])
    tried: list[tuple[float, float, int]] = []
    for distance in PEER_DISTANCES_M:
        start = time.perf_counter()
        pairs = cKDTree(places).query_pairs(distance, output_type="ndarray")
        graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(rows), len(rows)))
        animals = int(connected_components(graph, directed=False)[0])
        tried.append((time.perf_counter() - start, distance, animals))
    return min(tried, key=lambda one: abs(one[2] - truth))


def report(outcomes: Sequence[Outcome]) -> Report:
    """Stages, growth, counts and bars; `outcomes` from the smallest survey to the largest."""
    largest = outcomes[-1]
    sizes = tuple(f"{one.photos:,} photos, {one.boxes:,} boxes" for one in outcomes)
    grown = tuple(f"growth to {one.boxes:,}" for one in outcomes[1:])
    rows = [
        (
            stages[0].name,
            *(f"{stage.seconds:.2f}" for stage in stages),
            *_growth([stage.seconds for stage in stages], outcomes),
            f"{stages[-1].cpu_s:.2f}",
            f"{stages[-1].peak_gb:.2f}",
        )
        for stages in zip(*(one.stages for one in outcomes), strict=True)
    ]
    seconds = [one.seconds for one in outcomes]
    rows.append(
        (
            "all",
            *(f"{one:.2f}" for one in seconds),
            *_growth(seconds, outcomes),
            f"{sum(stage.cpu_s for stage in largest.stages):.2f}",
            f"{largest.stages[-1].peak_gb:.2f}",
        )
    )
    boxes = f"{largest.boxes:,} boxes"
    return Report(
        "Census at scale",
        "Seconds of each stage; growth is seconds a box over those of the next smaller survey, so that 1 is linear; "
        "CPU s are the largest survey's seconds of processor, which a busy machine does not change; peak is its memory "
        f"in GB at the end of the stage, of which the simulated survey itself is {largest.before_gb:.2f}. The peer "
        "joins boxes of a species closer than a fixed distance: of those tried the one that comes nearest to the "
        "truth, which a user does not know.",
        (
            Table(("stage", *sizes, *grown, "CPU s", "peak GB"), tuple(rows)),
            Table(
                (
                    "boxes",
                    "animals photographed",
                    "counted",
                    "error",
                    "peer",
                    "peer's error",
                    "our s",
                    "its s",
                    "ratio",
                ),
                tuple(_counts(one) for one in outcomes),
            ),
        ),
        (
            Bar(f"seconds for {boxes}", largest.seconds, MOST_S, "s"),
            Bar(f"peak memory for {boxes}", largest.stages[-1].peak_gb, MOST_GB, "GB"),
        ),
    )


def _growth(seconds: Sequence[float], outcomes: Sequence[Outcome]) -> list[str]:
    per_box = [one / max(outcome.boxes, 1) for one, outcome in zip(seconds, outcomes, strict=True)]
    return [number(after / before) for before, after in pairwise(per_box)]


def _counts(one: Outcome) -> tuple[str, ...]:
    return (
        f"{one.boxes:,}",
        f"{one.truth:,}",
        f"{one.unique:,}",
        f"{one.unique / one.truth - 1:+.2%}",
        f"{one.peer_unique:,} ({one.peer_m:g} m)",
        f"{one.peer_unique / one.truth - 1:+.1%}",
        f"{one.once_s:.2f}",
        f"{one.peer_s:.2f}",
        number(one.once_s / one.peer_s),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="photos")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    outcomes = []
    for photos in sorted(arguments.sizes):
        print(f"{photos:,} photos ...", file=sys.stderr)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            outcomes.append(pool.submit(measure, photos, arguments.seed).result())
    found = report(outcomes)
    print(found.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in found.bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
