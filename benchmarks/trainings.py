"""One training, with tracking or without, and what it spent."""

import gc
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from transect.datasets import Dataset
from transect.errors import RegistryError
from transect.settings import Settings
from transect.training import TrainRequest, pipeline
from transect.training.plan import Plan, make_plan
from transect.training.provenance import read_provenance
from transect.training.runtime import logged_to
from transect.training.session import Session, new_run_folder, open_session
from transect.training.spool import SPOOL
from transect.training.tracking import RunLog

if TYPE_CHECKING:
    from transect.training.trainer import Listeners, Trained

THREADS = ("run-log", "system-metrics")
"""The threads of tracking in the trainer's process."""

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


@dataclass
class Spent:
    """Seconds of one training and of its process's processor time.

    `training` is all of `run_training`; `whole` begins when the plan is made and ends when the log is closed.
    `entries` were told in the training, of which the trainer itself spent `telling`; `threads` is the processor
    time of tracking's own threads, both within the training.
    """

    training: float = 0.0
    training_cpu: float = 0.0
    whole: float | None = None
    entries: int = 0
    telling: float = 0.0
    telling_cpu: float = 0.0
    threads: dict[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


class Training:
    """The same training, as often as wanted; `data` is a data.yaml of pictures of `tile` pixels."""

    def __init__(self, data: Path, scratch: Path, epochs: int, tile: int, *, plots: bool = True) -> None:
        self.scratch = scratch
        recipe = scratch / "tracking.yaml"
        recipe.write_text(_RECIPE.format(epochs=epochs, tile=tile, plots=str(plots).lower()), encoding="utf-8")
        self._request = TrainRequest("yolo11n", recipe, data)
        self._provenance = read_provenance(Path.cwd())

    def run(self, settings: Settings, *, tracked: bool = True, whole: bool = True) -> Spent:
        """Train, and tell the MLflow of `settings` if it is `tracked`; what it leaves is removed.

        Only a `whole` one is exported, evaluated, packaged and registered.
        """
        spent = Spent()
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, settings.home / "train", ignore_errors=True)
            stack.enter_context(redirect_stderr(stack.enter_context((self.scratch / "said.log").open("a"))))
            plan = make_plan(self._request, settings)
            if tracked and settings.tracking_wait and plan.registry is None:
                raise SystemExit(f"{settings.store_uri} did not answer; {self.scratch} has its log.")
            # Ultralytics is set up by now, and may be imported.
            from transect.training import trainer

            stack.enter_context(patch.object(trainer, "run_training", _timed(trainer.run_training, spent)))
            gc.collect()
            start = time.perf_counter()
            with (self._tracked if tracked else self._untracked)(plan, settings) as session:
                trained = pipeline.learn(plan, session)
                if whole:
                    pipeline.package_model(plan, self._provenance, session, trained, settings)
            spent.whole = time.perf_counter() - start if whole else None
        return spent

    @contextmanager
    def _tracked(self, plan: Plan, settings: Settings) -> Iterator[Session]:
        # At the end, a training whose MLflow was away says so.
        away = suppress(RegistryError) if settings.tracking_wait == 0 else nullcontext()
        with away, open_session(self._request, plan, self._provenance, settings) as session:
            yield session

    @contextmanager
    def _untracked(self, _: Plan, settings: Settings) -> Iterator[Session]:
        folder = new_run_folder(settings, "untracked")
        # A resumed run has told what a run begins with, and the pictures of the last files are made to be told.
        session = Session(folder, cast("RunLog", _NoLog()), resumed=True)
        with logged_to(folder / "ultralytics.log"), patch.object(pipeline, "log_files"):
            yield session


class _NoLog:
    """Where the log of a run would be."""

    run_id = ""

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def params(self, values: Mapping[str, Any]) -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...

    def register(self, package: Path, tags: Mapping[str, str], wait: float) -> str | None: ...


def _timed(real: Callable[..., "Trained"], spent: Spent) -> Callable[..., "Trained"]:
    """`run_training`, and what it, its listeners and tracking's threads spend."""

    def timed(dataset: Dataset, arguments: Any, folder: Path, listeners: "Listeners", checkpoint: Any) -> "Trained":
        def told(listener: Callable[..., None]) -> Callable[..., None]:
            def call(*values: Any) -> None:
                wall, cpu = time.perf_counter(), time.thread_time()
                listener(*values)
                spent.telling += time.perf_counter() - wall
                spent.telling_cpu += time.thread_time() - cpu

            return call

        threads, entries = _thread_times(), _entries(folder)
        cpu, wall = time.process_time(), time.perf_counter()
        watched = replace(listeners, started=told(listeners.started), epoch=told(listeners.epoch))
        trained = real(dataset, arguments, folder, watched, checkpoint)
        spent.training = time.perf_counter() - wall
        spent.training_cpu = time.process_time() - cpu
        spent.threads = {name: seconds - threads[name] for name, seconds in _thread_times().items()}
        spent.entries = _entries(folder) - entries
        spent.metrics = trained.val
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
