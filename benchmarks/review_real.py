"""Whether an hour of a person's time mends the count of a detector that does not fit its survey, with real photos.

    python -m benchmarks.review_real [--seeds 20] [--frames 40] [--rejects 0.02] [--keeps 0.0005] [--overlooks 0.05]

A model that was trained on the sample survey's savanna counts surveys of the generator's other land. A simulated
person, who knows the animals and errs at the stated rates, reviews each for at most an hour: the pilot, then what the
plan says for the rest. Then a model is trained on the data set of the first review, and both are compared on fresh
ground of that survey's kind of land. Photos and detections are kept in the work folder. The exit code is 1 where a bar
is not met.
"""

import argparse
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from benchmarks.models import fastest_passed
from benchmarks.reporting import Bar, Report, Table
from benchmarks.transfer import own_package
from PIL import Image

from transect.census import CensusConfig, CensusResult, load_survey, run_census
from transect.census.estimates.intervals import Limits, lognormal
from transect.datasets import load_dataset
from transect.engine import WEIGHTS_FILE, DetectOptions, Detector
from transect.engine.evaluation.evaluate import search_split
from transect.review.dataset.make import make_review_dataset
from transect.review.folder.start import start_review
from transect.review.outcome.record import minutes_spent, review_record
from transect.review.session import open_review
from transect.review.simulated import SimulatedPerson, TrueAnimals, simulate_review
from transect.review.verdicts.truth import Truth
from transect.settings import load_settings
from transect.synth import SPECIES, SurveyDesign, SurveyTruth, photograph_survey
from transect.synth.plan import plan_survey
from transect.synth.sightings import boxes_by_photo
from transect.training import TrainRequest, train

MINUTES = 60.0
TRANSECTS = 10
LEAST_HELD = 0.9
RECIPE = Path("configs/train/adapt.yaml")
_FRESH_SEEDS = (900, 901)
_TILE = 320


@dataclass(frozen=True)
class Reviewed:
    """One survey: the truth, the machine's and the checked numbers of all species together, and the minutes spent."""

    photographed: int
    population: int
    machine: float
    machine_limits: Limits | None
    state: str
    flown: float
    flown_limits: Limits
    area: float
    area_limits: Limits
    by_species: tuple[tuple[str, bool, bool], ...]
    minutes: float

    def held(self, limits: Limits | None) -> bool:
        """Whether limits of the study area hold the truth."""
        return limits is not None and limits[0] <= self.population <= limits[1]


def design(seed: int, frames: int, land: int | None = None) -> SurveyDesign:
    """A survey of the other land; `land` is the seed of the survey whose kind of land it has, by default its own."""
    return SurveyDesign(frames=frames, seed=seed, transects=TRANSECTS, biome="other", land_seed=land)


def true_animals(wanted: SurveyDesign) -> dict[str, TrueAnimals]:
    """The animals in each photo of a survey."""
    return {name: TrueAnimals(*found) for name, found in boxes_by_photo(plan_survey(wanted)).items()}


def one_survey(
    seed: int, frames: int, detector: Detector, work: Path, hire: "partial[SimulatedPerson]"
) -> tuple[Reviewed, Truth, Path]:
    """Photograph, count and review one survey."""
    wanted = design(seed, frames)
    folder = work / f"other-{frames}-{seed:02d}"
    known = photograph_survey(folder, wanted)
    out = work / f"results-{frames}-{seed:02d}"
    result = run_census(
        load_survey(folder),
        out=out,
        detector=detector,
        config=CensusConfig(thumbnails=0),
        settings=load_settings({}, None),
    )
    shutil.rmtree(result.folder / "reviews", ignore_errors=True)
    person = hire(true_animals(wanted), seed=seed)
    with open_review(start_review(result.folder, survey=folder), load_settings({}, None)) as session:
        simulate_review(session, person, MINUTES)
        truth = session.truth()
    return _outcome(known, result, truth), truth, folder


