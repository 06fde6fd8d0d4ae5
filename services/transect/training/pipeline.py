"""The whole training: plan, run, evaluate, package, register; told to MLflow truthfully."""

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
from typing import Any

from transect.engine import MODEL_FILE, SCHEMA_VERSION
from transect.errors import InputError, RegistryError
from transect.registry import build_package
from transect.registry import names as tag_names
from transect.settings import Settings
from transect.training import record
from transect.training.history import History
from transect.training.machine import watch_system
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.provenance import Provenance, read_provenance
from transect.training.resume import (
    BEST,
    LAST,
    Checkpoint,
    check_unchanged,
    checkpoint_of,
    facts,
    find_unfinished,
    fork,
)
from transect.training.runtime import logged_to
from transect.training.sync import undelivered_sentence
from transect.training.tracking import RunLog, RunStatus, summarise

logger = logging.getLogger(__name__)

TAG_PARENT_RUN = "transect.parent_run"
_KILLED_WAIT_S = 15.0
_TRAINING_FILES = ("results.csv", "args.yaml", "ultralytics.log")


@dataclass(frozen=True)
class TrainOutcome:
    """A registered version.

    `metrics` (precision, recall, mAP50, mAP50-95) and `per_class` are of the test split, measured by
    our engine on the exported model. `weights_used` is what training started from: ultralytics,
    starter, checkpoint, file or none. `variants` says in one sentence each what was measured of the
    faster variants, and which of them are in the package.
    """

    run_id: str
    name: str
    version: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    weights_used: str
    run_dir: Path
    variants: tuple[str, ...] = ()


def train(request: TrainRequest, settings: Settings) -> TrainOutcome:
    """Train, track, evaluate, package and register; the new version gets the alias `candidate`.

    Everything is checked first: bad input raises the class of transect.errors that fits and leaves
    MLflow as it was. The run ends FINISHED, FAILED or, when interrupted, KILLED; weights, numbers
    and the package stay in the run's folder in every case. What an MLflow that is away could not be
    told stays in the run's spool: RegistryError says so at the end, and `sync_spools` delivers it.
    """
    plan = make_plan(request, settings)
    provenance = read_provenance(Path.cwd())
    with _open_session(request, plan, provenance, settings) as session:
        outcome = _run(plan, provenance, session, settings)
    spool = session.log.spool
    if not spool.state.version:
        raise RegistryError(f"MLflow did not register the model: {'; '.join(spool.state.rejected)}.")
    # Both may have come while the log was closed.
    return replace(outcome, run_id=spool.state.run_id, version=spool.state.version)


@dataclass(frozen=True)
class _Session:
    """The run that a training writes: its folder, its log, and where it goes on, if it does."""

    folder: Path
    log: RunLog
    resumed: bool = False
    checkpoint: Checkpoint | None = None


@contextmanager
def _open_session(request: TrainRequest, plan: Plan, provenance: Provenance, settings: Settings) -> Iterator[_Session]:
    """Begin the run or go on with it, and end it with its true status."""
    session = _resume(request, plan, provenance, settings) if request.resume or request.new_run else None
    session = session or _begin(plan, provenance, settings)
    log, folder = session.log, session.folder
    logger.info(
        "MLflow run %s in experiment %s; files in %s", log.run_id or "(made later)", plan.recipe.experiment, folder
    )
    status: RunStatus = "FAILED"
    try:
        with _termination_as_interrupt(), logged_to(folder / "ultralytics.log"), watch_system(log.metrics):
            yield session
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        logger.info("Stopped; the same command with --resume goes on where this run is.")
        raise
    finally:
        if status != "FINISHED":
            _log_rest(log, folder)
        # Whoever pressed Ctrl-C waits for nobody who is away.
        wait = min(settings.tracking_wait, _KILLED_WAIT_S) if status == "KILLED" else settings.tracking_wait
        undelivered = log.finish(status, wait)
        if undelivered.rejected:
            logger.warning("MLflow refused: %s. It is kept in %s.", summarise(undelivered.rejected), folder)
        if undelivered.left and status != "FINISHED":
            logger.warning("%s", undelivered_sentence(folder, len(undelivered.left), undelivered.reason))
    if undelivered.left:
        raise RegistryError(undelivered_sentence(folder, len(undelivered.left), undelivered.reason))


def _begin(
    plan: Plan,
    provenance: Provenance,
    settings: Settings,
    *,
    tags: Mapping[str, str] | None = None,
    parent: History | None = None,
) -> _Session:
    if plan.registry is not None:
        # An experiment that cannot be used is told before anything is made.
        plan.registry.experiment(plan.recipe.experiment)
    folder = _run_folder(settings, plan)
    all_tags = {**record.run_tags(plan, provenance), **(tags or {})}
    try:
        log = RunLog.start(
            folder,
            settings,
            plan.recipe.experiment,
            all_tags,
            facts(plan),
            registry=plan.registry,
            parent=parent,
        )
    except RegistryError:
        shutil.rmtree(folder)
        raise
    return _Session(folder, log)


def _resume(request: TrainRequest, plan: Plan, provenance: Provenance, settings: Settings) -> _Session:
    """Go on with the newest unfinished run, or in a new one that knows its parent."""
    run = find_unfinished(plan, settings)
    check_unchanged(run, plan, new_run=request.new_run)
    checkpoint = None if run.trained else checkpoint_of(run, plan)
    if request.new_run and checkpoint is not None:
        parent = run.spool.state.run_id or run.history.local_id
        session = _begin(plan, provenance, settings, tags={TAG_PARENT_RUN: parent}, parent=run.history)
        logger.info("Going on from %s in a run of its own.", run.folder)
        return replace(session, checkpoint=fork(run, checkpoint, session.folder))
    log = RunLog.resume(run.spool, settings, registry=plan.registry)
    logger.info("Going on with %s.", run.folder)
    return _Session(run.folder, log, resumed=True, checkpoint=checkpoint)


