"""A sweep: trials of one recipe with varied settings, of which the best is registered as the candidate."""

import gc
import logging
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState

from transect.errors import InputError, RegistryError, TransectError
from transect.settings import Settings
from transect.tracking.provenance import Provenance, read_provenance
from transect.tracking.run_history import RunHistory
from transect.tracking.run_log import RunLog
from transect.tracking.spool import Spool
from transect.tracking.sync import SWEEPS, sync_spools
from transect.training.config.architecture import resolve_architecture
from transect.training.config.recipe import experiment_of, load_recipe
from transect.training.pipeline import fit, package_model
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.run_metadata import run_tags
from transect.training.run_session import Session, termination_as_interrupt, tracked_run
from transect.training.sweep.config import SweepConfig, as_overrides, edge_values, load_sweep
from transect.training.sweep.storage import open_store
from transect.training.sweep.study import BestTrial, SweepStudy
from transect.training.sweep.trial import (
    TAG_SWEEP,
    SweepContext,
    TrialResult,
    resume_session,
    run_trial,
    trial_folder,
    trial_plan,
)
from transect.training.trainer.checkpoints import BEST
from transect.wording import count_of

logger = logging.getLogger(__name__)

_RESUME_HINT = "the same command resumes this sweep"
_MOST_FAILURES = 3
# A trial waits only briefly for an MLflow that is away: the end of the sweep waits for all of them.
_TRIAL_WAIT_S = 10.0
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """A user's request for a sweep.

    `config` is the sweep's file; `model`, `data`, `overrides` and `default_data` are as for a training.
    `trials` overrides the file's number of trials. The sweep of this `name` (default: from file and
    model) is started, or resumed if it exists.
    """

    config: Path = Path("configs/sweep/wildlife.yaml")
    model: str | None = None
    data: Path | None = None
    overrides: tuple[str, ...] = ()
    trials: int | None = None
    name: str = ""
    default_data: Callable[[], Path] | None = None


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """A finished sweep.

    `counts` are its trials by state (complete, pruned, failed). The best is registered as version
    `version` of `model`; `new` is whether this call registered it.
    """

    name: str
    run_id: str
    folder: Path
    counts: Mapping[str, int]
    best: BestTrial
    model: str
    version: str
    new: bool


def sweep(request: SweepRequest, settings: Settings) -> SweepOutcome:
    """Run the missing trials, then package and register the best, which gets the alias `candidate`.

    All inputs are checked first. Every trial is an MLflow run nested in the sweep's. The same request
    resumes a killed or stopped sweep: finished trials are not repeated, a running one resumes from its
    last epoch, and nothing is registered twice. Raises the fitting class of transect.errors: InputError
    for another sweep under the same name, TransectError when three trials in a row fail, RegistryError
    when MLflow lacks entries at the end.
    """
    config = load_sweep(request.config, trials=request.trials, overrides=request.overrides)
    plan, base = _plan(request, config, settings)
    name = request.name or _default_name(config, plan)
    context = SweepContext(
        name=name,
        folder=_folder(name, settings),
        experiment=experiment_of(config.path),
        config=config,
        request=base,
        digest=plan.digest,
        settings=settings.model_copy(update={"tracking_wait": min(settings.tracking_wait, _TRIAL_WAIT_S)}),
    )
    study = SweepStudy(open_store(context.folder, settings), name, config, settings.tracking_wait)
    before = RunHistory.read(Spool(context.folder)) if Spool.exists(context.folder) else None
    study.check(plan, before.local_id if before else "", has_values=bool(before and before.metrics))
    if (finished := _finished(context, study, before, settings)) is not None:
        return finished
    provenance = read_provenance(Path.cwd())
    session = _open(context, plan, provenance, settings, before)
    with termination_as_interrupt(), tracked_run(session, context.experiment, settings, _RESUME_HINT):
        study.record_owner(plan, session.log.local_id)
        _log_space(session.log, config, plan)
        try:
            _run_trials(context, study, session.log)
        finally:
            _log_report(session, study)
        best, new = _register_best(context, study, session.log, provenance, settings)
    _deliver_rest(context, study, settings)
    return _outcome(context, study, best, settings, new=new)