def _outcome(known: SurveyTruth, result: CensusResult, truth: Truth) -> Reviewed:
    record = review_record(truth)
    every = record["species"][-1]
    whole = every["strata"][-1]
    names = {one["species"]: one for one in record["species"]}
    rows = {row.species: row for row in result.rows}
    by_species = []
    for name, animals in known.population.items():
        one = names[name]["strata"][-1]["ci95"]
        row = rows[name].ci95
        by_species.append(
            (name, row is not None and row[0] <= animals <= row[1], one is not None and one[0] <= animals <= one[1])
        )
    estimates = [(row.estimate or 0.0, (row.se or 0.0) ** 2) for row in result.rows]
    machine, variance = sum(one for one, _ in estimates), sum(one for _, one in estimates)
    return Reviewed(
        photographed=sum(known.photographed.values()),
        population=sum(known.population.values()),
        machine=machine,
        machine_limits=lognormal(machine, variance, TRANSECTS - 1) if machine > 0 and variance > 0 else None,
        state=result.manifest["detector"]["state"],
        flown=every["flown"],
        flown_limits=tuple(every["flown_ci95"]),
        area=whole["estimate"],
        area_limits=tuple(whole["ci95"]),
        by_species=tuple(by_species),
        minutes=minutes_spent(record)[0],
    )


def fresh_set(work: Path, frames: int) -> Path:
    """A labelled set of fresh surveys of the first survey's kind of land, in photos as they are; its data.yaml."""
    root = work / f"fresh-land-{frames}"
    if not (root / "data.yaml").exists():
        names = [kind.name for kind in SPECIES]
        for seed in _FRESH_SEEDS:
            wanted = design(seed, frames, land=0)
            folder = work / f"other-land-{frames}-{seed:02d}"
            photograph_survey(folder, wanted)
            for image, animals in true_animals(wanted).items():
                stem = f"{seed}-{image.replace('/', '-')}"
                for part in ("images", "labels"):
                    (root / part / "val").mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / "images" / image, root / "images" / "val" / stem)
                with Image.open(folder / "images" / image) as picture:
                    size = np.array(picture.size, np.float64)
                middle, side = (
                    (animals.boxes[:, :2] + animals.boxes[:, 2:]) / 2,
                    animals.boxes[:, 2:] - animals.boxes[:, :2],
                )
                rows = np.concatenate([middle / size, side / size], axis=1).tolist()
                text = "".join(
                    f"{names.index(name)} {' '.join(f'{value:.6f}' for value in row)}\n"
                    for name, row in zip(animals.species, rows, strict=True)
                )
                (root / "labels" / "val" / Path(stem).with_suffix(".txt").name).write_text(text)
        document = {"path": ".", "train": "images/val", "val": "images/val", "names": dict(enumerate(names))}
        (root / "data.yaml").write_text(yaml.safe_dump(document))
    return root / "data.yaml"


def map50(package: Path, data: Path) -> float:
    """The mAP50 of a package on a labelled set, with photos searched in tiles as a census does."""
    dataset = load_dataset(data)
    with Detector.open(package) as detector:
        found = search_split(detector, dataset.splits["val"], dataset.names, options=DetectOptions(tile="auto"))
    return found.evaluation().map50


def retrained(package: Path, truth: Truth, survey: Path, work: Path) -> Path:
    """A package trained on the data set of a review, from the weights of the model that was reviewed."""
    data = work / "review-dataset"
    shutil.rmtree(data, ignore_errors=True)
    make_review_dataset(truth, data, survey=survey, tile=_TILE, max_pixels=None)
    home = work / "retrained"
    shutil.rmtree(home, ignore_errors=True)
    settings = load_settings({"TRANSECT_HOME": str(home.absolute())}, None)
    asked = TrainRequest(
        str((package / WEIGHTS_FILE).absolute()), RECIPE, data / "data.yaml", overrides=(f"imgsz={_TILE}", "workers=2")
    )
    return train(asked, settings).run_dir / "package"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="surveys")
    parser.add_argument("--frames", type=int, default=40, help="photos of a survey, in ten transects")
    parser.add_argument("--rejects", type=float, default=0.02, help="share of the animals in boxes that are rejected")
    parser.add_argument(
        "--keeps", type=float, default=0.0005, help="share of the boxes without an animal that are kept"
    )
    parser.add_argument("--overlooks", type=float, default=0.05, help="share of animals overlooked in a search")
    parser.add_argument("--package", type=Path, help="model package (default: one trained by the demo's recipe)")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--no-training", action="store_true", help="leave the retrained model out")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    work = arguments.work / "review"
    work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "transfer").mkdir(exist_ok=True)
    package = arguments.package or own_package(arguments.work / "transfer")
    with Detector.open(package) as opened:
        precision = fastest_passed(opened.manifest)
    hire = partial(SimulatedPerson, rejects=arguments.rejects, keeps=arguments.keeps, overlooks=arguments.overlooks)
    found: list[Reviewed] = []
    first: tuple[Truth, Path] | None = None
    with Detector.open(package, precision=precision) as detector:
        for seed in range(arguments.seeds):
            outcome, truth, folder = one_survey(seed, arguments.frames, detector, work, hire)
            found.append(outcome)
            first = first or (truth, folder)
    scores: tuple[float, float] | None = None
    if first is not None and not arguments.no_training:
        data = fresh_set(work, arguments.frames)
        scores = map50(package, data), map50(retrained(package, *first, work), data)
    report = Report(
        "Reviews of real photos by a simulated person",
        f"{arguments.seeds} surveys of {arguments.frames} photos in {TRANSECTS} transects, of land that the model was "
        f"not trained on. The person rejects {arguments.rejects:.0%} of the animals in boxes, "
        f"keeps {arguments.keeps:.2%} of the boxes without one, and overlooks "
        f"{arguments.overlooks:.0%} of the animals in a photo. All species together.",
        tables(found, scores),
        bars(found, scores),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in report.bars) else 1


