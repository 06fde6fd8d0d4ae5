"""The Optuna study of a sweep: its definition and owner, the trials that workers take, and the results of ended ones.

The coordinator makes all trials, which then wait; a worker takes one that waits or that its worker left. So workers
never train more trials than there are, and each trial ends once, by the worker that owns it then.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from transect.errors import InputError, TransectError
from transect.training.plan import Plan
from transect.training.sweep.config import SweepConfig
from transect.training.sweep.definition import Work, definition, difference
from transect.training.sweep.storage import STORE_ERRORS, exclusive, retry_store
from transect.training.sweep.workers import Heartbeat, Owner, Worker

_DEFINITION, _LOCAL_ID, _REGISTERED = "transect.definition", "transect.local_id", "transect.registered"
_WORK, _OWNER = "transect.work", "transect.owner"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

Value = TypeVar("Value")


@dataclass(frozen=True)
class BestTrial:
    """The trial with the greatest value. `attrs` are what its worker recorded of it."""

    number: int
    value: float
    params: Mapping[str, Any]
    folder: str
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """A trial that this worker trains. `left_by` is the worker that had begun it, None if nobody had."""

    trial: Trial
    worker: Worker
    left_by: Owner | None = None

    @property
    def certain(self) -> bool:
        """Whether nobody else trains it for certain, rather than because a heartbeat of elsewhere was not seen."""
        before, mine = self.left_by, self.worker.owner
        return before is None or before.host == mine.host or (before.coordinator and mine.coordinator)


class TakenOverError(TransectError):
    """Another worker took the trial over: this one's result does not count."""