def _run(plan: Plan, provenance: Provenance, session: _Session, settings: Settings) -> TrainOutcome:
    from transect.training.evaluation import evaluate_model, warn_of_difference
    from transect.training.export import export_onnx
    from transect.training.trials import TrialModel, make_variants

    log, folder = session.log, session.folder
    if not session.resumed:
        record.log_start(log, plan, folder)
    trained = _train(plan, session)
    onnx = folder / MODEL_FILE
    export_onnx(trained.best, onnx, trained.image_size, plan.recipe.head)
    package: dict[str, Any] = {
        "onnx": onnx,
        "weights": trained.best,
        "names": plan.dataset.names,
        "image_size": trained.image_size,
        "stride": trained.stride,
        "head_kind": plan.recipe.head,
        "architecture": plan.architecture.name,
        "iou": plan.recipe.iou,
    }
    found = evaluate_model(plan.dataset, settings, **package)
    warn_of_difference(found.val, trained.val)
    report = make_variants(
        TrialModel.describe(folder, **package, conf=found.conf), plan.dataset, plan.recipe.precision, settings
    )
    metrics = record.headline(found.test)
    per_class = {name: values.metrics() for name, values in found.test.per_class.items()}
    best = {f"best/{name}": value for name, value in trained.val.items()}
    log.metrics({**best, **record.final_metrics(found.test), **report.metrics()}, step=trained.epochs)
    log.tags(report.tags())
    _log_files(log, folder)
    # What a process left that was killed before it could hand its package over.
    shutil.rmtree(folder / "package", ignore_errors=True)
    built = build_package(
        folder / "package",
        **package,
        conf=found.conf,
        training_gsd_m=plan.recipe.training_gsd_m,
        metrics=found.test.metrics(),
        class_metrics=per_class,
        dataset_name=plan.dataset.name,
        dataset_digest=plan.digest,
        git_commit=provenance.git_commit,
        git_dirty=provenance.git_dirty,
        versions=provenance.versions,
        run_id=log.run_id,
        variants=report.passed,
        validation_counts=found.counts,
    )
    tags = {
        tag_names.TAG_MAP50: f"{metrics['mAP50']:.4f}",
        tag_names.TAG_MAP50_95: f"{metrics['mAP50-95']:.4f}",
        tag_names.TAG_PRECISIONS: ", ".join(("fp32", *(variant.precision for variant in report.passed))),
        "transect.image_size": str(trained.image_size),
    }
    version = _register(plan, session, built, tags, settings)
    return TrainOutcome(
        run_id=log.run_id,
        name=settings.model_name,
        version=version,
        metrics=metrics,
        per_class=per_class,
        weights_used=plan.weights.kind,
        run_dir=folder,
        variants=report.sentences,
    )


def _log_files(log: RunLog, folder: Path) -> None:
    for path in record.plots(folder):
        log.artifact(path, "plots")
    for name in _TRAINING_FILES:
        if (folder / name).is_file():
            log.artifact(folder / name, "training")


def _log_rest(log: RunLog, folder: Path) -> None:
    """Log what a training that did not end well has left: its numbers, pictures and weights."""
    _log_files(log, folder)
    for name in (LAST, BEST):
        if (folder / name).is_file():
            log.artifact(folder / name, "weights")


def _train(plan: Plan, session: _Session) -> Any:
    from transect.training.trainer import Listeners, run_training

    log = session.log
    listeners = Listeners(
        started=lambda arguments: log.params(record.configuration(plan, arguments)),
        epoch=lambda number, values: log.metrics(values, step=number),
    )
    try:
        trained = run_training(plan.dataset, plan.arguments, session.folder, listeners, session.checkpoint)
    except RuntimeError as error:
        if "out of memory" not in str(error).lower():
            raise
        raise InputError(
            "Training ran out of memory; give a smaller batch or imgsz, such as: batch=8 imgsz=512."
        ) from error
    # Ultralytics halves the batch when memory runs out in the first epoch; parameters cannot be changed then.
    log.tags({"transect.batch_used": str(trained.batch), "transect.epochs_run": str(trained.epochs)})
    return trained


def _register(plan: Plan, session: _Session, package: Path, measured: dict[str, str], settings: Settings) -> str:
    """The version, "" when it is made later. Raises RegistryError when MLflow refuses it."""
    tags = {
        tag_names.TAG_DATA: str(plan.dataset.path),
        tag_names.TAG_DATASET_DIGEST: plan.digest,
        tag_names.TAG_ARCHITECTURE: plan.architecture.name,
        "transect.schema": str(SCHEMA_VERSION),
        **measured,
    }
    try:
        return session.log.register(package, tags, settings.tracking_wait) or ""
    except RegistryError as error:
        raise RegistryError(f"{error} The training is not lost: its package is in {package}.") from error


def _run_folder(settings: Settings, plan: Plan) -> Path:
    """A new folder, named by date and model, under TRANSECT_HOME/train."""
    stem = f"{datetime.now().astimezone():%Y-%m-%d_%H%M%S}_{plan.architecture.name}"
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
def _termination_as_interrupt() -> Iterator[None]:
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
