"""A sweep: trials of one recipe with other settings, and the best of them registered as the candidate."""

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
from transect.tracking.run_history import History
from transect.tracking.run_log import RunLog
from transect.tracking.spool import Spool
from transect.tracking.sync import SWEEPS, sync_spools
from transect.training.config.architecture import resolve_architecture
from transect.training.config.recipe import experiment_of, load_recipe
from transect.training.pipeline import learn, package_model
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.run_metadata import run_tags
from transect.training.run_session import Session, running, termination_as_interrupt
from transect.training.sweep.config import SweepConfig, as_overrides, examples, load_sweep
from transect.training.sweep.storage import open_store
from transect.training.sweep.study import Best, SweepStudy
from transect.training.sweep.trial import (
    TAG_SWEEP,
    Result,
    Sweep,
    resume_session,
    run_trial,
    trial_folder,
    trial_plan,
)
from transect.training.trainer.checkpoints import BEST

logger = logging.getLogger(__name__)

_GO_ON = "the same command goes on where this sweep is"
_MOST_FAILURES = 3
# A trial need not wait for an MLflow that is away: the end of the sweep does, for all of them.
_TRIAL_WAIT_S = 10.0
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class SweepRequest:
    """What the user asks for.

    `config` is the sweep's file; `model`, `data`, `overrides` and `default_data` are as for a training,
    `trials` another number of trials than the file's. The sweep of this `name`, or of the name that
    follows from file and model, is begun or gone on with.
    """

    config: Path = Path("configs/sweep/wildlife.yaml")
    model: str | None = None
    data: Path | None = None
    overrides: tuple[str, ...] = ()
    trials: int | None = None
    name: str = ""
    default_data: Callable[[], Path] | None = None


@dataclass(frozen=True)
class SweepOutcome:
    """A finished sweep.

    `counts` are its trials by state (complete, pruned, failed). The best is registered as version
    `version` of `model`; `new` says whether that happened now.
    """

    name: str
    run_id: str
    folder: Path
    counts: Mapping[str, int]
    best: Best
    model: str
    version: str
    new: bool


def sweep(request: SweepRequest, settings: Settings) -> SweepOutcome:
    """Run the trials that are missing, then package and register the best, which gets the alias `candidate`.

    Everything is checked first. Every trial is an MLflow run of its own below the sweep's. What was
    killed or stopped goes on with the same request: trials that are over are not repeated, one that was
    under way goes on from its last epoch, and nothing is registered twice. Raises the class of
    transect.errors that fits: InputError for another sweep under the same name, TransectError when
    three trials in a row fail, RegistryError when MLflow lacks something at the end.
    """
    config = load_sweep(request.config, trials=request.trials, overrides=request.overrides)
    plan, base = _plan(request, config, settings)
    name = request.name or _default_name(config, plan)
    shared = Sweep(
        name=name,
        folder=_folder(name, settings),
        experiment=experiment_of(config.path),
        config=config,
        request=base,
        digest=plan.digest,
        settings=settings.model_copy(update={"tracking_wait": min(settings.tracking_wait, _TRIAL_WAIT_S)}),
    )
    study = SweepStudy(open_store(shared.folder, settings), name, config, settings.tracking_wait)
    before = History.read(Spool(shared.folder)) if Spool.exists(shared.folder) else None
    study.check(plan, before.local_id if before else "", told=bool(before and before.metrics))
    if (finished := _finished(shared, study, before, settings)) is not None:
        return finished
    provenance = read_provenance(Path.cwd())
    session = _open(shared, plan, provenance, settings, before)
    with termination_as_interrupt(), running(session, shared.experiment, settings, _GO_ON):
        study.claim(plan, session.log.local_id)
        _tell_space(session.log, config, plan)
        try:
            _run_trials(shared, study, session.log)
        finally:
            _tell_report(session, study)
        best, new = _register_best(shared, study, session.log, provenance, settings)
    _deliver_rest(shared, study, settings)
    return _outcome(shared, study, best, settings, new=new)