class SweepStudy:
    """One sweep's trials. A failing store is retried for `wait` seconds.

    A study that is missing is made, except by a worker that joins (`make` is False), for which it raises InputError.
    """

    def __init__(self, storage: RDBStorage, name: str, config: SweepConfig, wait: float, *, make: bool = True) -> None:
        self.config = config
        self.name = name
        self.trials = config.trials
        self._wait = wait
        self._storage = storage
        self.study = self.retry_store(lambda: self._make() if make else self._load())

    def _make(self) -> optuna.Study:
        return optuna.create_study(
            storage=self._storage,
            study_name=self.name,
            direction="maximize",
            load_if_exists=True,
            pruner=_pruner(self.config),
        )

    def _load(self) -> optuna.Study:
        try:
            return optuna.load_study(storage=self._storage, study_name=self.name, pruner=_pruner(self.config))
        except KeyError as error:
            names = ", ".join(sorted(optuna.get_all_study_names(self._storage))) or "none"
            raise InputError(
                f"There is no sweep {self.name} to join in the store of this worker (there: {names}); begin it with "
                f"--name {self.name}, or give TRANSECT_SWEEP_STORE the address that its coordinator has."
            ) from error

    def retry_store(self, do: Callable[[], Value]) -> Value:
        """Call the store with retries; raises UnreachableError when they fail."""
        return retry_store(do, self._wait)

    def check(self, plan: Plan, local_id: str, *, has_values: bool) -> None:
        """Raise InputError when this is not the sweep that was begun under this name.

        `local_id` names the sweep's run in its folder, "" where there is none yet, and `has_values` is
        whether the run's journal holds values of trials.
        """
        known = self.retry_store(lambda: self.study.user_attrs)
        if _LOCAL_ID not in known:
            if has_values:
                raise InputError(
                    f"The trials of sweep {self.name} are missing from their store; begin another one with --name."
                )
            return
        if known[_LOCAL_ID] != local_id:
            raise InputError(
                f"Sweep {self.name} was begun in another TRANSECT_HOME, which has its weights; go on there, help it "
                f"with --join {self.name}, or begin another one with --name."
            )
        if changed := difference(known[_DEFINITION], definition(self.config, plan)):
            raise InputError(
                f"Sweep {self.name} was begun with another {changed}; take that back, or begin another one with --name."
            )

    def check_joiner(self, plan: Plan) -> None:
        """Raise InputError when the sweep of this name is not the joiner's."""
        known = self.retry_store(lambda: self.study.user_attrs)
        if changed := difference(known[_DEFINITION], definition(self.config, plan)):
            raise InputError(
                f"Sweep {self.name} has another {changed}; give this worker the coordinator's --config, --model, "
                "--data and KEY=VALUE."
            )

    def record_owner(self, plan: Plan, local_id: str) -> None:
        """Record the sweep's definition, and the run that owns it."""
        known = self.retry_store(lambda: self.study.user_attrs)
        for key, value in ((_DEFINITION, definition(self.config, plan)), (_LOCAL_ID, local_id)):
            if key not in known:
                self.retry_store(partial(self.study.set_user_attr, key, value))

    def open_work(self, work: Work) -> None:
        """Make the trials that are missing, and tell what `--join` needs to know."""
        self.retry_store(lambda: self._fill(work.trials))
        self.retry_store(partial(self.study.set_user_attr, _WORK, work.as_value()))

    def work(self) -> Work | None:
        """What the coordinator told; None as long as it told nothing."""
        return Work.read(self.retry_store(lambda: self.study.user_attrs).get(_WORK))

    def _fill(self, trials: int) -> None:
        with exclusive(self._storage, self.name):
            for _ in range(trials - len(self._trials())):
                self.study.enqueue_trial({})

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def ended(self) -> list[FrozenTrial]:
        """The finished trials, by number."""
        trials = self.retry_store(lambda: self.study.get_trials(deepcopy=False, states=_ENDED))
        return sorted(trials, key=lambda trial: trial.number)

    def left(self) -> dict[int, Owner | None]:
        """The trials of the sweep that have not ended, with their owners; trials that are not made yet too."""
        trials = {trial.number: trial for trial in self.retry_store(self._trials)}
        return {
            number: Owner.read(trials[number].user_attrs.get(_OWNER)) if number in trials else None
            for number in range(self.trials)
            if number not in trials or trials[number].state not in _ENDED
        }

    def best(self) -> BestTrial | None:
        """The complete trial with the greatest value, the earlier one of equals."""
        complete = [trial for trial in self.ended() if trial.state == TrialState.COMPLETE and trial.value is not None]
        if not complete:
            return None
        trial = max(complete, key=lambda one: (one.value, -one.number))
        attrs = dict(trial.user_attrs)
        return BestTrial(trial.number, float(trial.value or 0.0), dict(trial.params), attrs["folder"], attrs)

    def registered(self, best: BestTrial) -> str:
        """The version that a trial was registered as, "" if none; available even after its folder was removed."""
        known: dict[str, str] = self.retry_store(lambda: self.study.user_attrs).get(_REGISTERED, {})
        return known.get(str(best.number), "")

    def record_registered(self, best: BestTrial, version: str) -> None:
        """Record the version that a trial was registered as."""
        known = self.retry_store(lambda: self.study.user_attrs).get(_REGISTERED, {})
        self.retry_store(partial(self.study.set_user_attr, _REGISTERED, {**known, str(best.number): version}))

    def steps(self, trial: Trial) -> list[int]:
        """The steps of a trial that Optuna already holds."""
        return list(self.retry_store(lambda: self._trials()[trial.number]).intermediate_values)

    def claim(self, worker: Worker) -> Claim | None:
        """Take a trial: one that its worker left, or the next one that waits; with its settings.

        None when there is no such trial: then all have ended, or other workers train the rest.
        """
        if (work := self.work()) is not None:
            self.trials = work.trials
        return self.retry_store(lambda: self._claim(worker))

    def _claim(self, worker: Worker) -> Claim | None:
        with exclusive(self._storage, self.name):
            # A trial whose number the sweep has no more waits for a sweep with more trials.
            trials = [trial for trial in self._trials() if trial.number < self.trials]
            found = self._gone(worker, trials) or self._waiting(trials)
            if found is None:
                return None
            return Claim(self._begin(found, worker), worker, Owner.read(found.user_attrs.get(_OWNER)))

    def _gone(self, worker: Worker, trials: list[FrozenTrial]) -> FrozenTrial | None:
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        gone = [one for one in running if worker.is_gone(one.number, Owner.read(one.user_attrs.get(_OWNER)))]
        return gone[0] if gone else None

    def _waiting(self, trials: list[FrozenTrial]) -> FrozenTrial | None:
        for trial in trials:
            # Compares and sets: False when another worker was faster, whom a lost lock let in.
            if trial.state == TrialState.WAITING and self._storage.set_trial_state_values(
                trial._trial_id, TrialState.RUNNING
            ):
                return trial
        return None

    def _begin(self, found: FrozenTrial, worker: Worker) -> Trial:
        self._storage.set_trial_user_attr(found._trial_id, _OWNER, worker.owner.beaten().as_value())
        # One seed a trial: a resumed sweep draws the same settings as an undisturbed one.
        seed = int(np.random.SeedSequence([self.config.sampler.seed, found.number]).generate_state(1)[0])
        # Trials of other workers are running: no settings near to theirs.
        self.study.sampler = TPESampler(
            seed=seed, n_startup_trials=self.config.sampler.startup_trials, constant_liar=True
        )
        # Optuna has no public way to begin a certain trial, or to resume one. Its own forgets the others' state too.
        self.study._thread_local.cached_all_trials = None
        trial = Trial(self.study, found._trial_id)
        for name, distribution in self.config.space.items():
            _suggest(trial, name, distribution)
        return trial

    def heartbeat(self, claim: Claim) -> Heartbeat:
        """The heartbeat of a trial, to be kept up while it is trained."""
        return Heartbeat(lambda: self._renew(claim), claim.worker.watch.interval_s)

    def _renew(self, claim: Claim) -> bool:
        with exclusive(self._storage, self.name):
            owner = self._owner(claim)
            if owner is None or not claim.worker.is_mine(owner):
                return False
            self._storage.set_trial_user_attr(claim.trial._trial_id, _OWNER, owner.beaten().as_value())
            return True

    def _owner(self, claim: Claim) -> Owner | None:
        """The owner of a trial that runs, as the store has it now."""
        trial = self._storage.get_trial(claim.trial._trial_id)
        return None if trial.state in _ENDED else Owner.read(trial.user_attrs.get(_OWNER))

    def release(self, claim: Claim) -> None:
        """Give a trial back, that this or another worker may go on with at once; a store that is away costs a wait."""
        with suppress(*STORE_ERRORS), exclusive(self._storage, self.name):
            if claim.worker.is_mine(self._owner(claim)):
                self._storage.set_trial_user_attr(claim.trial._trial_id, _OWNER, None)

    def complete(self, claim: Claim, value: float) -> None:
        """End a trial with its value. Raises TakenOverError, as `pruned` and `failed` do."""
        self.retry_store(lambda: self._end(claim, TrialState.COMPLETE, value))

    def pruned(self, claim: Claim) -> None:
        """End a trial that was stopped early."""
        self.retry_store(lambda: self._end(claim, TrialState.PRUNED))

    def failed(self, claim: Claim, reason: str) -> None:
        """End a trial that failed."""
        self.retry_store(lambda: self._end(claim, TrialState.FAIL, reason=reason))

    def _end(self, claim: Claim, state: TrialState, value: float | None = None, reason: str = "") -> None:
        with exclusive(self._storage, self.name):
            found = self._storage.get_trial(claim.trial._trial_id)
            owner = Owner.read(found.user_attrs.get(_OWNER))
            if not claim.worker.is_mine(owner):
                raise TakenOverError(
                    f"Trial {found.number} of sweep {self.name} was taken over by {owner or 'nobody yet'}, whose "
                    "result counts."
                )
            if found.state in _ENDED:
                # An answer of the store was lost.
                return
            if reason:
                self._storage.set_trial_user_attr(found._trial_id, "reason", reason)
            self.study.tell(found.number, value, state=state)

    def set_attr(self, trial: Trial, key: str, value: Any) -> None:
        """Store an attribute of a trial."""
        self.retry_store(lambda: trial.set_user_attr(key, value))


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """The trial's value of this setting, drawn if it has none."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
    assert isinstance(distribution, optuna.distributions.FloatDistribution)  # noqa: S101 - a sweep has no other
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _pruner(config: SweepConfig) -> BasePruner:
    if config.pruner.kind == "none":
        return NopPruner()
    return MedianPruner(n_startup_trials=config.pruner.startup_trials, n_warmup_steps=config.pruner.warmup_epochs)
