"""Whether a census says so where its detector is not to be believed: made surveys like and unlike the validation.

    python -m benchmarks.transfer [--seeds 20] [--frames 20] [--only LINE] [--package FOLDER] [--work FOLDER]

Each line of the table is a kind of survey: the same as the model was trained for, fewer animals, other land, another
height, another light, one species absent. Each survey is photographed, searched once, and counted by the census twice:
with the model package and its false alarms on empty ground, and with the same package without them. Empty ground is
photographed and searched first: whole surveys in which no animal lives, as much of it as sparse surveys need. The
census calls each species `validated` or not; the truth is known. A species of a survey is wrong where its corrected
count is off by more than a fifth of the animals in any photo, or its corrected limits miss the animals of the
stratum, whatever the census says of them. Where it is not validated, corrected figures are those that the report has
below the headline. Photos and detections are kept in the work folder, so that a second run takes minutes. The exit
code is 1 where a bar is not met.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.models import fastest_passed
from benchmarks.reporting import Bar, Report, Table

from transect.census.counting.count import Census, Model, count_survey
from transect.census.estimates.correction import correct_species
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.species import reported_species, species_corrections
from transect.census.inputs.survey import load_survey
from transect.census.plan import plan_census
from transect.census.sightings.detect import parts_below, search_frames
from transect.engine import BackgroundCounts, DetectOptions, Detector, PackageManifest, search_background
from transect.files import atomic_write
from transect.settings import load_settings
from transect.synth import SPECIES, SurveyDesign, SurveyTruth, make_dataset, photograph_survey

TRANSECTS = 10
MOST_ERROR = 0.2
MOST_CALLED, LEAST_CALLED = 0.1, 0.9
LEAST_HELD, MOST_HELD = 0.93, 0.97
MOST_POOLED_ERROR, LEAST_SPARSE_HELD = 0.1, 0.9
NAMES = tuple(kind.name for kind in SPECIES)
RECIPE = Path("configs/train/demo.yaml")
# Far from the seeds of the lines.
_EMPTY_SEED = 10_000
_EMPTY_SURVEY = 20
_MANY_PIXELS = 10**9
_DECODERS = 2

KNOWN, UNKNOWN = "empty ground known", "not known"
"""The two ways that each survey is counted."""


@dataclass(frozen=True)
class Line:
    """A kind of survey: what its design has of its own, and how many times `--frames` photos one has.

    `sparse` surveys have fewer animals and nothing else that is new: with empty ground known that is no reason for
    doubt, and their corrected counts have to be right; without they have to be called not validated.
    """

    name: str
    changes: Mapping[str, Any]
    frames: int = 1
    sparse: bool = False


SAME = "same"
LINES = (
    Line(SAME, {}),
    Line("fifth", {"density": 0.2}, frames=2, sparse=True),
    Line("twentieth", {"density": 0.05}, frames=4, sparse=True),
    Line("absent", {"absent": NAMES[0]}, sparse=True),
    Line("biome", {"biome": "other"}),
    Line("half", {"height_m": 32.0}),
    Line("double", {"height_m": 128.0}),
    Line("dusk", {"light": "dusk"}),
)


@dataclass(frozen=True)
class Outcome:
    """One species of one survey: animals in any photo and in the stratum, and what the census says, in one way.

    `corrected` and `limits` are with the detector's correction, whether the census stands for it or not; `kinds` are
    the checks that differ.
    """

    species: str
    photographed: int
    population: int
    single_look: float
    corrected: float
    limits: tuple[float, float] | None
    state: str
    kinds: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether the limits hold the animals of the stratum."""
        return self.limits is not None and self.limits[0] <= self.population <= self.limits[1]

    @property
    def wrong(self) -> bool:
        """Whether a reader who believes the corrected figures is misled; no limits mislead nobody."""
        off = abs(self.corrected - self.photographed) > MOST_ERROR * self.photographed
        return off or (self.limits is not None and not self.held)

    @property
    def called(self) -> bool:
        """Whether the census says that the detector is not validated."""
        return self.state == "not validated here"

    @property
    def valid(self) -> bool:
        """Whether limits are printed as valid."""
        return self.state == "validated" and self.limits is not None


