"""One trial of a sweep: a training of its own, which may be stopped early, and is gone on with after a kill."""

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from optuna.trial import Trial

from transect.errors import InputError, TransectError
from transect.settings import Settings
from transect.tracking.provenance import read_provenance
from transect.tracking.run_history import History
from transect.tracking.run_log import RunLog
from transect.tracking.spool import Spool
from transect.training.pipeline import learn
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.resume import Unfinished, checkpoint_of
from transect.training.run_session import Session, begin, log_files, log_weights, running
from transect.training.sweep.config import SweepConfig, as_overrides
from transect.training.sweep.storage import TROUBLE
from transect.training.sweep.study import SweepStudy
from transect.training.trainer.checkpoints import COMPLETE, LAST, read_trained

logger = logging.getLogger(__name__)

TAG_SWEEP, TAG_TRIAL = "transect.sweep", "transect.sweep.trial"
TAG_STATE, TAG_REASON = "transect.sweep.state", "transect.sweep.reason"
_DEATHS = "deaths"
_MOST_DEATHS = 3
_DEFAULT_EPOCHS = 100

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Sweep:
    """What the trials of a sweep share: its name, the folder of its run, the training that each varies.

    `digest` is that of the training set, which no trial may see changed.
    """

    name: str
    folder: Path
    experiment: str
    config: SweepConfig
    request: TrainRequest
    digest: str
    settings: Settings


@dataclass(frozen=True)
class Result:
    """How a trial ended: with a `value`, stopped after `epoch`, or failed for a `reason`."""

    state: State
    value: float | None = None
    epoch: int = 0
    reason: str = ""


class _PrunedError(Exception):
    """The others were better at this epoch."""


class _TrialError(TransectError):
    """A training that goes on and leads nowhere."""


def run_trial(trial: Trial, study: SweepStudy, sweep: Sweep) -> Result:
    """Train with the settings of `trial`, or go on with that where a killed process left it.

    Whatever goes wrong in the training itself is a failed trial; what goes wrong before it (a training
    set that changed, an MLflow that refuses us) is raised, and the trial can be gone on with.
    """
    folder = _folder(trial, study, sweep)
    if (known := _ended(trial, folder, sweep.config)) is not None:
        return known
    plan, request = trial_plan(trial.number, trial.params, sweep)
    _count_death(trial, study, folder)
    session = _session(folder, request, plan, sweep)
    try:
        with running(session, sweep.experiment, sweep.settings, ""):
            return _train(trial, study, plan, session, sweep.config)
    except Exception as error:  # noqa: BLE001 - one training that fails, in whatever way, must not end the others
        return Result("failed", reason=_reason(error))


