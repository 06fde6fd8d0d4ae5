"""One trial of a sweep: a training that may be pruned, and resumes after a kill."""

import logging
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from optuna.trial import Trial

from transect.errors import InputError, RegistryError, TransectError
from transect.files import sha256_file
from transect.registry import Registry
from transect.registry.client.connection import mlflow_errors_as
from transect.settings import Settings
from transect.tracking.provenance import read_provenance
from transect.tracking.run_history import RunHistory
from transect.tracking.run_log import RunLog
from transect.tracking.spool import Spool
from transect.training.pipeline import fit
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.resume import UnfinishedRun, checkpoint_of
from transect.training.run_session import Session, log_files, log_weights, start_run, tracked_run
from transect.training.sweep.config import SweepConfig, as_overrides
from transect.training.sweep.storage import STORE_ERRORS
from transect.training.sweep.study import Claim, SweepStudy, TakenOverError
from transect.training.sweep.workers import Heartbeat
from transect.training.trainer.checkpoints import BEST, COMPLETE, LAST, read_trained
from transect.wording import one_line

logger = logging.getLogger(__name__)

TAG_PARENT = "mlflow.parentRunId"
TAG_SWEEP, TAG_TRIAL = "transect.sweep", "transect.sweep.trial"
TAG_STATE, TAG_REASON = "transect.sweep.state", "transect.sweep.reason"
SUPERSEDED = "superseded"
# What the study has of a trial's run, by which another worker finds its weights.
RUN, TRAINED = "run", "trained"
_KILLED_AFTER = "deaths"
_MOST_KILLS = 3
_DEFAULT_EPOCHS = 100

EndState = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class SweepContext:
    """The common context of a sweep's trials: its name, the folder of its run, the training that each varies.

    `digest` is that of the training set, which must not change between trials. `folder` is None for a worker that
    joined; its trials are nested by `parent`, MLflow's id of the sweep's run.
    """

    name: str
    folder: Path | None
    experiment: str
    config: SweepConfig
    request: TrainRequest
    digest: str
    settings: Settings
    parent: str = ""


@dataclass(frozen=True)
class TrialResult:
    """The end of a trial: with a `value`, pruned after `epoch`, or failed for a `reason`."""

    state: EndState
    value: float | None = None
    epoch: int = 0
    reason: str = ""


class _PrunedError(Exception):
    """The trial is pruned: others were better at this epoch."""


class _TrialError(TransectError):
    """The trial has failed, although its training still runs."""


def run_trial(claim: Claim, study: SweepStudy, sweep: SweepContext, heartbeat: Heartbeat) -> TrialResult:
    """Train with the settings of the trial, or resume it where a killed process left it.

    Any exception in the training itself makes the trial failed. An exception before it (a changed
    training set, an MLflow that refuses access) is raised, and the trial can be resumed. Raises TakenOverError when
    another worker has the trial by now.
    """
    trial = claim.trial
    folder = _folder(claim, study, sweep)
    if (known := _ended(trial, folder, sweep.config)) is not None:
        _record_trained(trial, study, folder, sweep.settings)
        return known
    plan, request = trial_plan(trial.number, trial.params, sweep)
    _record_kill(claim, study, folder)
    session = _session(folder, request, plan, sweep)
    if not session.resumed:
        _supersede(trial, plan, session)
    _record_run(trial, study, session)
    try:
        with tracked_run(session, sweep.experiment, sweep.settings, ""):
            result = _train(claim, study, plan, session, sweep.config, heartbeat=heartbeat)
    except TakenOverError:
        raise
    except Exception as error:  # noqa: BLE001 - one training that fails, in whatever way, must not end the others
        result = TrialResult("failed", reason=_reason(error))
    _record_run(trial, study, session)
    _record_trained(trial, study, folder, sweep.settings)
    return result


def trial_plan(number: int, params: Mapping[str, object], sweep: SweepContext) -> tuple[Plan, TrainRequest]:
    """The training of a trial. Raises InputError when the training set is not the sweep's any more."""
    request = replace(
        sweep.request,
        overrides=(*sweep.request.overrides, *as_overrides(params)),
        until="trained",
        run_tags={
            TAG_SWEEP: sweep.name,
            TAG_TRIAL: str(number),
            **({} if sweep.folder else {TAG_PARENT: sweep.parent}),
        },
        experiment=sweep.experiment,
    )
    plan = make_plan(request, sweep.settings)
    if plan.digest != sweep.digest:
        raise InputError(
            f"The training set {plan.dataset.path} changed while sweep {sweep.name} ran; bring it back, or begin "
            "another sweep with --name."
        )
    return plan, request


