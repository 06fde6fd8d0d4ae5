"""A worker that joins a sweep: it takes trials of a study that a coordinator holds, and registers nothing."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from transect.errors import InputError, UnreachableError
from transect.registry import Registry
from transect.registry.client.connection import mlflow_errors_as, redact_uri
from transect.registry.client.queries import run_or_none
from transect.settings import Settings
from transect.tracking.provenance import read_provenance
from transect.training.plan import Plan
from transect.training.run_session import termination_as_interrupt
from transect.training.sweep.best import deliver_rest
from transect.training.sweep.config import SweepConfig, load_sweep
from transect.training.sweep.definition import Work
from transect.training.sweep.loop import run_trials
from transect.training.sweep.run import SweepRequest, plan_trials, sweep_folder, trial_settings
from transect.training.sweep.storage import open_store, store_file
from transect.training.sweep.study import SweepStudy
from transect.training.sweep.trial import SweepContext, trial_folder
from transect.training.sweep.workers import at_work, machine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JoinOutcome:
    """What a worker did: the trials that it ended, and how many the sweep has."""

    name: str
    trials: tuple[int, ...]
    total: int


def join_sweep(request: SweepRequest, settings: Settings) -> JoinOutcome:
    """Train trials of the sweep `request.name` until all have ended; those of workers that die meanwhile too.

    Trials, sampler and pruner are the coordinator's. Everything else must be the same here, and is checked before the
    first trial. Raises the fitting class of transect.errors: InputError for a sweep that is missing, that lies in a
    file that this machine does not share, or that is another than this worker's, UnreachableError when MLflow is away,
    TransectError when three trials in a row fail, RegistryError when MLflow lacks entries at the end.
    """
    config = load_sweep(request.config, overrides=request.overrides)
    name = request.name
    folder = sweep_folder(name, settings)
    study, work = _find(name, folder, config, settings)
    plan, base = plan_trials(request, config, settings)
    study.check_joiner(plan)
    if foreign := work.foreign(plan, read_provenance(Path.cwd())):
        raise InputError(f"Sweep {name} has another {foreign}; give this worker the same.")
    _check_run(name, work, plan, settings)
    context = SweepContext(
        name=name,
        folder=None,
        experiment=work.experiment,
        config=study.config,
        request=replace(base, experiment=work.experiment),
        digest=plan.digest,
        settings=trial_settings(settings),
        parent=work.run_id,
    )
    logger.info("Joining sweep %s (run %s).", name, work.run_id)
    numbers: list[int] = []
    try:
        with termination_as_interrupt(), at_work(folder, work.stale_s, coordinator=False) as worker:
            numbers = run_trials(context, study, worker)
    except KeyboardInterrupt:
        logger.info("Stopped; other workers go on with its trial, and the same command joins again.")
        raise
    mine = [trial for trial in study.ended() if trial.number in numbers]
    deliver_rest(name, [trial_folder(trial.user_attrs["folder"], settings) for trial in mine], settings)
    return JoinOutcome(name, tuple(numbers), study.trials)


def _find(name: str, folder: Path, config: SweepConfig, settings: Settings) -> tuple[SweepStudy, Work]:
    """The study that a coordinator began, and what it told its joiners."""
    if not settings.sweep_store and not store_file(folder).is_file():
        raise InputError(
            f"There is no sweep {name} to join: TRANSECT_SWEEP_STORE is empty and {store_file(folder)} does not exist; "
            "a worker on the coordinator's machine needs its TRANSECT_HOME, one on another machine the same "
            "TRANSECT_SWEEP_STORE as the coordinator."
        )
    storage = open_store(folder, settings)
    work = SweepStudy(storage, name, config, settings.tracking_wait, make=False).work()
    if work is None:
        raise InputError(
            f"Sweep {name} is not open to other workers: its coordinator has not begun, or is an older Transect; begin "
            "it there, then join."
        )
    if not settings.sweep_store and work.machine != machine():
        raise InputError(
            f"Sweep {name} runs on another machine and is kept in {store_file(folder)}, an SQLite file, which machines "
            "cannot share; begin a sweep with TRANSECT_SWEEP_STORE, a PostgreSQL, and join that."
        )
    return SweepStudy(storage, name, work.applied(config), settings.tracking_wait, make=False), work


def _check_run(name: str, work: Work, plan: Plan, settings: Settings) -> None:
    """Raise an error when the weights and the runs of this worker's trials would not reach the coordinator."""
    registry: Registry | None = plan.registry
    if registry is None:
        raise UnreachableError(
            f"MLflow is away, and through it the coordinator of sweep {name} gets the weights of this worker; join "
            "when it is back."
        )
    if not work.run_id:
        raise InputError(f"Sweep {name} has no run in MLflow yet, which was away when it began; join when it has one.")
    with mlflow_errors_as(registry.uri, f"looking up run {work.run_id}"):
        found = run_or_none(registry.client, work.run_id)
    if found is None:
        raise InputError(
            f"MLflow at {redact_uri(settings.store_uri)} has no run {work.run_id} of sweep {name}; give this worker "
            "the coordinator's MLFLOW_TRACKING_URI."
        )
