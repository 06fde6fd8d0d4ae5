"""The MLflow run of a training: started or resumed, and ended with its true status."""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from transect.errors import InputError, RegistryError, UnreachableError
from transect.registry import Registry
from transect.settings import Settings
from transect.tracking.provenance import Provenance
from transect.tracking.run_history import RunHistory
from transect.tracking.run_log import RunLog, RunStatus, summarise
from transect.tracking.sync import undelivered_sentence
from transect.tracking.system_metrics import watch_system
from transect.training import run_metadata
from transect.training.plan import Plan, TrainRequest
from transect.training.resume import (
    check_unchanged,
    checkpoint_of,
    find_unfinished,
    fork,
    resume_fingerprint,
)
from transect.training.trainer.checkpoints import BEST, LAST, Checkpoint
from transect.training.trainer.environment import logged_to
from transect.training.validation_plots import collect_plots

logger = logging.getLogger(__name__)

TAG_PARENT_RUN = "transect.parent_run"
_KILLED_WAIT_S = 15.0
_TRAINING_FILES = ("results.csv", "args.yaml", "ultralytics.log")


@dataclass(frozen=True)
class Session:
    """The run of a training: its folder, its log, and the checkpoint to resume from, if any."""

    folder: Path
    log: RunLog
    resumed: bool = False
    checkpoint: Checkpoint | None = None


@contextmanager
def open_session(request: TrainRequest, plan: Plan, provenance: Provenance, settings: Settings) -> Iterator[Session]:
    """Start the run, or resume it if requested, and end it with its true status.

    Raises RegistryError at the end when MLflow does not have everything.
    """
    session = resume_run(request, plan, provenance, settings) if request.resume or request.new_run else None
    session = session or start_run(request, plan, provenance, settings)
    resume_hint = "the same command with --resume resumes this run" if request.until == "registered" else ""
    with tracked_run(session, plan.recipe.experiment, settings, resume_hint):
        yield session
    if left := session.log.undelivered.left:
        raise RegistryError(undelivered_sentence(session.folder, len(left), session.log.undelivered.reason))


def start_run(
    request: TrainRequest,
    plan: Plan,
    provenance: Provenance,
    settings: Settings,
    *,
    folder: Path | None = None,
    tags: Mapping[str, str] | None = None,
    parent: RunHistory | None = None,
    nested_in: Path | None = None,
) -> Session:
    """Start a new run in the empty `folder`, or a new one; `parent` is the run that it resumes.

    `nested_in` is the folder of its parent in MLflow's pages, as a trial's is its sweep.
    Raises RegistryError, and leaves nothing behind, when MLflow refuses it.
    """
    registry = _verified_registry(plan)
    folder = folder or new_run_folder(settings, plan.architecture.name)
    try:
        log = RunLog.start(
            folder,
            settings,
            plan.recipe.experiment,
            {**run_metadata.run_tags(plan, provenance), **request.run_tags, **(tags or {})},
            {**resume_fingerprint(plan), "until": request.until},
            registry=registry,
            parent=parent,
            nested_in=nested_in,
        )
    except RegistryError:
        shutil.rmtree(folder)
        raise
    return Session(folder, log)


def _verified_registry(plan: Plan) -> Registry | None:
    """The registry, after a look-up of its experiment, so that an unusable one fails before anything is created.

    None while MLflow is away, also if it became so since the plan was made. Raises RegistryError.
    """
    if plan.registry is None:
        return None
    try:
        plan.registry.experiment(plan.recipe.experiment)
    except UnreachableError as error:
        logger.warning("%s Training starts all the same; its log is kept on disk until MLflow is back.", error)
        return None
    return plan.registry


def resume_run(request: TrainRequest, plan: Plan, provenance: Provenance, settings: Settings) -> Session:
    """Resume the newest unfinished run, or fork it into a new run with a tag that names its parent."""
    run = find_unfinished(plan, settings, request.until)
    check_unchanged(run, plan, new_run=request.new_run)
    checkpoint = None if run.trained else checkpoint_of(run, plan)
    if request.new_run and checkpoint is not None:
        tags = {TAG_PARENT_RUN: run.spool.state.run_id or run.history.local_id}
        session = start_run(request, plan, provenance, settings, tags=tags, parent=run.history)
        logger.info("Resuming from %s in a new run.", run.folder)
        return replace(session, checkpoint=fork(run, checkpoint, session.folder))
    log = RunLog.resume(run.spool, settings, registry=plan.registry)
    logger.info("Resuming %s.", run.folder)
    return Session(run.folder, log, resumed=True, checkpoint=checkpoint)


@contextmanager
def tracked_run(session: Session, experiment: str, settings: Settings, resume_hint: str) -> Iterator[None]:
    """Sample the machine and log Ultralytics' output while the block runs, then end the run with its true status.

    `session.log.undelivered` then lists the entries that MLflow lacks. `resume_hint` is logged on Ctrl-C,
    unless it is empty.
    """
    log, folder = session.log, session.folder
    logger.info("MLflow run %s in experiment %s; files in %s", log.run_id or "(created later)", experiment, folder)
    status: RunStatus = "FAILED"
    try:
        with termination_as_interrupt(), logged_to(folder / "ultralytics.log"), watch_system(log.metrics):
            yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        if resume_hint:
            logger.info("Stopped; %s.", resume_hint)
        raise
    finally:
        if status != "FINISHED":
            log_partial_outputs(log, folder)
        # After Ctrl-C, wait at most 15 s for MLflow.
        wait = min(settings.tracking_wait, _KILLED_WAIT_S) if status == "KILLED" else settings.tracking_wait
        undelivered = log.finish(status, wait)
        if undelivered.rejected:
            logger.warning("MLflow refused: %s. It is kept in %s.", summarise(undelivered.rejected), folder)
        if undelivered.left and status != "FINISHED":
            logger.warning("%s", undelivered_sentence(folder, len(undelivered.left), undelivered.reason))


def log_files(log: RunLog, folder: Path) -> None:
    """Log the pictures and tables of a training."""
    log_pictures(log, folder)
    log_tables(log, folder)


def log_pictures(log: RunLog, folder: Path) -> None:
    """Log Ultralytics' plots; none are added after the training."""
    for path in collect_plots(folder):
        log.artifact(path, "plots")


def log_tables(log: RunLog, folder: Path) -> None:
    """Log the results, arguments and Ultralytics' log of a training, up to now."""
    for name in _TRAINING_FILES:
        if (folder / name).is_file():
            log.artifact(folder / name, "training")


def log_partial_outputs(log: RunLog, folder: Path) -> None:
    """Log the outputs of a training that failed or was stopped: tables, pictures and weights."""
    log_files(log, folder)
    log_weights(log, folder)
    if (folder / LAST).is_file():
        log.artifact(folder / LAST, "weights")


def log_weights(log: RunLog, folder: Path) -> None:
    """Log the best weights of a training."""
    if (folder / BEST).is_file():
        log.artifact(folder / BEST, "weights")


def new_run_folder(settings: Settings, name: str) -> Path:
    """A new folder, named by date and `name`, under TRANSECT_HOME/train."""
    stem = f"{datetime.now().astimezone():%Y-%m-%d_%H%M%S}_{name}"
    for number in range(1, 1000):
        folder = (settings.home / "train" / (stem if number == 1 else f"{stem}-{number}")).absolute()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{folder} cannot be made: {error.strerror}; set TRANSECT_HOME.") from error
        return folder
    raise InputError(f"{settings.home / 'train'} has a thousand runs of this second; clear it.")


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Handle SIGTERM, which stops a container, as Ctrl-C, so that the run ends with its status."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