Survey = tuple[Outcome, ...]
"""All species of one survey, counted in one way."""


def design(line: Line, frames: int, seed: int) -> SurveyDesign:
    """The survey of a line and a seed."""
    return replace(SurveyDesign(frames=line.frames * frames, seed=seed, transects=TRANSECTS), **line.changes)


def count(
    line: Line, wanted: SurveyDesign, work: Path, detector: Detector, empty: BackgroundCounts, *, processes: int
) -> tuple[Survey, Survey]:
    """Photograph and search one survey, or take what was kept of it, and count it with `empty` known and without."""
    folder = work / f"{line.name}-{wanted.frames}-{wanted.seed:02d}"
    truth = photograph_survey(folder, wanted, processes=processes)
    config, options = CensusConfig(), DetectOptions()
    loaded = load_survey(folder)
    plan = plan_census(loaded, config)
    found = search_frames(
        plan.frames,
        detector=detector,
        options=options,
        parts=parts_below(work / "found", detector, options),
        workers=_DECODERS,
        max_pixels=_MANY_PIXELS,
    )
    package = detector.manifest
    species = reported_species(loaded, package.names)
    model = Model(detector.profile, package.training_gsd_m, package.conf, package.iou)
    known, unknown = (
        outcomes(
            count_survey(
                plan,
                found,
                species,
                config,
                corrections=species_corrections(loaded, species, given, options),
                model=model,
            ),
            truth,
        )
        for given in (package.model_copy(update={"background_counts": one}) for one in (empty, None))
    )
    return known, unknown


def empty_ground(photos: int, work: Path, detector: Detector, *, processes: int) -> BackgroundCounts:
    """The false alarms on `photos` photos of surveys without an animal, searched as a training searches them; kept."""
    kept = work / f"empty-{photos}-{detector.package_sha256[:16]}-{detector.precision}.json"
    if not kept.exists():
        paths: list[Path] = []
        for number in range(math.ceil(photos / _EMPTY_SURVEY)):
            wanted = SurveyDesign(frames=_EMPTY_SURVEY, seed=_EMPTY_SEED + number, transects=TRANSECTS, density=0.0)
            folder = work / f"empty-{number:03d}"
            photograph_survey(folder, wanted, processes=processes)
            paths += sorted((folder / "images").rglob("*.jpg"))
        counts = search_background(detector, paths[:photos], detector.manifest.names, options=DetectOptions())
        atomic_write(kept, counts.model_dump_json().encode())
    return BackgroundCounts.model_validate_json(kept.read_bytes())


def outcomes(census: Census, truth: SurveyTruth) -> Survey:
    """What a census says of each species, with the correction even where it does not stand for it."""
    told = []
    for row in census.tally.rows:
        doubted = row.doubtful is not None
        corrected = row.doubtful if doubted else row.corrected
        checks = census.applicability.checks
        told.append(
            Outcome(
                row.species,
                truth.photographed[row.species],
                truth.population[row.species],
                row.single_look,
                row.single_look if corrected is None else corrected,
                row.doubtful_ci95 if doubted else row.ci95,
                row.detector,
                tuple(check.kind for check in checks if check.differs and check.species in ("", row.species)),
            )
        )
    return tuple(told)


@dataclass(frozen=True)
class Summary:
    """What became of a line's surveys in one way; outcomes are species of surveys."""

    surveys: int
    called: int
    """Surveys of which a species is called not validated."""
    wrong: int
    """Outcomes that mislead who believes them."""
    wrong_called: int
    """Those of them that are called not validated."""
    valid: int
    """Limits printed as valid."""
    held: int
    """Those of them that hold the truth."""
    kinds: Mapping[str, int]
    """Surveys in which a check of this kind differs."""

    @classmethod
    def of(cls, surveys: Sequence[Survey]) -> "Summary":
        """Count the outcomes of `surveys`."""
        every = [one for survey in surveys for one in survey]
        kinds = Counter(kind for survey in surveys for kind in {kind for one in survey for kind in one.kinds})
        return cls(
            surveys=len(surveys),
            called=sum(any(one.called for one in survey) for survey in surveys),
            wrong=sum(one.wrong for one in every),
            wrong_called=sum(one.wrong and one.called for one in every),
            valid=sum(one.valid for one in every),
            held=sum(one.valid and one.held for one in every),
            kinds=dict(kinds.most_common()),
        )