def trial_folder(name: str, settings: Settings) -> Path:
    """The folder of a trial's run."""
    return (settings.home / "train" / name).absolute()


def resume_session(folder: Path, plan: Plan, settings: Settings) -> Session:
    """Resume the run in `folder` from its last complete epoch, or from its start."""
    spool = Spool(folder)
    run = UnfinishedRun(folder, spool, RunHistory.read(spool))
    checkpoint = None
    if not run.trained:
        if any((folder / name).is_file() for name in (COMPLETE, LAST)):
            checkpoint = checkpoint_of(run, plan)
        else:
            shutil.rmtree(folder / LAST.parent, ignore_errors=True)
            (folder / "results.csv").unlink(missing_ok=True)
    log = RunLog.resume(spool, settings, registry=plan.registry)
    return Session(folder, log, resumed=run.trained or checkpoint is not None, checkpoint=checkpoint)


def _train(
    claim: Claim, study: SweepStudy, plan: Plan, session: Session, config: SweepConfig, *, heartbeat: Heartbeat
) -> TrialResult:
    log, trial = session.log, claim.trial
    try:
        _refuse_repeated_kills(trial)
        # What another worker reported of the same epochs is of its own training.
        reported = study.steps(trial) if session.resumed else []
        reporter = _EpochReporter(trial, reported, plan, config, heartbeat=heartbeat)
        trained = fit(plan, session, reporter.epoch)
        result = _valued(trained.val[config.value_name], config)
    except _PrunedError:
        result = TrialResult("pruned", epoch=_epochs_logged(session.folder))
    except KeyboardInterrupt:
        log.tags({TAG_STATE: "stopped"})
        raise
    except TakenOverError as error:
        log.tags({TAG_STATE: SUPERSEDED, TAG_REASON: str(error)})
        raise
    except Exception as error:
        log.tags({TAG_STATE: "failed", TAG_REASON: _reason(error)})
        raise
    log.tags({TAG_STATE: result.state, **({TAG_REASON: result.reason} if result.reason else {})})
    log_files(log, session.folder)
    log_weights(log, session.folder)
    return result


def _folder(claim: Claim, study: SweepStudy, sweep: SweepContext) -> Path:
    """The folder of the trial's run, recorded in the study before it is created.

    A new one where the trial was begun under another TRANSECT_HOME, whose checkpoints are not here, or on another
    machine, which may only have lost the store and still write there.
    """
    trial = claim.trial
    name = trial.user_attrs.get("folder")
    if name is None or not trial_folder(name, sweep.settings).is_dir() or not claim.certain:
        name = f"{datetime.now().astimezone():%Y-%m-%d_%H%M%S}_{sweep.name}-{trial.number:03d}"
        study.set_attr(trial, "folder", name)
    return trial_folder(name, sweep.settings)


def _ended(trial: Trial, folder: Path, config: SweepConfig) -> TrialResult | None:
    """The result of a trial whose process was killed before it reported to Optuna; None when it did not end."""
    if not Spool.exists(folder):
        return None
    status = RunHistory.read(Spool(folder)).status
    if status == "FAILED":
        return TrialResult("failed", reason=str(trial.user_attrs.get("reason", "see its run")))
    if status != "FINISHED":
        return None
    trained = read_trained(folder)
    if trained is None:
        return TrialResult("pruned", epoch=_epochs_logged(folder))
    return _valued(trained["val"][config.value_name], config)


def _valued(value: float, config: SweepConfig) -> TrialResult:
    if not math.isfinite(value):
        return TrialResult("failed", reason=f"{config.metric} is {value}")
    return TrialResult("complete", value=value)


def _session(folder: Path, request: TrainRequest, plan: Plan, sweep: SweepContext) -> Session:
    if Spool.exists(folder):
        session = resume_session(folder, plan, sweep.settings)
        logger.info("Resuming %s.", folder)
        return session
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}; set TRANSECT_HOME.") from error
    provenance = read_provenance(Path.cwd())
    return start_run(request, plan, provenance, sweep.settings, folder=folder, nested_in=sweep.folder)


def _record_run(trial: Trial, study: SweepStudy, session: Session) -> None:
    """Record the trial's run: by its own id, and by MLflow's once it has one."""
    known = {"local_id": session.log.local_id, "run_id": session.log.run_id}
    if trial.user_attrs.get(RUN) != known:
        study.set_attr(trial, RUN, known)