def _plan(request: SweepRequest, config: SweepConfig, settings: Settings) -> tuple[Plan, TrainRequest]:
    """The training that the trials vary, validated with every value at the edge of the space."""
    models = [str(name) for name in edge_values(config.space["model"])] if "model" in config.space else []
    if models and request.model:
        raise InputError(f"--model {request.model}: model is in the space of {config.path}; take it out of one.")
    base = TrainRequest(
        model=request.model or (models[0] if models else None),
        config=config.recipe,
        data=request.data,
        overrides=request.overrides,
        default_data=request.default_data,
        experiment=experiment_of(config.path),
    )
    plan = make_plan(base, settings)
    from transect.training.trainer.trainer import check_arguments

    for model in models:
        resolve_architecture(model)
    for key, distribution in config.space.items():
        for value in edge_values(distribution):
            recipe = load_recipe(config.recipe, (*request.overrides, *as_overrides({key: value})))
            try:
                check_arguments({**plan.arguments, **recipe.train})
            except InputError as error:
                raise InputError(f"{config.path}, space, {key}: {error}") from error
    # Every trial reuses the training set of the first plan.
    return plan, replace(base, model=None if models else base.model, data=plan.dataset.path, default_data=None)


def _default_name(config: SweepConfig, plan: Plan) -> str:
    return config.path.stem if "model" in config.space else f"{config.path.stem}_{plan.architecture.name}"


def _folder(name: str, settings: Settings) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(f"--name {name!r} is not usable: take up to 100 letters, digits and _-. of them.")
    return (settings.home / SWEEPS / name).absolute()


def _open(
    context: SweepContext, plan: Plan, provenance: Provenance, settings: Settings, before: RunHistory | None
) -> Session:
    """Start or resume the sweep's own run. Raises InputError when another process has locked it."""
    folder = context.folder
    if before is not None:
        logger.info("Resuming sweep %s.", context.name)
        return Session(folder, RunLog.resume(Spool(folder), settings, registry=plan.registry), resumed=True)
    # A process killed at the start may have left an empty spool.
    shutil.rmtree(folder / "spool", ignore_errors=True)
    tags = {**run_tags(plan, provenance), TAG_SWEEP: context.name}
    try:
        return Session(folder, RunLog.start(folder, settings, context.experiment, tags, {}, registry=plan.registry))
    except RegistryError:
        shutil.rmtree(folder / "spool", ignore_errors=True)
        raise


def _run_trials(context: SweepContext, study: SweepStudy, log: RunLog) -> None:
    wanted, failures, took = context.config.trials, 0, list[float]()
    logged: set[int] = set()
    _log_values(log, study, logged)
    while len(study.ended()) < wanted:
        began = time.monotonic()
        trial = study.next()
        logger.info("Trial %d of sweep %s: %s", trial.number, context.name, " ".join(as_overrides(trial.params)))
        result = run_trial(trial, study, context)
        _end(study, trial, result)
        _log_values(log, study, logged)
        _free_memory()
        took.append(time.monotonic() - began)
        _log_trial(context, study, trial, result, sum(took) / len(took))
        failures = failures + 1 if result.state == "failed" else 0
        if failures == _MOST_FAILURES and len(study.ended()) < wanted:
            raise TransectError(
                f"{_MOST_FAILURES} trials in a row failed, the last one because: {result.reason}. Mend that, or the "
                f"space of {context.config.path}; the same command resumes with the next trial."
            )


def _end(study: SweepStudy, trial: Trial, result: TrialResult) -> None:
    if result.value is not None:
        study.complete(trial, result.value)
    elif result.state == "pruned":
        study.pruned(trial)
    else:
        study.failed(trial, result.reason)


def _log_trial(context: SweepContext, study: SweepStudy, trial: Trial, result: TrialResult, mean_s: float) -> None:
    """Log one line about a finished trial."""
    name = context.config.value_name
    if result.value is not None:
        what = f"complete, {name} {result.value:.4f}"
    elif result.state == "pruned":
        what = f"stopped after epoch {result.epoch}, as the others were better"
    else:
        what = f"failed: {result.reason}"
    best, done = study.best(), len(study.ended())
    so_far = f"best {best.value:.4f} in trial {best.number}" if best else "none complete yet"
    left = timedelta(seconds=round(mean_s * (context.config.trials - done)))
    logger.info(
        "Trial %d %s; %s; %d of %d done, about %s left.", trial.number, what, so_far, done, context.config.trials, left
    )


def _free_memory() -> None:
    """Free the last trial's network: reference cycles keep it alive, and the next one needs its memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _log_space(log: RunLog, config: SweepConfig, plan: Plan) -> None:
    from transect.training.sweep.report import sweep_params

    log.params(sweep_params(config, plan))


def _log_values(log: RunLog, study: SweepStudy, logged: set[int]) -> None:
    """Tell the value of each trial that is not `logged`, and the best so far under the trials' own name for it."""
    metric, name = study.config.metric, study.config.value_name
    best: float | None = None
    for trial in study.ended():
        values: dict[str, float] = {}
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = trial.value if best is None else max(best, trial.value)
            values[f"sweep/{name}"] = trial.value
        if best is not None:
            values[metric] = best
        if values and trial.number not in logged:
            log.metrics(values, trial.number)
        logged.add(trial.number)


