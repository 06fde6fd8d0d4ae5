"""The configuration of a sweep: a YAML file with its search space and metric, validated key by key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ConfigDict, Field, field_validator

from transect.config_files import YamlMapping, read_yaml_mapping
from transect.config_models import ConfigModel, check
from transect.errors import InputError
from transect.training.config.recipe import TRAIN_KEYS, load_recipe, override_key, refuse_unknown

# A training's metrics of its best weights on the validation split.
METRICS = ("best/mAP50-95", "best/mAP50", "best/precision", "best/recall")
# The recipe's keys that affect the trained model, and the architecture.
SPACE_KEYS = TRAIN_KEYS - {"plots", "save_period", "time", "workers"} | {"model"}
_KINDS = frozenset({"uniform", "log_uniform", "int", "choice"})
_A_SWEEP = "a sweep"


class Sampler(ConfigModel):
    """The sampler of settings: `startup_trials` at random, the rest by TPE (tree-structured Parzen estimator)."""

    model_config = ConfigDict(strict=True)

    seed: int = Field(default=0, ge=0)
    startup_trials: int = Field(default=10, ge=1)


class Pruner(ConfigModel):
    """The pruner, which stops trials early.

    `median`: those whose best epoch so far is below the median of the others at that epoch, once
    `startup_trials` are complete, and not in a trial's first `warmup_epochs`. `none`: no trial.
    """

    model_config = ConfigDict(strict=True)

    kind: Literal["median", "none"] = "median"
    startup_trials: int = Field(default=5, ge=1)
    warmup_epochs: int = Field(default=10, ge=0)


class _SweepFile(ConfigModel):
    """The file. `recipe` and `space` are checked by load_sweep, whose errors show an example of what is missing."""

    model_config = ConfigDict(strict=True)

    recipe: Any = None
    space: Any = None
    trials: int = Field(default=20, ge=1)
    metric: str = METRICS[0]
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()

    @field_validator("metric")
    @classmethod
    def _is_of_the_validation_split(cls, metric: str) -> str:
        known = ", ".join(METRICS)
        if metric.startswith("test/"):
            raise ValueError(
                f"the test split has to stay unseen until a model is chosen; give one of {known}, of the validation "
                "split"
            )
        if metric not in METRICS:
            raise ValueError(f"no sweep can maximise it; give one of {known}")
        return metric


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A sweep: its base recipe, its search space, and its objective.

    `metric` is one of METRICS, and is maximised.
    """

    path: Path
    recipe: Path
    space: Mapping[str, BaseDistribution]
    trials: int
    metric: str
    sampler: Sampler
    pruner: Pruner

    @property
    def value_name(self) -> str:
        """The metric without its prefix, such as mAP50-95."""
        return self.metric.removeprefix("best/")


def load_sweep(path: Path, *, trials: int | None = None, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep; `trials` overrides the file's number of trials, `overrides` are fixed keys of the recipe.

    The recipe is validated with both ends of every range and with every choice. Raises InputError for a
    missing or malformed file, an unknown key (with the nearest right one), an invalid range, a
    value that the recipe refuses, or an override of a key in the search space.
    """
    document = read_yaml_mapping(path, InputError, "Sweep", "configs/sweep holds one")
    file = check(_SweepFile, document, InputError, _A_SWEEP)
    if not isinstance(file.recipe, str):
        problem = f"{path} names no recipe to start from, such as recipe: configs/train/wildlife.yaml"
        raise InputError(document.placed(problem, "recipe"))
    space = _space(document, path)
    if trials is not None and trials < 1:
        raise InputError(f"trials={trials} is not usable: give 1 or more.")
    for override in overrides:
        if (key := override_key(override)) in space:
            raise InputError(f"{override}: {key} is in the space of {path}, which searches it; take it out of one.")
    config = SweepConfig(
        path=path,
        recipe=Path(file.recipe),
        space=space,
        trials=file.trials if trials is None else trials,
        metric=file.metric,
        sampler=file.sampler,
        pruner=file.pruner,
    )
    _check_edge_values(config, overrides)
    return config


def as_overrides(params: Mapping[str, Any]) -> tuple[str, ...]:
    """A trial's settings as overrides of the recipe."""
    return tuple(
        f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}" for key, value in params.items()
    )