def _record_trained(trial: Trial, study: SweepStudy, folder: Path, settings: Settings) -> None:
    """Record the end of a training for the worker that packages it, which may be on another machine."""
    best, trained = folder / BEST, read_trained(folder)
    if trained is not None and best.is_file():
        where = {"home": str(settings.home.absolute()), "sha256": sha256_file(best)}
        study.set_attr(trial, TRAINED, {**where, "results": trained})


def _supersede(trial: Trial, plan: Plan, session: Session) -> None:
    """Mark the run of a worker that is gone, as far as MLflow answers: this one takes its place."""
    before = trial.user_attrs.get(RUN, {}).get("run_id", "")
    if before and plan.registry is not None and before != session.log.run_id:
        mark_superseded(plan.registry, before)


def mark_superseded(registry: Registry, run_id: str) -> None:
    """Mark a trial's run as one whose result does not count, and end it; a warning where MLflow does not take that."""
    try:
        with mlflow_errors_as(registry.uri, f"marking run {run_id}"):
            registry.client.set_tag(run_id, TAG_STATE, SUPERSEDED)
            if registry.client.get_run(run_id).info.status == "RUNNING":
                registry.client.set_terminated(run_id, "KILLED")
    except RegistryError as error:
        logger.warning("%s It is not marked as superseded.", error)


def _record_kill(claim: Claim, study: SweepStudy, folder: Path) -> None:
    """Record the epoch in which the trial's process was killed, if it was."""
    trial = claim.trial
    if Spool.exists(folder):
        epochs = -1 if RunHistory.read(Spool(folder)).status else _epochs_logged(folder)
    else:
        # Its worker gave the trial back, or was killed elsewhere, in the epoch after those that it reported.
        epochs = -1 if claim.left_by is None else len(study.steps(trial))
    if epochs >= 0:
        study.set_attr(trial, _KILLED_AFTER, [*trial.user_attrs.get(_KILLED_AFTER, []), epochs])


def _refuse_repeated_kills(trial: Trial) -> None:
    """Raise _TrialError when the trial's process was killed repeatedly in one epoch, as for lack of memory."""
    kills = trial.user_attrs.get(_KILLED_AFTER, [])
    if kills and kills.count(kills[-1]) >= _MOST_KILLS:
        raise _TrialError(f"its process was killed {_MOST_KILLS} times after epoch {kills[-1]}")


def _epochs_logged(folder: Path) -> int:
    return max((step for name, step in RunHistory.read(Spool(folder)).metrics if name == "train/loss"), default=0)


class _EpochReporter:
    """Reports each epoch's metric to Optuna; values that its store did not take are reported with the next epoch."""

    def __init__(
        self, trial: Trial, reported: Iterable[int], plan: Plan, config: SweepConfig, *, heartbeat: Heartbeat
    ) -> None:
        self._trial = trial
        self._heartbeat = heartbeat
        self._metric = f"metrics/{config.value_name}"
        self._epochs = int(plan.arguments.get("epochs", _DEFAULT_EPOCHS))
        self._reported = set(reported)
        self._waiting: dict[int, float] = {}
        self._in_trouble = False

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Report the metrics of an epoch, counted from 1. Raises _PrunedError, _TrialError or TakenOverError."""
        if self._heartbeat.lost:
            raise TakenOverError(f"Trial {self._trial.number} was taken over by another worker, whose result counts.")
        for name in ("train/loss", self._metric):
            if not math.isfinite(values[name]):
                raise _TrialError(f"{name} is {values[name]} in epoch {number}")
        # Optuna counts from 0.
        if number - 1 not in self._reported:
            self._waiting[number - 1] = values[self._metric]
        try:
            behind = self._report() and number < self._epochs
        except STORE_ERRORS as error:
            if not self._in_trouble:
                logger.warning("The trials' store does not answer (%s); the training continues.", one_line(error))
            self._in_trouble = True
            return
        self._in_trouble = False
        if behind:
            raise _PrunedError

    def _report(self) -> bool:
        """Report the pending values; returns whether to prune."""
        for step in sorted(self._waiting):
            self._trial.report(self._waiting[step], step)
            self._reported.add(step)
            del self._waiting[step]
        return self._trial.should_prune()


def _reason(error: Exception) -> str:
    line = one_line(error)
    return line if isinstance(error, TransectError) else f"{type(error).__name__}: {line}"
