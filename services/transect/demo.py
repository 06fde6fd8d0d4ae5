"""The complete workflow on a sample survey, in one command, without Docker and GPU.

All output is in one folder: the survey, the training set, MLflow's SQLite store, the report and
summary.json. Each step runs the same code as the stack; only settings differ.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from transect.census import CensusResult, load_config, load_survey, run_census
from transect.errors import PromotionRefusedError, TransectError
from transect.files import atomic_write_json
from transect.registry import connect, load_gate, promote
from transect.review.folder.start import start_review
from transect.review.outcome.estimate import ReviewResult, estimate_review
from transect.review.outcome.record import minutes_spent
from transect.review.session import open_review
from transect.review.simulated import SimulatedPerson, TrueAnimals, simulate_review
from transect.settings import Settings, load_settings
from transect.synth import SurveyDesign, SurveyTruth, make_dataset, make_survey, plan_survey
from transect.synth.sightings import boxes_by_photo
from transect.tracking.census_log import log_census
from transect.training import TrainOutcome, TrainRequest, train
from transect.wording import count_of

_RECIPE = Path("configs/train/demo.yaml")
_GATE = Path("configs/promotion.yaml")
_CENSUS = Path("configs/census.yaml")
# Empty ground to search for false alarms: a fifth of one look of the survey. The correction of a count is then about
# half as precise as with unlimited ground; more would take longer to make than the training set.
_BACKGROUND = 400
_OVERRIDES = ("background=images/background",)
_TILE = 320  # the size of training and census tiles, so that animals have the same scale in both
_READY_S = 120.0
# What the simulated person is like, and how long they work.
_REJECTS, _KEEPS, _OVERLOOKS, _MINUTES = 0.01, 0.0005, 0.05, 60
# Variables of inference on this machine; the demo ignores all others.
_MACHINE = ("TRANSECT_BACKEND", "TRANSECT_PRECISION", "TRANSECT_THREADS")


class _Steps:
    """Prints the current step and records the duration of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, title: str) -> Iterator[None]:
        print(f"\n[{len(self.seconds) + 1}/8] {title}", flush=True)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)


def run_demo(out: Path, *, frames: int, seed: int) -> None:
    """Make a sample survey, train, register, promote, serve, count, check, report.

    Writes `out`/summary.json. Another run reuses the sample data, trains a new version, and changes
    production only if it passes the gate.
    """
    settings = _settings(out)
    step = _Steps()
    with step("survey", f"Photographing a landscape with known animals ({frames} frames)"):
        truth = make_survey(out / "survey", frames=frames, seed=seed)
    with step("dataset", "Making a training set on other ground"):
        data = make_dataset(
            out / "dataset", seed=seed + 1, train=512, val=96, test=96, tile=_TILE, background=_BACKGROUND
        )
    with step("train", "Training yolo11n, tracked in MLflow"):
        outcome = train(TrainRequest(model="yolo11n", config=_RECIPE, data=data, overrides=_OVERRIDES), settings)
        print(f"Registered {outcome.name} version {outcome.version}: mAP50 {outcome.metrics['mAP50']:.3f}")
    with step("promote", "Promoting it, if the gate agrees"):
        print(_promote(settings))
    with step("serve", "Serving the production model over HTTP"):
        print(_ask_service(settings, min((out / "survey" / "images").rglob("*.jpg")), out / "detector.log"))
    with step("census", "Counting the survey"):
        result = _count(settings, out)
    with step("review", f"Checking the count: a simulated person, at most {_MINUTES} minutes of work"):
        checked = _review(settings, out, SurveyDesign(frames=frames, seed=seed), result)
    with step("report", "Summing up"):
        summary = _summary(settings, outcome=outcome, truth=truth, result=result, checked=checked, seconds=step.seconds)
        atomic_write_json(out / "summary.json", summary)
    _print_summary(out, summary, result)


def _settings(out: Path) -> Settings:
    # The demo ignores .env and uses the embedded store: it must not write to a real server.
    return load_settings(_demo_environment(out), env_file=None)


