"""The Optuna study of a sweep: its definition and owner, the next trial, and the results of finished ones."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution, distribution_to_json
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from transect.errors import InputError
from transect.training.plan import Plan
from transect.training.sweep.config import SweepConfig
from transect.training.sweep.storage import retry_store

_DEFINITION, _OWNER, _REGISTERED = "transect.definition", "transect.local_id", "transect.registered"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class BestTrial:
    """The trial with the greatest value."""

    number: int
    value: float
    params: Mapping[str, Any]
    folder: str


class SweepStudy:
    """One sweep's trials. A failing store is retried for `wait` seconds."""

    def __init__(self, storage: RDBStorage, name: str, config: SweepConfig, wait: float) -> None:
        self.config = config
        self.name = name
        self._wait = wait
        self.study = self.retry_store(
            lambda: optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                pruner=_pruner(config),
            )
        )

    def retry_store(self, do: Callable[[], Any]) -> Any:
        """Call the store with retries; raises UnreachableError when they fail."""
        return retry_store(do, self._wait)

    def check(self, plan: Plan, local_id: str, *, has_values: bool) -> None:
        """Raise InputError when this is not the sweep that was begun under this name.

        `local_id` names the sweep's run in its folder, "" where there is none yet, and `has_values` is
        whether the run's journal holds values of trials.
        """
        known = self.retry_store(lambda: self.study.user_attrs)
        if _OWNER not in known:
            if has_values:
                raise InputError(
                    f"The trials of sweep {self.name} are missing from their store; begin another one with --name."
                )
            return
        if known[_OWNER] != local_id:
            raise InputError(
                f"Sweep {self.name} was begun in another TRANSECT_HOME, which has its weights; go on there, or begin "
                "another one with --name."
            )
        if changed := _difference(known[_DEFINITION], _definition(self.config, plan)):
            raise InputError(
                f"Sweep {self.name} was begun with another {changed}; take that back, or begin another one with --name."
            )

    def record_owner(self, plan: Plan, local_id: str) -> None:
        """Record the sweep's definition, and the run that owns it."""
        known = self.retry_store(lambda: self.study.user_attrs)
        for key, value in ((_DEFINITION, _definition(self.config, plan)), (_OWNER, local_id)):
            if key not in known:
                self.retry_store(partial(self.study.set_user_attr, key, value))

    def ended(self) -> list[FrozenTrial]:
        """The finished trials, by number."""
        trials: list[FrozenTrial] = self.retry_store(lambda: self.study.get_trials(deepcopy=False, states=_ENDED))
        return sorted(trials, key=lambda trial: trial.number)

    def best(self) -> BestTrial | None:
        """The complete trial with the greatest value, the earlier one of equals."""
        complete = [trial for trial in self.ended() if trial.state == TrialState.COMPLETE and trial.value is not None]
        if not complete:
            return None
        trial = max(complete, key=lambda one: (one.value, -one.number))
        return BestTrial(trial.number, float(trial.value or 0.0), dict(trial.params), trial.user_attrs["folder"])

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
        found: FrozenTrial = self.retry_store(lambda: self.study.get_trials(deepcopy=False)[trial.number])
        return list(found.intermediate_values)

    def next(self) -> Trial:
        """The trial that a killed process left running, or a new one; with its settings."""
        found: Trial = self.retry_store(self._next)
        return found

    def _next(self) -> Trial:
        left = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        number = left[0].number if left else len(self.study.get_trials(deepcopy=False))
        # One seed a trial: a resumed sweep draws the same settings as an undisturbed one.
        seed = int(np.random.SeedSequence([self.config.sampler.seed, number]).generate_state(1)[0])
        self.study.sampler = TPESampler(seed=seed, n_startup_trials=self.config.sampler.startup_trials)
        # Optuna has no public way to resume a trial.
        trial = Trial(self.study, left[0]._trial_id) if left else self.study.ask()
        for name, distribution in self.config.space.items():
            _suggest(trial, name, distribution)
        return trial

    def complete(self, trial: Trial, value: float) -> None:
        """End a trial with its value."""
        self.retry_store(lambda: self.study.tell(trial.number, value, skip_if_finished=True))

    def pruned(self, trial: Trial) -> None:
        """End a trial that was stopped early."""
        self.retry_store(lambda: self.study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True))

    def failed(self, trial: Trial, reason: str) -> None:
        """End a trial that failed."""
        self.set_attr(trial, "reason", reason)
        self.retry_store(lambda: self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True))

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


def _definition(config: SweepConfig, plan: Plan) -> dict[str, Any]:
    """The settings under which the values of trials are comparable, independent of trials, sampler and pruner."""
    recipe = {"train": plan.recipe.train, "pretrained": plan.weights.kind}
    return {
        "metric": config.metric,
        "space": {key: distribution_to_json(one) for key, one in config.space.items()},
        "recipe": json.loads(json.dumps(recipe)),
        "model": "" if "model" in config.space else plan.architecture.name,
        "training set": plan.digest,
    }


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first change, as a phrase; empty when there is none."""
    for name, value in now.items():
        if before.get(name) == value:
            continue
        if name == "space":
            keys = sorted(key for key in {*before[name], *value} if before[name].get(key) != value.get(key))
            return f"space ({', '.join(keys)})"
        if name == "recipe":
            return f"recipe ({', '.join(_keys(before[name], value))})"
        if name == "training set":
            return f"training set (digest {before[name][:12]}, and now {value[:12]})"
        return f"{name} ({before[name]}, and now {value})"
    return ""


def _keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old, new = (
        {**before["train"], "pretrained": before["pretrained"]},
        {**now["train"], "pretrained": now["pretrained"]},
    )
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
