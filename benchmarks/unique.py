"""Whether each animal is counted once: unique counts against the truth, with perfect detections.

    python -m benchmarks.unique [--seeds 20] [--markdown]

Surveys of walking herds are flown in memory: every animal whose middle is in a photo when it is taken is a box, and
the photo's position and heading are recorded with errors. Two kinds of survey: lines far apart, whose photos overlap
along the line (truth: the animals that were in any photo), and lines that overlap sideways, flown back and forth, or
all of it flown twice (truth: the animals that live there). The errors are not told to the counting: it estimates them.

The peer is what public tools do: boxes of one species closer than a fixed distance are one animal, at the distance
that suits the truth best.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from benchmarks.reporting import Bar, Report, Table, cores
from benchmarks.scale import peer
from numpy.typing import NDArray

from transect.census.ground.geometry import Pose
from transect.census.ground.projection import Views
from transect.census.inputs.config import CensusConfig
from transect.census.sightings.animals import count_unique
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import observe
from transect.synth import SPECIES, PositionNoise, SurveyDesign, SurveyPlan, perfect_sightings, plan_survey

YAW_DEG, HEIGHT_M = 2.0, 0.3
# Where the flight's plane lies on the grid.
_EAST_M, _NORTH_M = 500_000.0, 9_800_000.0
# Photos of a survey; each has some four hundred animals, so that one wrong is a quarter of a percent.
_FRAMES = {0.6: 300, 0.8: 600}


@dataclass(frozen=True)
class Setting:
    """One line of the table."""

    name: str
    overlap: float
    gps_m: float
    speed_m_s: float
    side_overlap: float | None = None
    passes: int = 1

    def design(self, seed: int) -> SurveyDesign:
        """The survey of a seed."""
        return SurveyDesign(
            frames=_FRAMES[self.overlap],
            seed=seed,
            overlap=self.overlap,
            transects=10,
            noise=PositionNoise(self.gps_m, YAW_DEG, HEIGHT_M),
            side_overlap=self.side_overlap,
            passes=self.passes,
            animal_speed_m_s=self.speed_m_s,
        )


LINES = tuple(
    Setting(f"{overlap:.0%} overlap, GPS {gps:g} m, animals to {speed:g} m/s", overlap, gps, speed)
    for overlap in (0.6, 0.8)
    for gps in (1.0, 3.0)
    for speed in (0.0, 1.0)
)
BLOCKS = (
    Setting("60% overlap both ways, standing animals", 0.6, 1.0, 0.0, side_overlap=0.6),
    Setting("60% overlap both ways, animals to 1 m/s", 0.6, 3.0, 1.0, side_overlap=0.6),
    Setting("the same flown twice, animals to 1 m/s", 0.6, 3.0, 1.0, side_overlap=0.6, passes=2),
)


@dataclass(frozen=True)
class Outcome:
    """Relative errors of one survey by way of counting, and what was estimated of its poses."""

    truth: int
    errors: dict[str, float]
    gps_m: float
    yaw_deg: float


def outcome(setting: Setting, seed: int) -> Outcome:
    """Fly one survey and count it in every way."""
    plan = plan_survey(setting.design(seed))
    found, seconds, truth = perfect_detections(plan)
    poses = _recorded(plan)
    if setting.side_overlap is not None:
        truth = len(plan.scene.animals)
    config = CensusConfig(height_error_m=HEIGHT_M)
    middles = np.array([(pose.x, pose.y) for pose in poses])
    ground = FootprintIndex(Views(poses).footprints(), middles, seconds, window_s=config.time_window_s)
    seen = observe(found, poses, {kind.name: kind.index for kind in SPECIES}, ground)
    matched = count_unique(seen, ground, config)
    divided = count_unique(seen, ground, config.model_copy(update={"counting": "division_line"}))
    counts = {
        "matching": len(matched.animals.species),
        "division line": len(divided.animals.species),
        "one look": float((1 / seen.visits[seen.visits > 0]).sum()),
        "fixed distance": peer(seen, truth)[2],
    }
    errors = {way: count / truth - 1 for way, count in counts.items()}
    return Outcome(truth, errors, matched.errors.gps_m, matched.errors.yaw_deg)


def perfect_detections(plan: SurveyPlan) -> tuple[list[FrameDetections], NDArray[np.float64], int]:
    """Perfect detections of each photo, its seconds, and how many animals were in any photo."""
    camera, sightings = plan.flight.camera, perfect_sightings(plan)
    starts = np.searchsorted(sightings.frame, np.arange(len(plan.flight.shots) + 1))
    found = []
    for first, last in pairwise(starts.tolist()):
        names = tuple(SPECIES[kind].name for kind in sightings.species[first:last])
        box = sightings.box_px[first:last]
        found.append(
            FrameDetections(
                sha256="",
                width=camera.width,
                height=camera.height,
                boxes=box,
                scores=np.ones(len(box)),
                classes=names,
                tiles=1,
                truncated=False,
            )
        )
    return found, sightings.seconds, len(sightings.photographed())


def _recorded(plan: SurveyPlan) -> list[Pose]:
    camera = plan.flight.camera
    poses = []
    for shot in plan.flight.shots:
        at, gsd = shot.recorded, camera.gsd(shot.recorded.height_m)
        poses.append(
            Pose(
                x=_EAST_M + at.x,
                y=_NORTH_M + at.y,
                yaw_deg=at.yaw_deg,
                height_m=at.height_m,
                metres_per_pixel=gsd,
                width=camera.width,
                height=camera.height,
            )
        )
    return poses


def _row(setting: Setting, found: Sequence[Outcome]) -> tuple[str, ...]:
    ways = [_cell([one.errors[way] for one in found]) for way in found[0].errors]
    animals = f"{np.mean([one.truth for one in found]):.0f}"
    estimated = f"{np.median([one.gps_m for one in found]):.2f} m, {np.median([one.yaw_deg for one in found]):.1f}°"
    return (setting.name, animals, *ways, estimated)


def _cell(errors: Sequence[float]) -> str:
    sizes = np.abs(errors)
    return f"{np.median(sizes):.2%} / {sizes.max():.2%} ({np.mean(errors):+.2%})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    settings = (*LINES, *BLOCKS)
    with ProcessPoolExecutor(cores()) as pool:
        jobs = [[pool.submit(outcome, setting, seed) for seed in range(arguments.seeds)] for setting in settings]
        found = [[job.result() for job in row] for row in jobs]
    columns = ("survey", "animals", *found[0][0].errors, "errors found")
    rows = [_row(setting, one) for setting, one in zip(settings, found, strict=True)]
    bars = []
    for setting, one in zip(LINES, found, strict=False):
        sizes = np.abs([outcome.errors["matching"] for outcome in one])
        bars.append(Bar(f"median error, {setting.name}", float(np.median(sizes)), 0.01, at_least=False))
        bars.append(Bar(f"worst error, {setting.name}", float(sizes.max()), 0.03, at_least=False))
    report = Report(
        "Each animal once",
        f"Median / worst (mean) error of the count over {arguments.seeds} surveys a line, perfect detections, heading "
        f"error {YAW_DEG:g} degrees. The last column is what the counting found out about the poses by itself.",
        (Table(columns, tuple(rows)),),
        tuple(bars),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