def _space(document: YamlMapping, path: Path) -> dict[str, BaseDistribution]:
    section = document.get("space")
    if not isinstance(section, dict) or not section:
        problem = f"{path} has no space to search, such as space: {{lr0: {{log_uniform: [0.0003, 0.02]}}}}"
        raise InputError(document.placed(problem, "space"))
    refuse_unknown(document, ("space",), SPACE_KEYS, f"{path}, space", "a training recipe that a sweep can search")
    found = {}
    for key, spec in section.items():
        where = f"{path}, space, {key}"
        if isinstance(spec, dict):
            refuse_unknown(document, ("space", key), _KINDS | {"step"}, where, _A_SWEEP)
        try:
            found[key] = _distribution(spec, where)
        except InputError as error:
            raise InputError(document.placed(str(error), "space", key)) from error
    return found


def _distribution(spec: Any, where: str) -> BaseDistribution:
    if not isinstance(spec, dict) or len(_KINDS & spec.keys()) != 1:
        raise InputError(
            f"{where}: give one of uniform: [LOW, HIGH], log_uniform: [LOW, HIGH], int: [LOW, HIGH], choice: [...]."
        )
    (kind,) = _KINDS & spec.keys()
    if "step" in spec and kind != "int":
        raise InputError(f"{where}: step goes with int alone.")
    if kind == "choice":
        return _choice(spec[kind], where)
    low, high = _range(kind, spec[kind], where)
    if kind == "int":
        step = spec.get("step", 1)
        if isinstance(step, bool) or not isinstance(step, int) or step < 1 or (high - low) % step:
            raise InputError(f"{where}: step={step!r} does not lead from {low} to {high}.")
        return IntDistribution(int(low), int(high), step=step)
    if kind == "log_uniform" and low <= 0:
        raise InputError(f"{where}: log_uniform: [{low}, {high}] must begin above 0.")
    return FloatDistribution(low, high, log=kind == "log_uniform")


def _range(kind: str, spec: Any, where: str) -> tuple[float, float]:
    ends = [_number(value) for value in spec] if isinstance(spec, list) else []
    whole = kind == "int"
    if len(ends) != 2 or any(end is None or not isfinite(end) or (whole and end % 1) for end in ends):
        kinds = "two whole numbers" if whole else "two numbers"
        raise InputError(f"{where}: {kind}: {spec!r} is no range: give {kinds}, such as {kind}: [1, 5].")
    low, high = (float(end or 0) for end in ends)
    if not low < high:
        raise InputError(f"{where}: {kind}: {spec!r} is empty: the first number must be the smaller one.")
    return low, high


def _number(value: Any) -> float | None:
    """A number, also one such as 1e-4, which YAML 1.1 parses as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _choice(spec: Any, where: str) -> CategoricalDistribution:
    values = spec if isinstance(spec, list) else []
    if len(values) < 2 or not all(isinstance(value, bool | int | float | str) for value in values):
        raise InputError(f"{where}: choice: {spec!r} is no choice: give a list of two or more words or numbers.")
    if len(set(map(repr, values))) != len(values):
        raise InputError(f"{where}: choice: {spec!r} names something twice.")
    numbers = [_number(value) if isinstance(value, str) else None for value in values]
    return CategoricalDistribution(
        [value if number is None else number for value, number in zip(values, numbers, strict=True)]
    )


def edge_values(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Both ends of a range, or every choice."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 - `_distribution` makes no other
    return distribution.low, distribution.high


def describe_distribution(distribution: BaseDistribution) -> str:
    """A distribution in the syntax of the file."""
    if isinstance(distribution, CategoricalDistribution):
        return f"choice: {list(distribution.choices)}"
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 - `_distribution` makes no other
    if isinstance(distribution, IntDistribution):
        step = f", step: {distribution.step}" if distribution.step > 1 else ""
        return f"int: [{distribution.low}, {distribution.high}]{step}"
    return f"{'log_uniform' if distribution.log else 'uniform'}: [{distribution.low}, {distribution.high}]"


def _check_edge_values(config: SweepConfig, overrides: Sequence[str]) -> None:
    """Validate the recipe with every value at the edge of the space."""
    load_recipe(config.recipe, overrides)
    for key, distribution in config.space.items():
        for value in edge_values(distribution):
            try:
                load_recipe(config.recipe, (*overrides, *as_overrides({key: value})))
            except InputError as error:
                raise InputError(f"{config.path}, space, {key}: {error}") from error