def pooled_error(surveys: Sequence[Survey], species: str) -> float:
    """Relative error of the sum of a species' corrected counts; NaN where no photo shows one."""
    there = _there(surveys, species)
    return sum(one.corrected for one in _of(surveys, species)) / there - 1 if there else math.nan


def _there(surveys: Sequence[Survey], species: str) -> int:
    return sum(one.photographed for one in _of(surveys, species))


def _of(surveys: Iterable[Survey], species: str) -> Iterable[Outcome]:
    return (one for survey in surveys for one in survey if one.species == species)


Results = Mapping[str, tuple[Sequence[Survey], Sequence[Survey]]]
"""By line: its surveys as counted with empty ground known, and without."""


def bars(results: Results) -> tuple[Bar, ...]:
    """What has to be kept of the lines that were run; a share of nothing is no bar."""
    found: list[Bar] = []
    for line in (line for line in LINES if line.name in results):
        for way, surveys in zip((KNOWN, UNKNOWN), results[line.name], strict=True):
            found += _bars(line, way, surveys)
    for number, way in enumerate((KNOWN, UNKNOWN)):
        every = Summary.of([survey for both in results.values() for survey in both[number]])
        if every.valid:
            what, share = f"limits printed as valid that hold, {way}", every.held / every.valid
            found.append(Bar(what, share, LEAST_HELD, at_least=True))
            # Without empty ground few limits are printed as valid: too few to say that they are too wide.
            found += [Bar(what, share, MOST_HELD)] if way == KNOWN else []
    return tuple(found)


def _bars(line: Line, way: str, surveys: Sequence[Survey]) -> list[Bar]:
    told, what = Summary.of(surveys), f"{line.name}, {way}"
    if line.name == SAME:
        # Without empty ground a survey has other animals and alarms by area than validation images, and is doubted.
        return [Bar(f"surveys not validated, {what}", told.called / told.surveys, MOST_CALLED)] if way == KNOWN else []
    if line.sparse and way == KNOWN:
        # Of a species without an animal there is no relative error; where nothing was seen there are no limits.
        errors = [(name, abs(pooled_error(surveys, name))) for name in NAMES if _there(surveys, name)]
        held = [one.held for survey in surveys for one in survey if one.limits is not None]
        found = [Bar(f"pooled error of {name}, {what}", error, MOST_POOLED_ERROR) for name, error in errors]
        if held:
            share = sum(held) / len(held)
            found.append(Bar(f"limits that hold, {what}", share, LEAST_SPARSE_HELD, at_least=True))
        return found
    if not told.wrong:
        return []
    return [Bar(f"wrong ones not validated, {what}", told.wrong_called / told.wrong, LEAST_CALLED, at_least=True)]


def tables(results: Results) -> tuple[Table, ...]:
    """What is called not validated and why, and how far counts and limits are off."""
    called, counted = [], []
    for name, both in results.items():
        for way, surveys in zip((KNOWN, UNKNOWN), both, strict=True):
            told = Summary.of(surveys)
            why = ", ".join(f"{kind} {many}" for kind, many in told.kinds.items())
            called.append(
                (
                    f"{name}, {way}",
                    f"{told.called}/{told.surveys}",
                    f"{told.wrong_called}/{told.wrong}",
                    f"{told.held}/{told.valid}",
                    why or "-",
                )
            )
        counted += [_counted(name, both, species) for species in NAMES]
    return (
        Table(
            ("survey", "not validated", "of the wrong ones", "valid limits hold", "checks that differ"), tuple(called)
        ),
        Table(
            ("survey", "animals", "one look", f"corrected, {KNOWN}", "limits hold", f"corrected, {UNKNOWN}", "hold"),
            tuple(counted),
        ),
    )


