"""The training pipeline: plan, train, evaluate, package, register; all of it tracked in MLflow."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from transect.engine import MODEL_FILE, SCHEMA_VERSION, read_manifest
from transect.errors import InputError, RegistryError
from transect.registry import CensusBasis, ExportedModel, ModelMeasurements, PackageOrigin, build_package
from transect.registry.client import names as tag_names
from transect.settings import Settings
from transect.tracking.provenance import Provenance, read_provenance
from transect.tracking.run_log import RunLog
from transect.training import run_metadata
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.run_session import Session, log_files, log_pictures, log_tables, log_weights, open_session

if TYPE_CHECKING:
    from transect.training.trainer.trainer import Trained

TAG_BATCH_USED, TAG_BATCH_REDUCED = "transect.batch_used", "transect.batch_reduced"

# Called with the number of an epoch, counted from 1, and its metrics.
EpochCallback = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """The result of a training.

    `metrics` (precision, recall, mAP50, mAP50-95) and `per_class` are of the test split, measured by
    our engine on the exported model. Without the stage "evaluated" they are Ultralytics' on the
    validation split, and `per_class` is empty. `version` is "" without the stage "registered".
    `weights_used` is the kind of starting weights: ultralytics, starter, checkpoint, file or none.
    `variants` has one sentence for each faster variant: its measurements, and whether the package has it.
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

    All inputs are checked first: bad input raises the fitting class of transect.errors and leaves
    MLflow as it was. The run ends FINISHED, FAILED or, when interrupted, KILLED; weights, results
    and the package stay in the run's folder in every case. Entries that MLflow did not take stay in
    the run's spool: RegistryError is raised at the end, and `sync_spools` delivers them.
    `request.until` is the last stage.
    """
    return train_plan(make_plan(request, settings), request, settings)


def train_plan(
    plan: Plan, request: TrainRequest, settings: Settings, *, before_end: Callable[[RunLog], None] | None = None
) -> TrainOutcome:
    """As `train`, with the plan of `request`; `before_end` is called with the log before the run ends."""
    provenance = read_provenance(Path.cwd())
    with open_session(request, plan, provenance, settings) as session:
        trained = fit(plan, session)
        if request.until == "trained":
            log_files(session.log, session.folder)
            log_weights(session.log, session.folder)
            outcome = _outcome(plan, session, settings, trained.val)
        else:
            register = request.until == "registered"
            outcome = package_model(plan, provenance, session, trained, settings, register=register)
        if before_end is not None:
            before_end(session.log)
    spool = session.log.spool
    if request.until == "registered" and not spool.state.version:
        raise RegistryError(f"MLflow did not register the model: {'; '.join(spool.state.rejected)}.")
    # Both may have been delivered while the log was closed.
    return replace(outcome, run_id=spool.state.run_id, version=spool.state.version)


def fit(plan: Plan, session: Session, on_epoch: EpochCallback = lambda *_: None) -> "Trained":
    """Train, and log the metrics of the best weights on the validation split.

    `on_epoch` is called after the metrics of an epoch are journalled and before its checkpoint is written; what it
    raises ends the training.
    """
    from transect.training.trainer.trainer import TrainingCallbacks, run_training

    log = session.log
    if not session.resumed:
        run_metadata.log_start(log, plan, session.folder)

    def epoch(number: int, values: dict[str, float]) -> None:
        log.metrics(values, step=number)
        on_epoch(number, values)

    callbacks = TrainingCallbacks(
        started=lambda arguments: log.params(run_metadata.configuration(plan, arguments)),
        epoch=epoch,
        reduced=lambda batch, sentence: log.tags({TAG_BATCH_REDUCED: sentence, TAG_BATCH_USED: str(batch)}),
    )
    try:
        trained = run_training(plan.dataset, plan.arguments, session.folder, callbacks, session.checkpoint)
    except RuntimeError as error:
        if (explained := _explain_failure(str(error))) is None:
            raise
        raise explained from error
    log.tags({TAG_BATCH_USED: str(trained.batch), "transect.epochs_run": str(trained.epochs)})
    log.metrics({f"best/{name}": value for name, value in trained.val.items()}, step=trained.epochs)
    return trained


def _explain_failure(message: str) -> InputError | None:
    """The advice for a known failure of torch or Ultralytics, else None."""
    if "out of memory" in message.lower():
        return InputError("Training ran out of memory; give a smaller batch or imgsz, such as: batch=8 imgsz=512.")
    if "NaN" in message:
        return InputError(
            "The loss became NaN or infinite and stayed so; give a smaller learning rate or other numbers, such as: "
            "lr0=0.0005 amp=false."
        )
    return None


def package_model(
    plan: Plan,
    provenance: Provenance,
    session: Session,
    trained: "Trained",
    settings: Settings,
    *,
    register: bool = True,
) -> TrainOutcome:
    """Export, evaluate on the test split, make the faster variants, package and, with `register`, register."""
    from transect.training.packaging.evaluation import evaluate_model, warn_of_difference
    from transect.training.packaging.onnx_export import export_onnx
    from transect.training.packaging.variant_benchmark import DraftPackage, make_variants

    log, folder = session.log, session.folder
    # Delivered while the model is exported and evaluated.
    log_pictures(log, folder)
    onnx = folder / MODEL_FILE
    export_onnx(trained.best, onnx, trained.image_size, plan.recipe.head)
    model = ExportedModel(
        onnx=onnx,
        weights=trained.best,
        names=plan.dataset.names,
        image_size=trained.image_size,
        stride=trained.stride,
        head_kind=plan.recipe.head,
        architecture=plan.architecture.name,
        iou=plan.recipe.iou,
    )
    found = evaluate_model(model, plan.dataset, settings, plan.background)
    warn_of_difference(found.val, trained.val)
    report = make_variants(
        DraftPackage.of(model, found.conf),
        plan.dataset,
        plan.recipe.precision,
        settings,
        known={found.backend: found.val},
    )
    metrics = run_metadata.headline(found.test)
    per_class = {name: values.metrics() for name, values in found.test.per_class.items()}
    final = {
        **run_metadata.final_metrics(found.test),
        **run_metadata.background_metrics(found.background),
        **report.metrics(),
    }
    log.metrics(final, step=trained.epochs)
    log.tags(report.tags())
    log_tables(log, folder)
    # A killed process may have left a partial package.
    shutil.rmtree(folder / "package", ignore_errors=True)
    measured = ModelMeasurements(
        conf=found.conf,
        metrics=found.test.metrics(),
        class_metrics=per_class,
        variants=report.passed,
        validation_counts=found.counts,
        background_counts=found.background,
        profile=found.profile,
    )
    built = build_package(folder / "package", model, measured, _origin(plan, provenance, log.run_id))
    tags = {
        tag_names.TAG_MAP50: f"{metrics['mAP50']:.4f}",
        tag_names.TAG_MAP50_95: f"{metrics['mAP50-95']:.4f}",
        tag_names.TAG_PRECISIONS: ", ".join(("fp32", *(variant.precision for variant in report.passed))),
        "transect.image_size": str(trained.image_size),
    }
    version = _register(plan, session, built, tags, settings) if register else ""
    outcome = _outcome(plan, session, settings, metrics)
    return replace(outcome, version=version, per_class=per_class, variants=report.sentences)


def _origin(plan: Plan, provenance: Provenance, run_id: str) -> PackageOrigin:
    return PackageOrigin(
        training_gsd_m=plan.recipe.training_gsd_m,
        dataset_name=plan.dataset.name,
        dataset_digest=plan.digest,
        git_commit=provenance.git_commit,
        git_dirty=provenance.git_dirty,
        versions=provenance.versions,
        run_id=run_id,
    )


def _outcome(plan: Plan, session: Session, settings: Settings, metrics: dict[str, float]) -> TrainOutcome:
    return TrainOutcome(
        run_id=session.log.run_id,
        name=settings.model_name,
        version="",
        metrics=metrics,
        per_class={},
        weights_used=plan.weights.kind,
        run_dir=session.folder,
    )


def _register(plan: Plan, session: Session, package: Path, measured: dict[str, str], settings: Settings) -> str:
    """Register the package; returns the version, "" when MLflow is away. Raises RegistryError when MLflow refuses."""
    tags = {
        tag_names.TAG_DATA: str(plan.dataset.path),
        tag_names.TAG_DATASET_DIGEST: plan.digest,
        tag_names.TAG_ARCHITECTURE: plan.architecture.name,
        "transect.schema": str(SCHEMA_VERSION),
        tag_names.TAG_CENSUS_BASIS: str(CensusBasis.of(read_manifest(package))),
        **measured,
    }
    try:
        return session.log.register(package, tags, settings.tracking_wait) or ""
    except RegistryError as error:
        raise RegistryError(f"{error} The training is not lost: its package is in {package}.") from error
