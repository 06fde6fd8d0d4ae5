"""The run that a training writes: begun or gone on with, and ended with its true status."""

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
from transect.tracking.run_history import History
from transect.tracking.run_log import RunLog, RunStatus, summarise
from transect.tracking.sync import undelivered_sentence
from transect.tracking.system_metrics import watch_system
from transect.training import run_metadata as record
from transect.training.plan import Plan, TrainRequest
from transect.training.resume import (
    check_unchanged,
    checkpoint_of,
    facts,
    find_unfinished,
    fork,
)
from transect.training.trainer.checkpoints import BEST, LAST, Checkpoint
from transect.training.trainer.environment import logged_to
from transect.training.validation_plots import plots

logger = logging.getLogger(__name__)

TAG_PARENT_RUN = "transect.parent_run"
_KILLED_WAIT_S = 15.0
_TRAINING_FILES = ("results.csv", "args.yaml", "ultralytics.log")


@dataclass(frozen=True)
class Session:
    """The run that a training writes: its folder, its log, and where it goes on, if it does."""

    folder: Path
    log: RunLog
    resumed: bool = False
    checkpoint: Checkpoint | None = None


@contextmanager
def open_session(request: TrainRequest, plan: Plan, provenance: Provenance, settings: Settings) -> Iterator[Session]:
    """Begin the run, or go on with it if that is asked for, and end it with its true status.

    Raises RegistryError at the end when MLflow does not have everything.
    """
    session = resume(request, plan, provenance, settings) if request.resume or request.new_run else None
    session = session or begin(request, plan, provenance, settings)
    go_on = "the same command with --resume goes on where this run is" if request.until == "registered" else ""
    with running(session, plan.recipe.experiment, settings, go_on):
        yield session
    if left := session.log.undelivered.left:
        raise RegistryError(undelivered_sentence(session.folder, len(left), session.log.undelivered.reason))


def begin(
    request: TrainRequest,
    plan: Plan,
    provenance: Provenance,
    settings: Settings,
    *,
    folder: Path | None = None,
    tags: Mapping[str, str] | None = None,
    parent: History | None = None,
    nested_in: Path | None = None,
) -> Session:
    """A new run, in an empty `folder` or one that is made; `parent` is what it goes on from.

    `nested_in` is the folder of the run that it is a part of, as a trial is of a sweep.
    Raises RegistryError, and leaves nothing behind, when MLflow refuses it.
    """
    registry = _asked_for(plan)
    folder = folder or new_run_folder(settings, plan.architecture.name)
    try:
        log = RunLog.start(
            folder,
            settings,
            plan.recipe.experiment,
            {**record.run_tags(plan, provenance), **request.run_tags, **(tags or {})},
            {**facts(plan), "until": request.until},
            registry=registry,
            parent=parent,
            nested_in=nested_in,
        )
    except RegistryError:
        shutil.rmtree(folder)
        raise
    return Session(folder, log)


def _asked_for(plan: Plan) -> Registry | None:
    """MLflow, after its experiment was asked for: one that cannot be used is told before anything is made.

    None while MLflow is away, also if it has gone since the plan was made. Raises RegistryError.
    """
    if plan.registry is None:
        return None
    try:
        plan.registry.experiment(plan.recipe.experiment)
    except UnreachableError as error:
        logger.warning("%s Training starts all the same; what it tells is kept on disk until MLflow is back.", error)
        return None
    return plan.registry


def resume(request: TrainRequest, plan: Plan, provenance: Provenance, settings: Settings) -> Session:
    """Go on with the newest unfinished run, or in a new one that knows its parent."""
    run = find_unfinished(plan, settings, request.until)
    check_unchanged(run, plan, new_run=request.new_run)
    checkpoint = None if run.trained else checkpoint_of(run, plan)
    if request.new_run and checkpoint is not None:
        tags = {TAG_PARENT_RUN: run.spool.state.run_id or run.history.local_id}
        session = begin(request, plan, provenance, settings, tags=tags, parent=run.history)
        logger.info("Going on from %s in a run of its own.", run.folder)
        return replace(session, checkpoint=fork(run, checkpoint, session.folder))
    log = RunLog.resume(run.spool, settings, registry=plan.registry)
    logger.info("Going on with %s.", run.folder)
    return Session(run.folder, log, resumed=True, checkpoint=checkpoint)


@contextmanager
def running(session: Session, experiment: str, settings: Settings, go_on: str) -> Iterator[None]:
    """Watch the machine and keep the log of Ultralytics while the block runs, and end the run with its true status.

    What MLflow does not have then, `session.log.undelivered` names. `go_on` says to whoever stops the
    training what goes on with it; empty says nothing.
    """
    log, folder = session.log, session.folder
    logger.info("MLflow run %s in experiment %s; files in %s", log.run_id or "(made later)", experiment, folder)
    status: RunStatus = "FAILED"
    try:
        with termination_as_interrupt(), logged_to(folder / "ultralytics.log"), watch_system(log.metrics):
            yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        if go_on:
            logger.info("Stopped; %s.", go_on)
        raise
    finally:
        if status != "FINISHED":
            log_rest(log, folder)
        # Whoever pressed Ctrl-C waits for nobody who is away.
        wait = min(settings.tracking_wait, _KILLED_WAIT_S) if status == "KILLED" else settings.tracking_wait
        undelivered = log.finish(status, wait)
        if undelivered.rejected:
            logger.warning("MLflow refused: %s. It is kept in %s.", summarise(undelivered.rejected), folder)
        if undelivered.left and status != "FINISHED":
            logger.warning("%s", undelivered_sentence(folder, len(undelivered.left), undelivered.reason))


def log_files(log: RunLog, folder: Path) -> None:
    """Log the pictures and tables that a training left."""
    log_pictures(log, folder)
    log_tables(log, folder)


def log_pictures(log: RunLog, folder: Path) -> None:
    """Log what Ultralytics drew; nothing is added to it after the training."""
    for path in plots(folder):
        log.artifact(path, "plots")


def log_tables(log: RunLog, folder: Path) -> None:
    """Log the numbers and arguments of a training, and what Ultralytics said, up to now."""
    for name in _TRAINING_FILES:
        if (folder / name).is_file():
            log.artifact(folder / name, "training")


def log_rest(log: RunLog, folder: Path) -> None:
    """Log what a training that did not end well has left: its numbers, pictures and weights."""
    log_files(log, folder)
    log_weights(log, folder)
    if (folder / LAST).is_file():
        log.artifact(folder / LAST, "weights")


def log_weights(log: RunLog, folder: Path) -> None:
    """Log the best weights of a training, which a package would hold."""
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
    raise InputError(f"{settings.home / 'train'} holds a thousand runs of this second; clear it.")


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which stops a container, end the run as Ctrl-C does: with its status told."""
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
