"""A sweep: trials of one recipe with varied settings, of which the best is registered as the candidate."""

import logging
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from transect.errors import InputError, RegistryError
from transect.settings import Settings
from transect.tracking.provenance import read_provenance
from transect.tracking.run_history import RunHistory
from transect.tracking.run_log import RunLog
from transect.tracking.spool import Spool
from transect.tracking.sync import SWEEPS
from transect.training.config.architecture import resolve_architecture
from transect.training.config.recipe import experiment_of, load_recipe
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.run_metadata import run_tags
from transect.training.run_session import Session, termination_as_interrupt, tracked_run
from transect.training.sweep.best import deliver_rest, register_best, version_of
from transect.training.sweep.config import SweepConfig, as_overrides, edge_values, load_sweep
from transect.training.sweep.definition import Work
from transect.training.sweep.loop import run_trials
from transect.training.sweep.storage import open_store
from transect.training.sweep.study import BestTrial, SweepStudy
from transect.training.sweep.trial import TAG_SWEEP, SweepContext, trial_folder
from transect.training.sweep.workers import at_work

logger = logging.getLogger(__name__)

_RESUME_HINT = "the same command resumes this sweep"
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
    plan, base = plan_trials(request, config, settings)
    name = request.name or _default_name(config, plan)
    folder = sweep_folder(name, settings)
    context = SweepContext(
        name=name,
        folder=folder,
        experiment=experiment_of(config.path),
        config=config,
        request=base,
        digest=plan.digest,
        settings=trial_settings(settings),
    )
    study = SweepStudy(open_store(folder, settings), name, config, settings.tracking_wait)
    before = RunHistory.read(Spool(folder)) if Spool.exists(folder) else None
    study.check(plan, before.local_id if before else "", has_values=bool(before and before.metrics))
    if (finished := _finished(name, folder, study, before, settings)) is not None:
        return finished
    provenance = read_provenance(Path.cwd())
    session = _open(context, folder, plan, settings, before)
    with termination_as_interrupt(), tracked_run(session, context.experiment, settings, _RESUME_HINT):
        study.record_owner(plan, session.log.local_id)
        _log_space(session.log, config, plan)
        work = Work.of(config, plan, provenance, experiment=context.experiment, stale_s=settings.sweep_stale_seconds)
        try:
            with at_work(folder, work.stale_s, coordinator=True) as worker:
                run_trials(context, study, worker, _Reporter(session.log, study, work).report)
        finally:
            _log_report(session, study)
        best, new = register_best(context, study, session, provenance, settings)
    folders = [trial_folder(trial.user_attrs["folder"], settings) for trial in study.ended()]
    deliver_rest(name, [folder, *folders], settings)
    return _outcome(name, folder, study, best, settings, new=new)


def trial_settings(settings: Settings) -> Settings:
    """The settings of the trials."""
    return settings.model_copy(update={"tracking_wait": min(settings.tracking_wait, _TRIAL_WAIT_S)})


def plan_trials(request: SweepRequest, config: SweepConfig, settings: Settings) -> tuple[Plan, TrainRequest]:
    """The training that the trials vary, validated with every value at the edge of the space; and its request."""
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


def sweep_folder(name: str, settings: Settings) -> Path:
    """The folder of a sweep. Raises InputError for a name that is none."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(f"--name {name!r} is not usable: take up to 100 letters, digits and _-. of them.")
    return (settings.home / SWEEPS / name).absolute()


def _open(context: SweepContext, folder: Path, plan: Plan, settings: Settings, before: RunHistory | None) -> Session:
    """Start or resume the sweep's own run. Raises InputError when another process has locked it."""
    if before is not None:
        logger.info("Resuming sweep %s.", context.name)
        return Session(folder, RunLog.resume(Spool(folder), settings, registry=plan.registry), resumed=True)
    # A process killed at the start may have left an empty spool.
    shutil.rmtree(folder / "spool", ignore_errors=True)
    tags = {**run_tags(plan, read_provenance(Path.cwd())), TAG_SWEEP: context.name}
    try:
        return Session(folder, RunLog.start(folder, settings, context.experiment, tags, {}, registry=plan.registry))
    except RegistryError:
        shutil.rmtree(folder / "spool", ignore_errors=True)
        raise


def _log_space(log: RunLog, config: SweepConfig, plan: Plan) -> None:
    from transect.training.sweep.report import sweep_params

    log.params(sweep_params(config, plan))


@dataclass
class _Reporter:
    """Tells the run of the sweep its values, and the joiners of the run."""

    log: RunLog
    study: SweepStudy
    work: Work
    logged: int = 0
    told: str | None = None

    def report(self) -> None:
        """Report what has changed."""
        # MLflow may create the run later.
        if self.told != self.log.run_id:
            self.told = self.log.run_id
            self.study.open_work(replace(self.work, run_id=self.told))
        self._log_values()

    def _log_values(self) -> None:
        """Log the value of each trial, and the best so far under the trials' own name for it.

        By number, and only up to the first trial that has not ended: another worker may end it later, and the best so
        far is then what it would have been with one worker.
        """
        metric, name = self.study.config.metric, self.study.config.value_name
        best: float | None = None
        for number, trial in enumerate(self.study.ended()):
            if trial.number != number:
                break
            values: dict[str, float] = {}
            if trial.state == TrialState.COMPLETE and trial.value is not None:
                best = trial.value if best is None else max(best, trial.value)
                values[f"sweep/{name}"] = trial.value
            if best is not None:
                values[metric] = best
            if values and number >= self.logged:
                self.log.metrics(values, number)
            self.logged = max(self.logged, number + 1)


def _log_report(session: Session, study: SweepStudy) -> None:
    from transect.training.sweep.report import write_report

    log, trials = session.log, study.ended()
    log.tags({"transect.sweep.trials": _format_counts(trials)})
    for path in write_report(session.folder, trials, study.study, study.config):
        log.artifact(path, "sweep")


def _finished(
    name: str, folder: Path, study: SweepStudy, before: RunHistory | None, settings: Settings
) -> SweepOutcome | None:
    """The outcome of a finished sweep; None when work is left."""
    if before is None or before.status != "FINISHED" or study.left():
        return None
    if Spool(folder).next() is not None:
        return None
    best = study.best()
    if best is None or not version_of(study, best, settings):
        return None
    return _outcome(name, folder, study, best, settings, new=False)


def _outcome(
    name: str, folder: Path, study: SweepStudy, best: BestTrial, settings: Settings, *, new: bool
) -> SweepOutcome:
    return SweepOutcome(
        name=name,
        run_id=Spool(folder).state.run_id,
        folder=folder,
        counts=Counter(_STATES[trial.state] for trial in study.ended()),
        best=best,
        model=settings.model_name,
        version=version_of(study, best, settings),
        new=new,
    )


def _format_counts(trials: list[FrozenTrial]) -> str:
    counts: Counter[Any] = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {name}" for state, name in _STATES.items())