def tables(found: Sequence[Reviewed], scores: tuple[float, float] | None) -> tuple[Table, ...]:
    """Each survey, and the sums."""
    rows = []
    for number, one in enumerate(found):
        machine = "-" if one.machine_limits is None else f"{one.machine_limits[0]:.0f}-{one.machine_limits[1]:.0f}"
        rows.append(
            (
                str(number),
                f"{one.photographed}",
                f"{one.flown:.0f} ({one.flown_limits[0]:.0f}-{one.flown_limits[1]:.0f})",
                f"{one.population}",
                f"{one.machine:.0f} ({machine}){'' if one.held(one.machine_limits) else ' misses'}",
                f"{one.area:.0f} ({one.area_limits[0]:.0f}-{one.area_limits[1]:.0f})"
                f"{'' if one.held(one.area_limits) else ' misses'}",
                f"{one.minutes:.0f}",
            )
        )
    columns = ("survey", "flown", "checked (95%)", "study area", "machine (95%)", "checked (95%)", "minutes")
    species = sorted({name for one in found for name, _, _ in one.by_species})
    held = []
    for name in species:
        mine = [(machine, checked) for one in found for said, machine, checked in one.by_species if said == name]
        held.append((name, f"{sum(m for m, _ in mine)}/{len(mine)}", f"{sum(c for _, c in mine)}/{len(mine)}"))
    error = [one.flown / one.photographed - 1 for one in found]
    held.append(("all", _share(found, machine=True), _share(found, machine=False)))
    made = [Table(columns, tuple(rows)), Table(("limits of the study area hold", "machine", "checked"), tuple(held))]
    made.append(
        Table(
            ("flown total, checked", "bias", "RMSE"),
            (("all species", f"{np.mean(error):+.1%}", f"{math.sqrt(float(np.mean(np.square(error)))):.1%}"),),
        )
    )
    if scores is not None:
        made.append(Table(("mAP50 on fresh ground", "before", "retrained"), (("", *(f"{s:.3f}" for s in scores)),)))
    return tuple(made)


def bars(found: Sequence[Reviewed], scores: tuple[float, float] | None) -> tuple[Bar, ...]:
    """What the issue of reviews asks for."""
    held = float(np.mean([one.held(one.area_limits) for one in found]))
    flown = float(np.mean([one.flown_limits[0] <= one.photographed <= one.flown_limits[1] for one in found]))
    made = [
        Bar("checked limits that hold the study area", held, LEAST_HELD, at_least=True),
        Bar("checked limits that hold the flown ground", flown, LEAST_HELD, at_least=True),
        Bar("most minutes of a review", max(one.minutes for one in found), MINUTES),
    ]
    if scores is not None:
        made.append(Bar("mAP50 of the retrained model, against before", scores[1], scores[0], at_least=True))
    return tuple(made)


def _share(found: Sequence[Reviewed], *, machine: bool) -> str:
    held = sum(one.held(one.machine_limits if machine else one.area_limits) for one in found)
    return f"{held}/{len(found)}"


if __name__ == "__main__":
    raise SystemExit(main())