def _counted(line: str, both: tuple[Sequence[Survey], Sequence[Survey]], species: str) -> tuple[str, ...]:
    cells = []
    for surveys in both:
        mine = list(_of(surveys, species))
        error = pooled_error(surveys, species)
        total = sum(one.corrected for one in mine)
        cells += [
            f"{total:.0f}" if math.isnan(error) else f"{total:.0f} ({error:+.1%})",
            f"{sum(one.held for one in mine)}/{sum(one.limits is not None for one in mine)}",
        ]
    mine = list(_of(both[0], species))
    animals, look = sum(one.photographed for one in mine), sum(one.single_look for one in mine)
    return (f"{line}, {species}", f"{animals}", f"{look:.0f}", *cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="surveys a line")
    parser.add_argument("--frames", type=int, default=20, help="photos of a survey, in ten transects; sparse have more")
    parser.add_argument("--empty", type=int, default=400, help="photos of empty ground that the false alarms come from")
    parser.add_argument("--package", type=Path, help="model package (default: one trained by the demo's recipe)")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument(
        "--only", action="append", choices=[line.name for line in LINES], metavar="LINE", help="this line; repeatable"
    )
    parser.add_argument("--processes", type=int, default=2, help="that make photos")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    work = arguments.work / "transfer"
    work.mkdir(parents=True, exist_ok=True)
    package = arguments.package or own_package(work)
    results: dict[str, tuple[list[Survey], list[Survey]]] = {}
    lines = [line for line in LINES if arguments.only is None or line.name in arguments.only]
    with Detector.open(package) as opened:
        precision = fastest_passed(opened.manifest)
    with Detector.open(package, precision=precision) as detector:
        manifest = detector.manifest
        if detector.profile is None or manifest.training_gsd_m is None:
            parser.error(f"{package} lacks its validation profile or training_gsd_m; train it again with {RECIPE}.")
        empty = empty_ground(arguments.empty, work, detector, processes=arguments.processes)
        for seed in range(arguments.seeds):
            for line in lines:
                known, unknown = results.setdefault(line.name, ([], []))
                wanted = design(line, arguments.frames, seed)
                first, second = count(line, wanted, work, detector, empty, processes=arguments.processes)
                known.append(first)
                unknown.append(second)
    report = Report(
        "Surveys unlike the validation images",
        f"{arguments.seeds} surveys a line, of {arguments.frames} photos (fifth {2 * arguments.frames}, twentieth "
        f"{4 * arguments.frames}) in {TRANSECTS} transects; {arguments.empty} photos of empty ground; "
        f"{manifest.architecture} in {precision}. Not validated: surveys of which one species or more is called "
        "so. Of the wrong ones: species of surveys whose corrected "
        f"count is off by more than {MOST_ERROR:.0%}, or whose corrected limits miss the truth. Counts are sums over "
        "surveys, against the animals in any photo; limits are of the whole stratum, of those surveys that have some.",
        (_known(manifest.model_copy(update={"background_counts": empty})), *tables(results)),
        bars(results),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in report.bars) else 1


def _known(manifest: PackageManifest) -> Table:
    """What the package says of its errors."""
    rows = []
    for name in NAMES:
        one = correct_species(
            name,
            [name],
            manifest.validation_counts,
            conf=manifest.conf,
            iou=manifest.iou,
            background=manifest.background_counts,
        )
        if one.detector is not None and one.ground is not None:
            alarms = f"{one.ground.alarms} on {one.ground.mpx:.0f} megapixels"
            rows.append((name, f"{one.detector.recall:.3f}", f"{one.factor:.3f} ({one.cv:.1%})", alarms))
    return Table(("validation", "recall", "factor (CV), empty ground known", "alarms on empty ground"), tuple(rows))


def own_package(work: Path) -> Path:
    """A model trained as `make demo` trains its own, but judged on five times as many pictures; kept in `work`."""
    from transect.training import TrainRequest, train

    home = work / "model"
    made = sorted(home.glob("train/*/package"))
    if not made:
        data = make_dataset(work / "dataset", seed=1000, train=512, val=480, test=48, tile=320)
        settings = load_settings({"TRANSECT_HOME": str(home.absolute()), "TRANSECT_PRETRAINED": "starter"}, None)
        asked = TrainRequest("yolo11n", RECIPE, data)
        made = [train(asked, settings).run_dir / "package"]
    return made[-1]


if __name__ == "__main__":
    raise SystemExit(main())