def trial_plan(number: int, params: Mapping[str, object], sweep: Sweep) -> tuple[Plan, TrainRequest]:
    """The training of a trial. Raises InputError when the training set is not the sweep's any more."""
    request = replace(
        sweep.request,
        overrides=(*sweep.request.overrides, *as_overrides(params)),
        until="trained",
        run_tags={TAG_SWEEP: sweep.name, TAG_TRIAL: str(number)},
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
    """Go on with the run in `folder` from the last epoch that is whole, or from its start."""
    spool = Spool(folder)
    run = Unfinished(folder, spool, History.read(spool))
    checkpoint = None
    if not run.trained:
        if any((folder / name).is_file() for name in (COMPLETE, LAST)):
            checkpoint = checkpoint_of(run, plan)
        else:
            shutil.rmtree(folder / LAST.parent, ignore_errors=True)
            (folder / "results.csv").unlink(missing_ok=True)
    log = RunLog.resume(spool, settings, registry=plan.registry)
    return Session(folder, log, resumed=run.trained or checkpoint is not None, checkpoint=checkpoint)


def _train(trial: Trial, study: SweepStudy, plan: Plan, session: Session, config: SweepConfig) -> Result:
    log = session.log
    try:
        _refuse_dead(trial)
        trained = learn(plan, session, _Reports(trial, study, plan, config).epoch)
        result = _valued(trained.val[config.value_name], config)
    except _PrunedError:
        result = Result("pruned", epoch=_epochs_told(session.folder))
    except KeyboardInterrupt:
        log.tags({TAG_STATE: "stopped"})
        raise
    except Exception as error:
        log.tags({TAG_STATE: "failed", TAG_REASON: _reason(error)})
        raise
    log.tags({TAG_STATE: result.state, **({TAG_REASON: result.reason} if result.reason else {})})
    log_files(log, session.folder)
    log_weights(log, session.folder)
    return result


def _folder(trial: Trial, study: SweepStudy, sweep: Sweep) -> Path:
    """The folder of the trial's run, which is noted before anything is in it."""
    name = trial.user_attrs.get("folder")
    if name is None:
        name = f"{datetime.now().astimezone():%Y-%m-%d_%H%M%S}_{sweep.name}-{trial.number:03d}"
        study.note(trial, "folder", name)
    return trial_folder(name, sweep.settings)


def _ended(trial: Trial, folder: Path, config: SweepConfig) -> Result | None:
    """How a trial ended whose process was killed before it told Optuna; None when it did not end."""
    if not Spool.exists(folder):
        return None
    status = History.read(Spool(folder)).status
    if status == "FAILED":
        return Result("failed", reason=str(trial.user_attrs.get("reason", "its run says why")))
    if status != "FINISHED":
        return None
    trained = read_trained(folder)
    if trained is None:
        return Result("pruned", epoch=_epochs_told(folder))
    return _valued(trained["val"][config.value_name], config)


def _valued(value: float, config: SweepConfig) -> Result:
    if not math.isfinite(value):
        return Result("failed", reason=f"{config.metric} is {value}")
    return Result("complete", value=value)


def _session(folder: Path, request: TrainRequest, plan: Plan, sweep: Sweep) -> Session:
    if Spool.exists(folder):
        session = resume_session(folder, plan, sweep.settings)
        logger.info("Going on with %s.", folder)
        return session
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}; set TRANSECT_HOME.") from error
    provenance = read_provenance(Path.cwd())
    return begin(request, plan, provenance, sweep.settings, folder=folder, nested_in=sweep.folder)


def _count_death(trial: Trial, study: SweepStudy, folder: Path) -> None:
    """Note in which epoch the trial's process was killed, if it was."""
    if Spool.exists(folder) and not History.read(Spool(folder)).status:
        study.note(trial, _DEATHS, [*trial.user_attrs.get(_DEATHS, []), _epochs_told(folder)])


def _refuse_dead(trial: Trial) -> None:
    """Raise _TrialError when its process was killed again and again in one epoch: too little memory does that."""
    deaths = trial.user_attrs.get(_DEATHS, [])
    if deaths and deaths.count(deaths[-1]) >= _MOST_DEATHS:
        raise _TrialError(f"its process was killed {_MOST_DEATHS} times after epoch {deaths[-1]}")


def _epochs_told(folder: Path) -> int:
    return max((step for name, step in History.read(Spool(folder)).metrics if name == "train/loss"), default=0)


class _Reports:
    """Tells Optuna each epoch's number; what its store does not take now, it gets with the next epoch."""

    def __init__(self, trial: Trial, study: SweepStudy, plan: Plan, config: SweepConfig) -> None:
        self._trial = trial
        self._metric = f"metrics/{config.value_name}"
        self._epochs = int(plan.arguments.get("epochs", _DEFAULT_EPOCHS))
        self._told = set(study.steps(trial))
        self._waiting: dict[int, float] = {}
        self._in_trouble = False

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Take the numbers of an epoch, counted from 1. Raises _PrunedError or _TrialError."""
        for name in ("train/loss", self._metric):
            if not math.isfinite(values[name]):
                raise _TrialError(f"{name} is {values[name]} in epoch {number}")
        # Optuna counts from 0.
        if number - 1 not in self._told:
            self._waiting[number - 1] = values[self._metric]
        try:
            behind = self._report() and number < self._epochs
        except TROUBLE as error:
            if not self._in_trouble:
                logger.warning("The trials' store does not answer (%s); the training goes on.", _line(error))
            self._in_trouble = True
            return
        self._in_trouble = False
        if behind:
            raise _PrunedError

    def _report(self) -> bool:
        """Tell what waits, and ask whether to stop."""
        for step in sorted(self._waiting):
            self._trial.report(self._waiting[step], step)
            self._told.add(step)
            del self._waiting[step]
        return self._trial.should_prune()


def _reason(error: Exception) -> str:
    line = _line(error)
    return line if isinstance(error, TransectError) else f"{type(error).__name__}: {line}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
