"""One training in a separate process, with tracking or without, and the time that it took.

    python -m benchmarks.training_process RECIPE DATA NOTED [--tracked] [--whole]

It reads the environment variables of Transect and MLflow, and writes its measurements into the file NOTED.
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import DEFAULT, patch

from benchmarks.interleaved import Span, granted
from pydantic import TypeAdapter

from transect.datasets import Dataset
from transect.errors import RegistryError
from transect.settings import Settings, load_settings
from transect.tracking.provenance import Provenance, read_provenance
from transect.tracking.run_log import RunLog
from transect.tracking.spool import SPOOL
from transect.training import TrainRequest, pipeline
from transect.training.plan import Plan, make_plan
from transect.training.run_session import Session, new_run_folder, open_session
from transect.training.trainer.environment import logged_to

if TYPE_CHECKING:
    from transect.training.trainer.trainer import Trained, TrainingCallbacks

THREADS = ("run-log", "system-metrics")
"""Tracking's long-lived threads in the trainer's process; those that upload the first files end at once."""

_RECIPE = """
iou: 0.5
precision: {{bf16: false, int8: false}}
train:
  epochs: {epochs}
  patience: 0
  imgsz: {tile}
  plots: {plots}
  batch: 16
  seed: 0
  optimizer: AdamW
  lr0: 0.0008
  cos_lr: true
  nbs: 16
  warmup_epochs: 0.5
  warmup_bias_lr: 0.002
  mosaic: 0.3
  close_mosaic: 2
  flipud: 0.5
"""


@dataclass(frozen=True)
class Spent:
    """Seconds of one training and of its process's processor time.

    `training` is all of `run_training`; `whole` begins when the plan is made and ends when the log is closed.
    `entries` were journalled in the training, for which the trainer's thread spent `telling`; `threads` is the
    processor time of tracking's own threads. Both are within the training.
    """

    training: float
    training_cpu: float
    whole: float | None
    entries: int
    telling: float
    telling_cpu: float
    threads: Mapping[str, float]
    metrics: Mapping[str, float]


@dataclass
class Noted:
    """The measurements of a training's process: as in `Spent`, but as spans, since it is interleaved."""

    training: Span
    training_cpu: float = 0.0
    whole: Span | None = None
    entries: int = 0
    telling: list[Span] = field(default_factory=list)
    telling_cpu: float = 0.0
    threads: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def spent(self, turns: Sequence[Span]) -> Spent:
        """The times within these turns."""
        return Spent(
            training=granted(turns, self.training),
            training_cpu=self.training_cpu,
            whole=None if self.whole is None else granted(turns, self.whole),
            entries=self.entries,
            telling=sum(granted(turns, span) for span in self.telling),
            telling_cpu=self.telling_cpu,
            threads=self.threads,
            metrics=self.metrics,
        )


