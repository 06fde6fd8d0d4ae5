"""Whether corrected counts and their limits are right: a real detector on made surveys of known truth.

    python -m benchmarks.survey_accuracy [--seeds 20] [--frames 120] [--package FOLDER] [--work FOLDER] [--markdown]

Each survey is flown at 80% overlap over herds that walk, photographed, and searched once with the model package;
every second photo of it is a survey at 60%. Positions and headings are then recorded with errors, and the census
counts what was found: unique animals, what one look would have shown, and the corrected count, against the animals
that were in any photo; the corrected number a km2 against that of the ground truly photographed (errors of position
fray the edges of the recorded ground, so that it comes out larger, and one look with it); and the 95% limits of the
strip estimate against all animals of the stratum. Photos and detections are kept in the work folder, so that a second
run takes minutes. The exit code is 1 where a bar is not met.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.models import fastest_passed
from benchmarks.reporting import Bar, Report, Table
from numpy.typing import NDArray

from transect.census.counting.tally import UNIT_REACH_M, StratumSample, Tally, UnitCount, estimate_species, tally
from transect.census.estimates.correction import Correction, correct_species
from transect.census.ground.coverage import Region, assign_to_units, compute_coverage
from transect.census.ground.geometry import Pose
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.photos import LocalPhoto
from transect.census.inputs.survey import SurveySpec
from transect.census.sightings.animals import count_unique
from transect.census.sightings.detect import parts_below, search_frames
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import observe
from transect.engine import DetectOptions, Detector, PackageManifest, read_manifest
from transect.settings import load_settings
from transect.synth import (
    SPECIES,
    PositionNoise,
    SurveyDesign,
    SurveyPlan,
    make_dataset,
    make_survey,
    perfect_sightings,
    plan_survey,
)
from transect.synth.camera.flight import AircraftPose
from transect.synth.survey import frame_path

OVERLAP, ANIMAL_SPEED_M_S, YAW_DEG, HEIGHT_M = 0.8, 1.0, 2.0, 0.3
TRANSECTS = 10
ALL = "all"
MOST_ERROR, LEAST_HELD = 0.05, 0.9
_NAMES = tuple(kind.name for kind in SPECIES)
_MANY_PIXELS = 10**9
RECIPE = Path("configs/train/demo.yaml")


@dataclass(frozen=True)
class Setting:
    """One line of the table: of the photos every `step`-th, and the error of recorded positions."""

    name: str
    step: int
    gps_m: float


SETTINGS = tuple(
    Setting(f"{1 - step * (1 - OVERLAP):.0%} overlap, GPS {gps:g} m", step, gps)
    for step in (2, 1)
    for gps in (1.0, 3.0)
)


@dataclass(frozen=True)
class Counted:
    """One species, or all, in one survey: animals in any photo and in the stratum, and what the census says.

    `ground` is the area of the recorded footprints over that of the true ones.
    """

    photographed: int
    population: int
    ground: float
    unique: float
    single_look: float
    corrected: float
    limits: tuple[float, float] | None

    @property
    def held(self) -> bool:
        """Whether the limits hold the animals of the stratum."""
        return self.limits is not None and self.limits[0] <= self.population <= self.limits[1]

    @property
    def errors(self) -> dict[str, float]:
        """Relative errors of the counts against the animals in any photo, and of the corrected number a km2."""
        counts = {
            "unique": self.unique,
            "one look": self.single_look,
            "corrected": self.corrected,
            "per km2": self.corrected / self.ground,
        }
        return {name: count / self.photographed - 1 for name, count in counts.items()}


@dataclass(frozen=True)
class Searched:
    """A photographed survey and what was found in each photo."""

    plan: SurveyPlan
    found: Sequence[FrameDetections]


def search(design: SurveyDesign, work: Path, detector: Detector) -> Searched:
    """Photograph and search one survey, or take what was kept of it."""
    folder = work / f"{design.frames}-frames-{design.seed:02d}"
    make_survey(
        folder,
        frames=design.frames,
        seed=design.seed,
        overlap=design.overlap,
        transects=design.transects,
        noise=design.noise,
        animal_speed_m_s=design.animal_speed_m_s,
    )
    plan = plan_survey(design)
    camera = plan.flight.camera
    frames = [
        Frame(
            name=shot.name,
            photo=LocalPhoto(frame_path(folder, shot)),
            transect=shot.transect,
            taken_at=shot.taken_at,
            width=camera.width,
            height=camera.height,
            placement=None,
        )
        for shot in plan.flight.shots
    ]
    found = search_frames(
        frames,
        detector=detector,
        options=DetectOptions(),
        parts=parts_below(work / "found", detector, DetectOptions()),
        workers=2,
        max_pixels=_MANY_PIXELS,
    )
    return Searched(plan, found)


def count(searched: Searched, setting: Setting, package: PackageManifest) -> dict[str, Counted]:
    """Count one survey in one setting, by species and for all."""
    plan, spec = searched.plan, SurveySpec.model_validate({"name": "accuracy"})
    chosen = _every(plan, setting.step)
    shots = [plan.flight.shots[row] for row in chosen]
    poses = _recorded(plan, chosen, setting)
    config = CensusConfig()
    flight = plan.flight
    # The stratum has no border here: its animals are where they are, whatever was recorded.
    region = Region("plain", flight.width_m * flight.height_m / 1e6, None, None)
    transects = {row: shot.transect for row, shot in enumerate(shots)}
    coverage = compute_coverage(dict(enumerate(poses)), transects, (region,), spec, 1.0)
    shown = compute_coverage(
        dict(enumerate(_poses(plan, [shot.true for shot in shots]))), transects, (region,), spec, 1.0
    )
    ground = FootprintIndex(
        [coverage.footprints.get(row) for row in range(len(poses))],
        np.array([(pose.x, pose.y) for pose in poses]),
        np.array([plan.seconds(shot) for shot in shots]),
        window_s=config.time_window_s,
    )
    species_of = {name: row for row, name in enumerate(_NAMES)}
    seen = observe([searched.found[row] for row in chosen], poses, species_of, ground)
    animals = count_unique(seen, ground, config).animals
    animals = replace(animals, unit=assign_to_units(animals.xy, coverage, UNIT_REACH_M))
    corrections = {name: correction(package, name, [name]) for name in _NAMES}
    counted = tally(_NAMES, seen, animals, coverage, spec, method=config.method, corrections=corrections)
    truth = _Truth.of(plan, chosen, coverage.area_km2 / shown.area_km2)
    return _compared(truth, counted, region, correction(package, ALL, _NAMES))


def correction(package: PackageManifest, name: str, classes: Sequence[str]) -> Correction:
    """That of the package for `classes` taken together, searched at its own thresholds."""
    return correct_species(name, classes, package.validation_counts, conf=package.conf, iou=package.iou)


def _every(plan: SurveyPlan, step: int) -> list[int]:
    transects = [shot.transect for shot in plan.flight.shots]
    return [row for row, transect in enumerate(transects) if (row - transects.index(transect)) % step == 0]


def _recorded(plan: SurveyPlan, chosen: Sequence[int], setting: Setting) -> list[Pose]:
    """The true poses with errors, the same ones in every run."""
    rng = np.random.default_rng((plan.design.seed, setting.step, round(10 * setting.gps_m)))
    said = []
    for row in chosen:
        true = plan.flight.shots[row].true
        east, north, turn, up = rng.normal(0, 1, 4) * (setting.gps_m, setting.gps_m, YAW_DEG, HEIGHT_M)
        said.append(AircraftPose(true.x + east, true.y + north, true.height_m + up, true.yaw_deg + turn))
    return _poses(plan, said)


def _poses(plan: SurveyPlan, at: Sequence[AircraftPose]) -> list[Pose]:
    camera = plan.flight.camera
    return [
        Pose(
            x=one.x,
            y=one.y,
            yaw_deg=one.yaw_deg,
            height_m=one.height_m,
            metres_per_pixel=camera.gsd(one.height_m),
            width=camera.width,
            height=camera.height,
        )
        for one in at
    ]


@dataclass(frozen=True)
class _Truth:
    """Species of the animals that the chosen photos show, and of all; `ground` as in Counted."""

    shown: NDArray[np.int64]
    lives: NDArray[np.int64]
    ground: float

    @classmethod
    def of(cls, plan: SurveyPlan, chosen: Sequence[int], ground: float) -> "_Truth":
        sightings = perfect_sightings(plan)
        shown = np.unique(sightings.animal[np.isin(sightings.frame, chosen)])
        lives = np.array([animal.species for animal in plan.scene.animals], np.int64)
        return cls(lives[shown], lives, ground)


def _compared(truth: _Truth, counted: Tally, region: Region, together: Correction) -> dict[str, Counted]:
    limits = {one.species: one.estimate.ci95 for one in counted.estimates}
    found = {
        row.species: Counted(
            int((truth.shown == number).sum()),
            int((truth.lives == number).sum()),
            truth.ground,
            row.unique,
            row.single_look,
            row.single_look if row.corrected is None else row.corrected,
            limits[row.species],
        )
        for number, row in enumerate(counted.rows)
    }
    (whole,) = estimate_species(ALL, [_pooled(counted.units, region)], counted.estimates[0].estimate.method, together)
    unique = sum(one.unique for one in found.values())
    single_look, correct = sum(one.single_look for one in found.values()), sum(one.corrected for one in found.values())
    everything = Counted(
        len(truth.shown), len(truth.lives), truth.ground, unique, single_look, correct, whole.estimate.ci95
    )
    return found | {ALL: everything}


def _pooled(units: Sequence[UnitCount], region: Region) -> StratumSample:
    """The transects with all species together."""
    names = list(dict.fromkeys(unit.transect for unit in units))
    rows = [[unit for unit in units if unit.transect == name] for name in names]
    return StratumSample(
        stratum=region.name,
        stratum_km2=region.area_km2,
        transects_possible=None,
        counts=tuple(sum(unit.count for unit in row) for row in rows),
        areas=tuple(row[0].area_km2 for row in rows),
        single_look=tuple(sum(unit.single_look for unit in row) for row in rows),
    )


def _rows(setting: Setting, found: Sequence[Mapping[str, Counted]]) -> list[tuple[str, ...]]:
    rows = []
    for name in (ALL, *_NAMES):
        mine = [one[name] for one in found]
        cells = [_cell([one.errors[way] for one in mine]) for way in mine[0].errors]
        animals = f"{np.mean([one.photographed for one in mine]):.0f}"
        rows.append((f"{setting.name}, {name}", animals, *cells, f"{sum(one.held for one in mine)}/{len(mine)}"))
    return rows


def _cell(errors: Sequence[float]) -> str:
    sizes = np.abs(errors)
    return f"{np.median(sizes):.1%} / {sizes.max():.1%} ({np.mean(errors):+.1%})"


def _bars(setting: Setting, found: Sequence[Mapping[str, Counted]]) -> list[Bar]:
    mine = [one[ALL] for one in found]
    errors = [abs(one.errors["corrected"]) for one in mine]
    held = sum(one.held for one in mine) / len(mine)
    return [
        Bar(f"median error when corrected, {setting.name}", float(np.median(errors)), MOST_ERROR),
        Bar(f"limits that hold the truth, {setting.name}", held, LEAST_HELD, at_least=True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--frames", type=int, default=120, help="photos of each survey, in ten transects")
    parser.add_argument("--package", type=Path, help="model package (default: one trained by the demo's recipe)")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    work = arguments.work / "accuracy"
    work.mkdir(parents=True, exist_ok=True)
    package = arguments.package or _own_package(work)
    manifest = read_manifest(package)
    if manifest.validation_counts is None:
        parser.error(f"{package} holds no validation counts, so there is nothing to correct with; train it again.")
    noise = PositionNoise(0.0, 0.0, 0.0)
    found: dict[Setting, list[dict[str, Counted]]] = {setting: [] for setting in SETTINGS}
    with Detector.open(package, precision=fastest_passed(manifest)) as detector:
        for seed in range(arguments.seeds):
            design = SurveyDesign(
                frames=arguments.frames,
                seed=seed,
                overlap=OVERLAP,
                transects=TRANSECTS,
                noise=noise,
                animal_speed_m_s=ANIMAL_SPEED_M_S,
            )
            searched = search(design, work, detector)
            for setting in SETTINGS:
                found[setting].append(count(searched, setting, manifest))
        precision = detector.precision
    columns = ("survey", "animals", *found[SETTINGS[0]][0][ALL].errors, "limits held")
    rows = [row for setting in SETTINGS for row in _rows(setting, found[setting])]
    report = Report(
        "Counts of a real detector",
        f"Median / worst (mean) error of {arguments.seeds} surveys of {arguments.frames} photos at {OVERLAP:.0%} "
        f"overlap, against the animals in any photo; animals walk up to {ANIMAL_SPEED_M_S:g} m/s, headings are off by "
        f"{YAW_DEG:g} degrees; {manifest.architecture} in {precision}. Limits: of the whole stratum.",
        (_known(manifest), Table(columns, tuple(rows))),
        tuple(bar for setting in SETTINGS for bar in _bars(setting, found[setting])),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in report.bars) else 1


def _known(manifest: PackageManifest) -> Table:
    """What the package says of its errors."""
    rows = []
    for name, classes in ((ALL, _NAMES), *((name, (name,)) for name in _NAMES)):
        known = correction(manifest, name, classes).detector
        if known is not None:
            spread = f"{known.factor:.3f} ({known.cv:.1%})"
            rows.append((name, f"{known.precision:.3f}", f"{known.recall:.3f}", spread, f"{known.objects}"))
    return Table(("validation", "precision", "recall", "factor (CV)", "animals"), tuple(rows))


def _own_package(work: Path) -> Path:
    """A model trained as `make demo` trains its own, but validated on five times as many pictures; kept in `work`."""
    from transect.training import TrainRequest, train

    home = work / "model"
    made = sorted(home.glob("train/*/package"))
    if not made:
        data = make_dataset(work / "dataset", seed=1000, train=512, val=480, test=48, tile=320)
        settings = load_settings({"TRANSECT_HOME": str(home.absolute()), "TRANSECT_PRETRAINED": "starter"}, None)
        made = [train(TrainRequest("yolo11n", RECIPE, data, ()), settings).run_dir / "package"]
    return made[-1]


if __name__ == "__main__":
    raise SystemExit(main())
