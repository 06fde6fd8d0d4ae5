"""The whole training: plan, run, evaluate, package, register; told to MLflow truthfully."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from transect.engine import MODEL_FILE, SCHEMA_VERSION
from transect.errors import InputError, RegistryError
from transect.registry import ModelVersion, build_package
from transect.registry import names as tag_names
from transect.settings import Settings
from transect.training import record
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.provenance import Provenance, read_provenance
from transect.training.runtime import logged_to
from transect.training.tracking import RunLog, RunStatus, summarise

logger = logging.getLogger(__name__)


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
    and the package stay in the run's folder in every case.
    """
    plan = make_plan(request, settings)
    provenance = read_provenance(Path.cwd())
    folder = _run_folder(settings, plan)
    experiment = plan.registry.experiment(plan.recipe.experiment)
    log = RunLog.start(plan.registry.client, experiment, folder.name, record.run_tags(plan, provenance))
    logger.info("MLflow run %s in experiment %s; files in %s", log.run_id, plan.recipe.experiment, folder)
    status: RunStatus = "FAILED"
    try:
        with _termination_as_interrupt(), logged_to(folder / "ultralytics.log"):
            outcome = _run(plan, provenance, log, folder, settings)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        unlogged = log.finish(status)
        if unlogged:
            logger.warning("MLflow did not take: %s. The numbers are kept in %s.", summarise(unlogged), folder)
    return outcome


def _run(plan: Plan, provenance: Provenance, log: RunLog, folder: Path, settings: Settings) -> TrainOutcome:
    from transect.training.evaluation import evaluate_model, warn_of_difference
    from transect.training.export import export_onnx
    from transect.training.trials import TrialModel, make_variants

    record.log_start(log, plan, folder)
    trained = _train(plan, log, folder)
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
    for path in record.plots(folder):
        log.artifact(path, "plots")
    for name in ("results.csv", "args.yaml", "ultralytics.log"):
        log.artifact(folder / name, "training")
    log.flush()
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
    version = _register(plan, log, built, tags)
    return TrainOutcome(
        run_id=log.run_id,
        name=version.name,
        version=version.version,
        metrics=metrics,
        per_class=per_class,
        weights_used=plan.weights.kind,
        run_dir=folder,
        variants=report.sentences,
    )


def _train(plan: Plan, log: RunLog, folder: Path) -> Any:
    from transect.training.trainer import Listeners, run_training

    listeners = Listeners(
        started=lambda arguments: log.params(record.configuration(plan, arguments)),
        epoch=lambda number, values: log.metrics(values, step=number),
    )
    try:
        trained = run_training(plan.dataset, plan.arguments, folder, listeners)
    except RuntimeError as error:
        if "out of memory" not in str(error).lower():
            raise
        raise InputError(
            "Training ran out of memory; give a smaller batch or imgsz, such as: batch=8 imgsz=512."
        ) from error
    # Ultralytics halves the batch when memory runs out in the first epoch; parameters cannot be changed then.
    log.tags({"transect.batch_used": str(trained.batch), "transect.epochs_run": str(trained.epochs)})
    return trained


def _register(plan: Plan, log: RunLog, package: Path, measured: dict[str, str]) -> ModelVersion:
    tags = {
        tag_names.TAG_DATA: str(plan.dataset.path),
        tag_names.TAG_DATASET_DIGEST: plan.digest,
        tag_names.TAG_ARCHITECTURE: plan.architecture.name,
        "transect.schema": str(SCHEMA_VERSION),
        **measured,
    }
    try:
        return plan.registry.register(package, log.run_id, tags=tags)
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