def _demo_environment(out: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _MACHINE if name in os.environ}
    return {
        **kept,
        "TRANSECT_HOME": str(out.absolute()),
        "TRANSECT_PRETRAINED": "starter",
        "TRANSECT_POLL_SECONDS": "1",
    }


def _promote(settings: Settings) -> str:
    gate = load_gate(_GATE)
    try:
        return promote(connect(settings), gate=gate, actor="transect demo", reason="make demo").sentence
    except PromotionRefusedError as refusal:
        # A second demo trains a second model; it must not be served if it is not better.
        return f"{refusal} The production model stays."


def _ask_service(settings: Settings, image: Path, log: Path) -> str:
    """Start the service, wait until it is ready, detect in one image, stop it."""
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TRANSECT_", "MLFLOW_"))}
    environment |= {**_demo_environment(settings.home), "TRANSECT_PORT": str(port)}
    base = f"http://127.0.0.1:{port}"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "transect", "serve"],
            env=environment,
            cwd=settings.home,  # no .env of the project there
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(process, base, log)
            request = urllib.request.Request(  # noqa: S310 - our own address
                f"{base}/v1/detect", data=image.read_bytes(), headers={"Content-Type": "image/jpeg"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - our own address
                answer = json.load(response)
        finally:
            process.terminate()
            process.wait(timeout=30)
    model = answer["model"]
    return (
        f"POST {base}/v1/detect {image.name}: {count_of(len(answer['detections']), 'animal')}, "
        f"answered by {model['name']} version {model['version']}"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: "subprocess.Popen[bytes]", base: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise TransectError(f"The detection service stopped with exit code {process.returncode}; its log is {log}.")
        try:
            with urllib.request.urlopen(f"{base}/readyz", timeout=5):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise TransectError(f"The detection service was not ready after {_READY_S:.0f} s; its log is {log}.")


def _count(settings: Settings, out: Path) -> CensusResult:
    registry = connect(settings)
    resolved = registry.resolve(f"models:/{settings.model_name}@{settings.model_alias}")
    with registry.open(resolved) as detector:
        result = run_census(
            load_survey(out / "survey", settings.dem_path),
            out=out / "results",
            detector=detector,
            config=load_config(_CENSUS),
            settings=settings,
        )
    log_census(result.as_run(), settings)
    return result


def _summary(
    settings: Settings,
    *,
    outcome: TrainOutcome,
    truth: SurveyTruth,
    result: CensusResult,
    checked: ReviewResult,
    seconds: dict[str, float],
) -> dict[str, Any]:
    species = [
        {
            "species": row.species,
            "truth": truth.photographed.get(row.species, 0),
            "seen": row.seen,
            "unique": row.unique,
            "corrected": row.corrected,
            "truth_in_area": truth.population.get(row.species, 0),
            "detector": row.detector,
            "estimate": row.estimate,
            "ci95": None if row.ci95 is None else list(row.ci95),
        }
        for row in result.rows
    ]
    production = connect(settings).resolve(f"models:/{settings.model_name}@{settings.model_alias}")
    return {
        "model": {
            "name": production.name,
            "version": production.version,
            "trained_version": outcome.version,
            "metrics": outcome.metrics,
        },
        "census": {
            "detector": result.manifest["detector"]["state"],
            "species": species,
            "failures": len(result.issues),
            "report": str(result.report),
        },
        "review": {
            "minutes": minutes_spent(checked.record)[0],
            "boxes": checked.record["reviewed"]["boxes"],
            "photos": checked.record["reviewed"]["photos"],
            "species": [_checked_species(one, truth) for one in checked.record["species"]],
            "report": str(checked.report),
        },
        "seconds": seconds,
    }


def _review(settings: Settings, out: Path, design: SurveyDesign, result: CensusResult) -> ReviewResult:
    """Review the census as a person would who knows the animals and errs sometimes."""
    animals = {name: TrueAnimals(*found) for name, found in boxes_by_photo(plan_survey(design)).items()}
    person = SimulatedPerson(animals, rejects=_REJECTS, keeps=_KEEPS, overlooks=_OVERLOOKS)
    # A review of an earlier demo is of another model's boxes, and stays.
    folder = start_review(result.folder, survey=out / "survey")
    with open_review(folder, settings) as session:
        simulate_review(session, person, _MINUTES)
        checked = estimate_review(session, survey=out / "survey", max_pixels=settings.max_pixels)
    log_census(checked.as_run(), settings)
    return checked


def _checked_species(one: dict[str, Any], truth: SurveyTruth) -> dict[str, Any]:
    name, whole = one["species"], one["strata"][-1]
    every = name == "all"
    return {
        "species": name,
        "truth": sum(truth.photographed.values()) if every else truth.photographed.get(name, 0),
        "checked": one["flown"],
        "checked_ci95": one["flown_ci95"],
        "precision": one["precision"],
        "recall": one["recall"],
        "truth_in_area": sum(truth.population.values()) if every else truth.population.get(name, 0),
        "estimate": whole["estimate"],
        "ci95": whole["ci95"],
    }


def _print_checked(review: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in ("species", "truth", "checked", "95%\nlimits", "precision", "recall", "truth\nin area", "estimate"):
        table.add_column(column, min_width=max(map(len, column.split("\n"))))
    table.add_column("95%\nlimits", no_wrap=True)
    for row in review["species"]:
        table.add_row(
            *(row["species"], str(row["truth"]), _whole(row["checked"]), _limits(row["checked_ci95"])),
            *(_share(row["precision"]), _share(row["recall"]), str(row["truth_in_area"]), _whole(row["estimate"])),
            _limits(row["ci95"]),
        )
    print(f"\nChecked by a simulated person, who rejects {_REJECTS:.0%} of the animals in boxes, keeps {_KEEPS:.2%} of")
    print(f"the boxes without one, and overlooks {_OVERLOOKS:.0%} of the animals in a photo:")
    work = f"{review['boxes']} boxes and {review['photos']} photos, {review['minutes']:.0f} minutes of work"
    print(f"{work}.\n")
    Console().print(table)
    print("checked: animals on the photographed ground, with limits that hold for any detector; precision and")
    print("recall: of the detector on this survey.")


def _print_summary(out: Path, summary: dict[str, Any], result: CensusResult) -> None:
    # Without column borders and with whole words, it fits the 80 columns of a log.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in ("species", "truth", "seen", "unique", "detector", "corrected", "truth\nin area", "estimate"):
        widest = "validated" if column == "detector" else max(column.split("\n"), key=len)
        table.add_column(column, min_width=len(widest))
    table.add_column("95%\nlimits", no_wrap=True)
    for row in summary["census"]["species"]:
        low, high = row["ci95"] or (None, None)
        table.add_row(
            *(row["species"], str(row["truth"]), str(row["seen"]), str(row["unique"]), row["detector"]),
            *(
                _whole(row["corrected"]),
                str(row["truth_in_area"]),
                _whole(row["estimate"]),
                "-" if low is None else f"{low:.0f}–{high:.0f}",
            ),
        )
    print()
    Console().print(table)
    print("truth: animals on the photographed ground; seen: in all frames; unique: each animal once;")
    print("detector: whether its errors in the validation images may be taken for those on this ground;")
    print(
        "corrected: for what the model missed and mistook in its validation images, seen from one look at each place;"
    )
    print("estimate: for the whole area, from the photographed strips (Jolly's method II, limits by bootstrap).")
    _print_checked(summary["review"])
    print(f"\nReport:    {result.report}")
    print(f"Checked:   {summary['review']['report']}")
    print(f"Summary:   {out / 'summary.json'}")
    print(f"MLflow UI: make ui STORE={out}   (then open http://127.0.0.1:5000)")


def _limits(limits: list[float] | None) -> str:
    return "-" if limits is None else f"{limits[0]:.0f}–{limits[1]:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
