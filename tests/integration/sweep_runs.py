"""Sweeps with tiny trainings: their files, their processes, and what MLflow has of them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from cli_process import CliProcess, start
from tiny_datasets import write_spots_dataset
from transect.registry import connect
from transect.settings import Settings

RECIPE = """
train:
  {epochs: 4, imgsz: 64, batch: 4, nbs: 4, optimizer: AdamW, lr0: 1.0e-7, warmup_epochs: 0, mosaic: 0.0, plots: false}
precision: {int8: false, bf16: false}
"""
# The starter's weights find the spots. Steps of 1e-7 leave them as they are; AdamW's steps of 1 are larger than the
# weights, which are gone after the first, on any processor. With the seed 1 the second of three trials takes such
# steps. A loss that is multiplied by what float32 does not hold is infinite.
GOOD, BAD, MAD = 1e-7, 1.0, 1e39
SWEEP = """
recipe: configs/tiny.yaml
trials: 3
sampler: {{startup_trials: 9, seed: 1}}
pruner: {{kind: {pruner}, startup_trials: 1, warmup_epochs: 2}}
space:
  {key}: {{choice: [{first}, {second}]}}
"""
SOON_S = 600.0


def write_place(place: Path) -> None:
    """A working directory with a recipe, sweeps and a training set."""
    write_spots_dataset(place / "spots", images=8, size=64)
    (place / "configs" / "sweep").mkdir(parents=True)
    (place / "configs" / "tiny.yaml").write_text(RECIPE)
    for name, key, first, second, pruner in (
        ("rates", "lr0", BAD, GOOD, "median"),
        ("mad", "box", MAD, 7.5, "median"),
        ("worse", "box", MAD, 2e39, "median"),
        # For several workers: the second of three trials is the one that learns.
        ("joined", "lr0", GOOD, BAD, "none"),
        ("orphaned", "lr0", GOOD, BAD, "none"),
    ):
        text = SWEEP.format(key=key, first=first, second=second, pruner=pruner)
        (place / "configs" / "sweep" / f"{name}.yaml").write_text(text)


def environment_of(home: Path, **more: str) -> dict[str, str]:
    return {"TRANSECT_HOME": str(home), "TRANSECT_PRETRAINED": "starter", "TRANSECT_THREADS": "1", **more}


def start_sweep(name: str, environment: dict[str, str], place: Path, *arguments: str) -> CliProcess:
    command = ["sweep", "--config", f"configs/sweep/{name}.yaml", "--data", "spots/data.yaml", *arguments]
    return start(
        *command,
        cwd=place,
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def stop_when(reached: Callable[[], bool], process: CliProcess, number: signal.Signals) -> str:
    """Send the signal as soon as it has come so far; what the process said."""
    deadline = time.monotonic() + SOON_S
    came_so_far = True
    try:
        while came_so_far and not reached():
            came_so_far = time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(number if came_so_far else signal.SIGKILL)
        said = process.communicate(timeout=SOON_S)[0]
    finally:
        process.kill()
    assert came_so_far, said
    return said


def told(home: Path, trial: int, step: int) -> bool:
    journals = home.glob(f"train/*-{trial:03d}/spool/journal.jsonl")
    return any(f'"metrics of step {step}"' in journal.read_text() for journal in journals)


@dataclass(frozen=True)
class Read:
    """A sweep as MLflow has it; `superseded` are the runs of workers whose trial another one took over."""

    client: MlflowClient
    parent: Run
    trials: dict[int, Run]
    superseded: list[Run]

    def history(self, run: Run, name: str) -> dict[int, float]:
        return {one.step: one.value for one in self.client.get_metric_history(run.info.run_id, name)}

    def files(self, run: Run, folder: str) -> set[str]:
        return {Path(info.path).name for info in self.client.list_artifacts(run.info.run_id, folder)}


def read_sweep(settings: Settings, experiment: str) -> Read:
    client = connect(settings).client
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    nested = client.search_runs([found.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(nested) == len(runs) - 1
    gone = [run for run in nested if run.data.tags.get("transect.sweep.state") == "superseded"]
    kept = [run for run in nested if run not in gone]
    trials = {int(run.data.tags["transect.sweep.trial"]): run for run in kept}
    assert len(trials) == len(kept)
    return Read(client, parent, trials, gone)


def versions_of(settings: Settings, model: str = "") -> list[str]:
    """The runs of all versions, or of those of one model."""
    search = f"name = '{model}'" if model else ""
    return [str(version.run_id) for version in connect(settings).client.search_model_versions(search)]
