"""The whole training: plan, run, evaluate, package, register; told to MLflow truthfully."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transect.engine import MODEL_FILE, SCHEMA_VERSION, read_manifest
from transect.errors import InputError, RegistryError
from transect.registry import CensusBasis, build_package
from transect.registry.client import names as tag_names
from transect.settings import Settings
from transect.tracking.provenance import Provenance, read_provenance
from transect.tracking.run_log import RunLog
from transect.training import run_metadata as record
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.run_session import Session, log_files, log_pictures, log_tables, log_weights, open_session

if TYPE_CHECKING:
    from transect.training.trainer.trainer import Trained

TAG_BATCH_USED, TAG_BATCH_REDUCED = "transect.batch_used", "transect.batch_reduced"

# Gets the numbers of an epoch, counted from 1.
EpochListener = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainOutcome:
    """What a training came to.

    `metrics` (precision, recall, mAP50, mAP50-95) and `per_class` are of the test split, measured by
    our engine on the exported model; of a training that was not to be evaluated they are Ultralytics'
    on the validation split, and `per_class` is empty. `version` is "" where none was to be registered.
    `weights_used` is what training started from: ultralytics, starter, checkpoint, file or none.
    `variants` says in one sentence each what was measured of the faster variants, and which of them
    are in the package.
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
    `request.until` says how far all this goes.
    """
    return train_plan(make_plan(request, settings), request, settings)


def train_plan(
    plan: Plan, request: TrainRequest, settings: Settings, *, judge: Callable[[RunLog], None] | None = None
) -> TrainOutcome:
    """As `train`, with the plan of `request` made already; `judge` gets the log before the run ends."""
    provenance = read_provenance(Path.cwd())
    with open_session(request, plan, provenance, settings) as session:
        trained = learn(plan, session)
        if request.until == "trained":
            log_files(session.log, session.folder)
            log_weights(session.log, session.folder)
            outcome = _outcome(plan, session, settings, trained.val)
        else:
            register = request.until == "registered"
            outcome = package_model(plan, provenance, session, trained, settings, register=register)
        if judge is not None:
            judge(session.log)
    spool = session.log.spool
    if request.until == "registered" and not spool.state.version:
        raise RegistryError(f"MLflow did not register the model: {'; '.join(spool.state.rejected)}.")
    # Both may have come while the log was closed.
    return replace(outcome, run_id=spool.state.run_id, version=spool.state.version)


def learn(plan: Plan, session: Session, listener: EpochListener = lambda *_: None) -> "Trained":
    """Train, and log what the best weights are worth on the validation split.

    `listener` is called when an epoch has been told and its checkpoint is not written yet; what it raises ends the
    training.
    """
    from transect.training.trainer.trainer import Listeners, run_training

    log = session.log
    if not session.resumed:
        record.log_start(log, plan, session.folder)

    def epoch(number: int, values: dict[str, float]) -> None:
        log.metrics(values, step=number)
        listener(number, values)

    listeners = Listeners(
        started=lambda arguments: log.params(record.configuration(plan, arguments)),
        epoch=epoch,
        reduced=lambda batch, sentence: log.tags({TAG_BATCH_REDUCED: sentence, TAG_BATCH_USED: str(batch)}),
    )
    try:
        trained = run_training(plan.dataset, plan.arguments, session.folder, listeners, session.checkpoint)
    except RuntimeError as error:
        if (explained := _explained(str(error))) is None:
            raise
        raise explained from error
    log.tags({TAG_BATCH_USED: str(trained.batch), "transect.epochs_run": str(trained.epochs)})
    log.metrics({f"best/{name}": value for name, value in trained.val.items()}, step=trained.epochs)
    return trained


def _explained(said: str) -> InputError | None:
    """What the user can do about what torch or Ultralytics said, if that is known."""
    if "out of memory" in said.lower():
        return InputError("Training ran out of memory; give a smaller batch or imgsz, such as: batch=8 imgsz=512.")
    if "NaN" in said:
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
    from transect.training.packaging.variant_benchmark import TrialModel, make_variants

    log, folder = session.log, session.folder
    # On their way while the model is exported and evaluated.
    log_pictures(log, folder)
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
    found = evaluate_model(plan.dataset, settings, plan.background, **package)
    warn_of_difference(found.val, trained.val)
    report = make_variants(
        TrialModel.describe(folder, **package, conf=found.conf),
        plan.dataset,
        plan.recipe.precision,
        settings,
        known={found.backend: found.val},
    )
    metrics = record.headline(found.test)
    per_class = {name: values.metrics() for name, values in found.test.per_class.items()}
    final = {**record.final_metrics(found.test), **record.background_metrics(found.background), **report.metrics()}
    log.metrics(final, step=trained.epochs)
    log.tags(report.tags())
    log_tables(log, folder)
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
        profile=found.profile,
        background_counts=found.background,
    )
    tags = {
        tag_names.TAG_MAP50: f"{metrics['mAP50']:.4f}",
        tag_names.TAG_MAP50_95: f"{metrics['mAP50-95']:.4f}",
        tag_names.TAG_PRECISIONS: ", ".join(("fp32", *(variant.precision for variant in report.passed))),
        "transect.image_size": str(trained.image_size),
    }
    version = _register(plan, session, built, tags, settings) if register else ""
    outcome = _outcome(plan, session, settings, metrics)
    return replace(outcome, version=version, per_class=per_class, variants=report.sentences)


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
    """The version, "" when it is made later. Raises RegistryError when MLflow refuses it."""
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
