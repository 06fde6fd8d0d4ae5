"""What a sweep is: the settings that make its trials comparable, and the work that its workers share."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from optuna.distributions import distribution_to_json

from transect import __version__
from transect.tracking.provenance import Provenance
from transect.training.plan import Plan
from transect.training.sweep.config import Pruner, Sampler, SweepConfig
from transect.training.sweep.workers import machine

# Programs whose versions decide the value of a trial.
_PROGRAMS = ("torch", "ultralytics")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the coordinator tells its joiners, beside the definition.

    `run_id` is MLflow's id of the sweep's run, "" while MLflow lacks it; `weights` the SHA-256 of the starting
    weights; `machine` the coordinator's; `stale_s` how long a heartbeat is watched.
    """

    trials: int
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    experiment: str
    run_id: str
    weights: str
    versions: dict[str, str]
    machine: str
    stale_s: float

    @classmethod
    def of(cls, config: SweepConfig, plan: Plan, provenance: Provenance, *, experiment: str, stale_s: float) -> "Work":
        """The work of a coordinator, whose run MLflow has not created yet."""
        return cls(
            trials=config.trials,
            sampler=config.sampler.model_dump(),
            pruner=config.pruner.model_dump(),
            experiment=experiment,
            run_id="",
            weights=plan.weights.sha256,
            versions=versions_of(provenance),
            machine=machine(),
            stale_s=stale_s,
        )

    @classmethod
    def read(cls, value: Any) -> "Work | None":
        """The work in an attribute; None where an older version wrote none."""
        return cls(**value) if isinstance(value, Mapping) else None

    def as_value(self) -> dict[str, Any]:
        """The value of the attribute."""
        return asdict(self)

    def applied(self, config: SweepConfig) -> SweepConfig:
        """A joiner's configuration with the coordinator's trials, sampler and pruner."""
        return replace(config, trials=self.trials, sampler=Sampler(**self.sampler), pruner=Pruner(**self.pruner))

    def foreign(self, plan: Plan, provenance: Provenance) -> str:
        """What a joiner has in another version than the coordinator, as a phrase; empty when nothing differs."""
        for name, mine in versions_of(provenance).items():
            if (theirs := self.versions.get(name)) != mine:
                return f"version of {name} ({theirs}, and here {mine})"
        if plan.weights.sha256 != self.weights:
            return f"file of starting weights (SHA-256 {self.weights[:12] or 'none'}, and here " + (
                f"{plan.weights.sha256[:12] or 'none'})"
            )
        return ""


def versions_of(provenance: Provenance) -> dict[str, str]:
    """The versions that all workers of a sweep have in common; a build for a CPU or a GPU is the same version."""
    known = {name: provenance.versions.get(name, "none").partition("+")[0] for name in _PROGRAMS}
    return {"transect": __version__, **known}


def definition(config: SweepConfig, plan: Plan) -> dict[str, Any]:
    """The settings under which the values of trials are comparable, independent of trials, sampler and pruner."""
    recipe = {"train": plan.recipe.train, "pretrained": plan.weights.kind}
    return {
        "metric": config.metric,
        "space": {key: distribution_to_json(one) for key, one in config.space.items()},
        "recipe": json.loads(json.dumps(recipe)),
        "model": "" if "model" in config.space else plan.architecture.name,
        "training set": plan.digest,
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
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