def _log_report(session: Session, study: SweepStudy) -> None:
    from transect.training.sweep.report import write_report

    log, trials = session.log, study.ended()
    log.tags({"transect.sweep.trials": _format_counts(trials)})
    for path in write_report(session.folder, trials, study.study, study.config):
        log.artifact(path, "sweep")


def _register_best(
    context: SweepContext, study: SweepStudy, log: RunLog, provenance: Provenance, settings: Settings
) -> tuple[BestTrial, bool]:
    """Package and register the best trial, unless it is registered; returns it, and whether this call did so."""
    best = study.best()
    if best is None:
        raise TransectError(
            f"No trial of sweep {context.name} was trained to its end, so there is nothing to register; "
            f"{context.folder / 'trials.csv'} has the reasons. More trials: --trials {2 * context.config.trials}"
        )
    new = not _version(study, best, settings)
    if new:
        _package(context, best, provenance, settings)
    spool = Spool(trial_folder(best.folder, settings))
    if spool.state.version:
        study.record_registered(best, spool.state.version)
    version = _version(study, best, settings)
    log.tags(
        {
            "transect.sweep.best_trial": str(best.number),
            **({"transect.sweep.best_run": spool.state.run_id} if spool.state.run_id else {}),
            **({"transect.sweep.version": f"{settings.model_name} {version}"} if version else {}),
            **{f"transect.sweep.best.{key}": str(value) for key, value in best.params.items()},
        }
    )
    return best, new


def _package(context: SweepContext, best: BestTrial, provenance: Provenance, settings: Settings) -> None:
    """Package and register a complete trial; entries that MLflow does not take now stay in its spool."""
    folder = trial_folder(best.folder, settings)
    if not Spool.exists(folder) or not (folder / BEST).is_file():
        raise InputError(
            f"The weights of trial {best.number}, the best of sweep {context.name}, are missing from {folder}; "
            "begin another sweep with --name."
        )
    logger.info("Trial %d is the best; it is packaged now.", best.number)
    plan, _ = trial_plan(best.number, best.params, context)
    # Read before the log is opened, which delivers at once: a package that only waits for MLflow is not built again.
    waiting = any(entry.kind == "register" for entry in Spool(folder).pending())
    session = resume_session(folder, plan, settings)
    with tracked_run(session, context.experiment, settings, ""):
        if waiting:
            session.log.drain(settings.tracking_wait)
        else:
            package_model(plan, provenance, session, fit(plan, session), settings)


def _deliver_rest(context: SweepContext, study: SweepStudy, settings: Settings) -> None:
    """Deliver the entries that MLflow did not take during the trials. Raises RegistryError when some are left."""

    def undelivered() -> list[Path]:
        folders = [trial_folder(trial.user_attrs["folder"], settings) for trial in study.ended()]
        spools = [Spool(folder) for folder in (context.folder, *folders) if Spool.exists(folder)]
        return [spool.run_folder for spool in spools if spool.next() is not None]

    if undelivered():
        with suppress(RegistryError):
            sync_spools(settings)
    if left := undelivered():
        raise RegistryError(
            f"MLflow lacks parts of {count_of(len(left), 'run')} of sweep {context.name}; they are kept on disk: "
            "deliver them with: transect runs sync"
        )


def _finished(
    context: SweepContext, study: SweepStudy, before: RunHistory | None, settings: Settings
) -> SweepOutcome | None:
    """The outcome of a finished sweep; None when work is left."""
    if before is None or before.status != "FINISHED" or len(study.ended()) < context.config.trials:
        return None
    if Spool(context.folder).next() is not None:
        return None
    best = study.best()
    if best is None or not _version(study, best, settings):
        return None
    return _outcome(context, study, best, settings, new=False)


def _version(study: SweepStudy, best: BestTrial, settings: Settings) -> str:
    """The version that a trial is registered as, "" while it is not."""
    return study.registered(best) or Spool(trial_folder(best.folder, settings)).state.version


def _outcome(
    context: SweepContext, study: SweepStudy, best: BestTrial, settings: Settings, *, new: bool
) -> SweepOutcome:
    return SweepOutcome(
        name=context.name,
        run_id=Spool(context.folder).state.run_id,
        folder=context.folder,
        counts=Counter(_STATES[trial.state] for trial in study.ended()),
        best=best,
        model=settings.model_name,
        version=_version(study, best, settings),
        new=new,
    )


def _format_counts(trials: list[FrozenTrial]) -> str:
    counts: Counter[Any] = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {name}" for state, name in _STATES.items())