def _plan(request: SweepRequest, config: SweepConfig, settings: Settings) -> tuple[Plan, TrainRequest]:
    """The training that the trials vary, checked with every value at the edge of the space."""
    models = [str(name) for name in examples(config.space["model"])] if "model" in config.space else []
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
        for value in examples(distribution):
            recipe = load_recipe(config.recipe, (*request.overrides, *as_overrides({key: value})))
            try:
                check_arguments({**plan.arguments, **recipe.train})
            except InputError as error:
                raise InputError(f"{config.path}, space, {key}: {error}") from error
    # What was made or found for the first plan holds for every trial.
    return plan, replace(base, model=None if models else base.model, data=plan.dataset.path, default_data=None)


def _default_name(config: SweepConfig, plan: Plan) -> str:
    return config.path.stem if "model" in config.space else f"{config.path.stem}_{plan.architecture.name}"


def _folder(name: str, settings: Settings) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(f"--name {name!r} is not usable: take up to 100 letters, digits and _-. of them.")
    return (settings.home / SWEEPS / name).absolute()


def _open(shared: Sweep, plan: Plan, provenance: Provenance, settings: Settings, before: History | None) -> Session:
    """Begin the sweep's own run, or go on with it. Raises InputError when another process has it."""
    folder = shared.folder
    if before is not None:
        logger.info("Going on with sweep %s.", shared.name)
        return Session(folder, RunLog.resume(Spool(folder), settings, registry=plan.registry), resumed=True)
    # What a process left that was killed in the first moment.
    shutil.rmtree(folder / "spool", ignore_errors=True)
    tags = {**run_tags(plan, provenance), TAG_SWEEP: shared.name}
    try:
        return Session(folder, RunLog.start(folder, settings, shared.experiment, tags, {}, registry=plan.registry))
    except RegistryError:
        shutil.rmtree(folder / "spool", ignore_errors=True)
        raise


def _run_trials(shared: Sweep, study: SweepStudy, log: RunLog) -> None:
    wanted, failures, took = shared.config.trials, 0, list[float]()
    told: set[int] = set()
    _tell_values(log, study, told)
    while len(study.ended()) < wanted:
        began = time.monotonic()
        trial = study.next()
        logger.info("Trial %d of sweep %s: %s", trial.number, shared.name, " ".join(as_overrides(trial.params)))
        result = run_trial(trial, study, shared)
        _end(study, trial, result)
        _tell_values(log, study, told)
        _free_memory()
        took.append(time.monotonic() - began)
        _say(shared, study, trial, result, sum(took) / len(took))
        failures = failures + 1 if result.state == "failed" else 0
        if failures == _MOST_FAILURES and len(study.ended()) < wanted:
            raise TransectError(
                f"{_MOST_FAILURES} trials in a row failed, the last one because: {result.reason}. Mend that, or the "
                f"space of {shared.config.path}; the same command goes on with the next trial."
            )


def _end(study: SweepStudy, trial: Trial, result: Result) -> None:
    if result.value is not None:
        study.complete(trial, result.value)
    elif result.state == "pruned":
        study.pruned(trial)
    else:
        study.failed(trial, result.reason)


def _say(shared: Sweep, study: SweepStudy, trial: Trial, result: Result, mean_s: float) -> None:
    """One line on a trial that is over."""
    name = shared.config.value_name
    if result.value is not None:
        what = f"complete, {name} {result.value:.4f}"
    elif result.state == "pruned":
        what = f"stopped after epoch {result.epoch}, as the others were better"
    else:
        what = f"failed: {result.reason}"
    best, done = study.best(), len(study.ended())
    so_far = f"best {best.value:.4f} in trial {best.number}" if best else "none complete yet"
    left = timedelta(seconds=round(mean_s * (shared.config.trials - done)))
    logger.info(
        "Trial %d %s; %s; %d of %d done, about %s left.", trial.number, what, so_far, done, shared.config.trials, left
    )


def _free_memory() -> None:
    """Let go of the last trial's network: it hangs in cycles, and the next one needs its memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _tell_space(log: RunLog, config: SweepConfig, plan: Plan) -> None:
    from transect.training.sweep.report import sweep_params

    log.params(sweep_params(config, plan))


def _tell_values(log: RunLog, study: SweepStudy, told: set[int]) -> None:
    """Tell the value of each trial that is not `told`, and the best so far under the trials' own name for it."""
    metric, name = study.config.metric, study.config.value_name
    best: float | None = None
    for trial in study.ended():
        values: dict[str, float] = {}
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = trial.value if best is None else max(best, trial.value)
            values[f"sweep/{name}"] = trial.value
        if best is not None:
            values[metric] = best
        if values and trial.number not in told:
            log.metrics(values, trial.number)
        told.add(trial.number)