_NOTED = TypeAdapter(Noted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("data", type=Path, help="a data.yaml")
    parser.add_argument("noted", type=Path)
    parser.add_argument("--tracked", action="store_true", help="log to MLflow")
    parser.add_argument("--whole", action="store_true", help="export, evaluate, package and, if tracked, register")
    arguments = parser.parse_args()
    request = TrainRequest("yolo11n", arguments.recipe, arguments.data)
    noted = train(request, load_settings(env_file=None), tracked=arguments.tracked, whole=arguments.whole)
    write_noted(arguments.noted, noted)


def write_noted(path: Path, noted: Noted) -> None:
    """Write the measurements to a JSON file."""
    path.write_bytes(_NOTED.dump_json(noted))


def read_noted(path: Path) -> Noted:
    """Read the measurements that `write_noted` wrote."""
    return _NOTED.validate_json(path.read_bytes())


def write_recipe(path: Path, epochs: int, tile: int, *, plots: bool = True) -> Path:
    """Write the recipe of a training on pictures of `tile` pixels to `path`."""
    path.write_text(_RECIPE.format(epochs=epochs, tile=tile, plots=str(plots).lower()), encoding="utf-8")
    return path


def train(request: TrainRequest, settings: Settings, *, tracked: bool, whole: bool) -> Noted:
    """Train, and log to the MLflow of `settings` if `tracked`.

    Only a `whole` one is exported, evaluated, packaged and registered.
    """
    plan, provenance = make_plan(request, settings), read_provenance(Path.cwd())
    if tracked and settings.tracking_wait and plan.registry is None:
        raise SystemExit(f"{settings.store_uri} did not answer.")
    # Ultralytics is set up by now, and may be imported.
    from transect.training.trainer import trainer

    noted = Noted(Span(0, 0))
    session_of = _tracked(request, plan, provenance, settings) if tracked else _untracked(settings)
    begin = time.perf_counter()
    with patch.object(trainer, "run_training", _timed(trainer.run_training, noted)), session_of as session:
        trained = pipeline.fit(plan, session)
        if whole:
            pipeline.package_model(plan, provenance, session, trained, settings)
    if whole:
        noted.whole = Span(begin, time.perf_counter())
    return noted


@contextmanager
def _tracked(request: TrainRequest, plan: Plan, provenance: Provenance, settings: Settings) -> Iterator[Session]:
    # At the end, a training whose MLflow was away raises RegistryError.
    away = suppress(RegistryError) if settings.tracking_wait == 0 else nullcontext()
    with away, open_session(request, plan, provenance, settings) as session:
        yield session


@contextmanager
def _untracked(settings: Settings) -> Iterator[Session]:
    folder = new_run_folder(settings, "untracked")
    # A resumed run does not log its start again, and the plots are made only for the log.
    session = Session(folder, cast("RunLog", _NoLog()), resumed=True)
    with logged_to(folder / "ultralytics.log"), patch.multiple(pipeline, log_pictures=DEFAULT, log_tables=DEFAULT):
        yield session


class _NoLog:
    """A run log that discards everything."""

    run_id = ""

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def params(self, values: Mapping[str, Any]) -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...

    def register(self, package: Path, tags: Mapping[str, str], wait: float) -> str | None: ...


def _timed(real: Callable[..., "Trained"], noted: Noted) -> Callable[..., "Trained"]:
    """`run_training`, with the times of itself, its callbacks and tracking's threads."""

    def timed(
        dataset: Dataset, arguments: Any, folder: Path, callbacks: "TrainingCallbacks", checkpoint: Any
    ) -> "Trained":
        def told(callback: Callable[..., None]) -> Callable[..., None]:
            def call(*values: Any) -> None:
                begin, cpu = time.perf_counter(), time.thread_time()
                callback(*values)
                noted.telling.append(Span(begin, time.perf_counter()))
                noted.telling_cpu += time.thread_time() - cpu

            return call

        threads, entries = _thread_times(), _entries(folder)
        cpu, begin = time.process_time(), time.perf_counter()
        watched = replace(callbacks, started=told(callbacks.started), epoch=told(callbacks.epoch))
        trained = real(dataset, arguments, folder, watched, checkpoint)
        noted.training = Span(begin, time.perf_counter())
        noted.training_cpu = time.process_time() - cpu
        noted.threads = {name: seconds - threads[name] for name, seconds in _thread_times().items()}
        noted.entries = _entries(folder) - entries
        noted.metrics = dict(trained.val)
        return trained

    return timed


def _thread_times() -> dict[str, float]:
    """Processor seconds of each of tracking's threads that runs."""
    idents = {thread.name: thread.ident for thread in threading.enumerate() if thread.name in THREADS}
    return {
        name: time.clock_gettime(time.pthread_getcpuclockid(ident))
        for name, ident in idents.items()
        if ident is not None
    }


def _entries(folder: Path) -> int:
    journal = folder / SPOOL / "journal.jsonl"
    return len(journal.read_bytes().splitlines()) if journal.is_file() else 0


if __name__ == "__main__":
    main()
