"""The best trial of a sweep: its weights, which another worker may have trained, packaged and registered once."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from transect.errors import InputError, RegistryError, TransectError
from transect.files import atomic_write, sha256_file
from transect.registry import Registry
from transect.registry.client.connection import mlflow_errors_as
from transect.settings import Settings
from transect.tracking.delivery import TAG_LOCAL_ID
from transect.tracking.provenance import Provenance
from transect.tracking.run_log import RunLog
from transect.tracking.spool import Spool
from transect.tracking.sync import sync_spools
from transect.training.pipeline import fit, package_model
from transect.training.plan import Plan
from transect.training.run_session import Session, tracked_run
from transect.training.sweep.study import BestTrial, SweepStudy
from transect.training.sweep.trial import RUN, TRAINED, SweepContext, resume_session, trial_folder, trial_plan
from transect.training.trainer.checkpoints import BEST, write_trained
from transect.wording import count_of

logger = logging.getLogger(__name__)


def register_best(
    context: SweepContext, study: SweepStudy, sweep: Session, provenance: Provenance, settings: Settings
) -> tuple[BestTrial, bool]:
    """Package and register the best trial, unless it is registered; returns it, and whether this call did so.

    `sweep` is the sweep's own run.
    """
    best = study.best()
    if best is None:
        raise TransectError(
            f"No trial of sweep {context.name} was trained to its end, so there is nothing to register; "
            f"{sweep.folder / 'trials.csv'} has the reasons. More trials: --trials {2 * context.config.trials}"
        )
    new = not version_of(study, best, settings)
    if new:
        _package(context, best, provenance, settings)
    spool = Spool(trial_folder(best.folder, settings))
    if spool.state.version:
        study.record_registered(best, spool.state.version)
    version = version_of(study, best, settings)
    run_id = spool.state.run_id or best.attrs.get(RUN, {}).get("run_id", "")
    sweep.log.tags(
        {
            "transect.sweep.best_trial": str(best.number),
            **({"transect.sweep.best_run": run_id} if run_id else {}),
            **({"transect.sweep.version": f"{settings.model_name} {version}"} if version else {}),
            **{f"transect.sweep.best.{key}": str(value) for key, value in best.params.items()},
        }
    )
    return best, new


def version_of(study: SweepStudy, best: BestTrial, settings: Settings) -> str:
    """The version that a trial is registered as, "" while it is not."""
    return study.registered(best) or Spool(trial_folder(best.folder, settings)).state.version


def deliver_rest(name: str, folders: Sequence[Path], settings: Settings) -> None:
    """Deliver the entries of these runs that MLflow has not taken yet. Raises RegistryError when some are left."""

    def undelivered() -> list[Path]:
        spools = [Spool(folder) for folder in folders if Spool.exists(folder)]
        return [spool.run_folder for spool in spools if spool.next() is not None]

    if undelivered():
        with suppress(RegistryError):
            sync_spools(settings)
    if left := undelivered():
        raise RegistryError(
            f"MLflow lacks parts of {count_of(len(left), 'run')} of sweep {name}; they are kept on disk: "
            "deliver them with: transect runs sync"
        )


def _package(context: SweepContext, best: BestTrial, provenance: Provenance, settings: Settings) -> None:
    """Package and register a complete trial; entries that MLflow does not take now stay in its spool."""
    folder = trial_folder(best.folder, settings)
    here = Spool.exists(folder) and (folder / BEST).is_file()
    if not here and TRAINED not in best.attrs:
        raise InputError(
            f"The weights of trial {best.number}, the best of sweep {context.name}, are missing from {folder}; "
            "begin another sweep with --name."
        )
    logger.info("Trial %d is the best; it is packaged now.", best.number)
    plan, _ = trial_plan(best.number, best.params, context)
    # Read before the log is opened, which delivers at once: a package that only waits for MLflow is not built again.
    waiting = here and any(entry.kind == "register" for entry in Spool(folder).pending())
    session = resume_session(folder, plan, settings) if here else _fetched(context, best, folder, plan, settings)
    with tracked_run(session, context.experiment, settings, ""):
        if waiting:
            session.log.drain(settings.tracking_wait)
        else:
            package_model(plan, provenance, session, fit(plan, session), settings)


def _fetched(context: SweepContext, best: BestTrial, folder: Path, plan: Plan, settings: Settings) -> Session:
    """The run of another worker, continued here: its weights from MLflow, and a log of the same run.

    Raises RegistryError when MLflow is away or does not have them yet.
    """
    owner = best.attrs.get("transect.owner") or {}
    where = f"trial {best.number}, which process {owner.get('pid')} on {owner.get('host')} trained,"
    if plan.registry is None:
        raise RegistryError(f"The weights of {where} have to come from MLflow, which is away; run this again then.")
    run, trained = best.attrs[RUN], best.attrs[TRAINED]
    logger.info("The weights of %s come from MLflow.", where)
    # A process killed here before may have left a part.
    shutil.rmtree(folder / "spool", ignore_errors=True)
    found = _download(plan.registry, context.experiment, run["local_id"], folder / BEST)
    if not found or sha256_file(folder / BEST) != trained["sha256"]:
        raise RegistryError(
            f"MLflow does not have the weights of {where} in full; deliver them there with transect runs sync, and run "
            "this again."
        )
    write_trained(folder, trained["results"])
    log = RunLog.start(folder, settings, context.experiment, {}, {}, registry=plan.registry, local_id=run["local_id"])
    # Its worker has logged what a training logs: only what follows is new.
    return Session(folder, log, resumed=True)


def _download(registry: Registry, experiment: str, local_id: str, target: Path) -> bool:
    """Download the best weights of the run with this id of its own; False when MLflow does not have both."""
    client, path = registry.client, f"weights/{BEST.name}"
    with mlflow_errors_as(registry.uri, "fetching the weights of the best trial"):
        runs = client.search_runs([registry.experiment(experiment)], f"tags.`{TAG_LOCAL_ID}` = '{local_id}'")
        if not runs or path not in {info.path for info in client.list_artifacts(runs[0].info.run_id, "weights")}:
            return False
        with tempfile.TemporaryDirectory(prefix="transect-sweep-") as scratch:
            fetched = Path(client.download_artifacts(runs[0].info.run_id, path, scratch))
            atomic_write(target, fetched.read_bytes())
    return True