def _tell_report(session: Session, study: SweepStudy) -> None:
    from transect.training.sweep.report import write_report

    log, trials = session.log, study.ended()
    log.tags({"transect.sweep.trials": _counted(trials)})
    for path in write_report(session.folder, trials, study.study, study.config):
        log.artifact(path, "sweep")


def _register_best(
    shared: Sweep, study: SweepStudy, log: RunLog, provenance: Provenance, settings: Settings
) -> tuple[Best, bool]:
    """Package and register the best trial, unless it is; whether that happened now."""
    best = study.best()
    if best is None:
        raise TransectError(
            f"No trial of sweep {shared.name} was trained to its end, so there is nothing to register; "
            f"{shared.folder / 'trials.csv'} says why. More trials: --trials {2 * shared.config.trials}"
        )
    new = not _version(study, best, settings)
    if new:
        _package(shared, best, provenance, settings)
    spool = Spool(trial_folder(best.folder, settings))
    if spool.state.version:
        study.note_registered(best, spool.state.version)
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


def _package(shared: Sweep, best: Best, provenance: Provenance, settings: Settings) -> None:
    """Package and register a trial that was trained to its end; what MLflow does not take now waits in its spool."""
    folder = trial_folder(best.folder, settings)
    if not Spool.exists(folder) or not (folder / BEST).is_file():
        raise InputError(
            f"The weights of trial {best.number}, the best of sweep {shared.name}, are gone from {folder}; "
            "begin another sweep with --name."
        )
    logger.info("Trial %d is the best; it is packaged now.", best.number)
    plan, _ = trial_plan(best.number, best.params, shared)
    # Asked before the log is opened, which delivers at once: a package that only waits for MLflow is not made again.
    waiting = any(entry.kind == "register" for entry in Spool(folder).pending())
    session = resume_session(folder, plan, settings)
    with running(session, shared.experiment, settings, ""):
        if waiting:
            session.log.drain(settings.tracking_wait)
        else:
            package_model(plan, provenance, session, learn(plan, session), settings)


def _deliver_rest(shared: Sweep, study: SweepStudy, settings: Settings) -> None:
    """Deliver what MLflow did not take while trials ran. Raises RegistryError for what is left then."""

    def undelivered() -> list[Path]:
        folders = [trial_folder(trial.user_attrs["folder"], settings) for trial in study.ended()]
        spools = [Spool(folder) for folder in (shared.folder, *folders) if Spool.exists(folder)]
        return [spool.run_folder for spool in spools if spool.next() is not None]

    if undelivered():
        with suppress(RegistryError):
            sync_spools(settings)
    if left := undelivered():
        raise RegistryError(
            f"MLflow lacks parts of {len(left)} runs of sweep {shared.name}; they are kept on disk: deliver them with: "
            "transect runs sync"
        )


def _finished(shared: Sweep, study: SweepStudy, before: History | None, settings: Settings) -> SweepOutcome | None:
    """What came of a sweep that is over; None when something is left to do."""
    if before is None or before.status != "FINISHED" or len(study.ended()) < shared.config.trials:
        return None
    if Spool(shared.folder).next() is not None:
        return None
    best = study.best()
    if best is None or not _version(study, best, settings):
        return None
    return _outcome(shared, study, best, settings, new=False)


def _version(study: SweepStudy, best: Best, settings: Settings) -> str:
    """The version that a trial is registered as, "" while it is not."""
    return study.registered(best) or Spool(trial_folder(best.folder, settings)).state.version


def _outcome(shared: Sweep, study: SweepStudy, best: Best, settings: Settings, *, new: bool) -> SweepOutcome:
    return SweepOutcome(
        name=shared.name,
        run_id=Spool(shared.folder).state.run_id,
        folder=shared.folder,
        counts=Counter(_STATES[trial.state] for trial in study.ended()),
        best=best,
        model=settings.model_name,
        version=_version(study, best, settings),
        new=new,
    )


def _counted(trials: list[FrozenTrial]) -> str:
    counts: Counter[Any] = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {name}" for state, name in _STATES.items())
