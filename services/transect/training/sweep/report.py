"""The report in a sweep's own run: search space, table of trials, history, and parameter importances."""

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from transect.files import atomic_path, atomic_write
from transect.training.plan import Plan
from transect.training.sweep.config import SweepConfig, describe_distribution

_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_FEWEST_FOR_IMPORTANCE = 4
_PALE, _STRONG, _WARN = "#9db4c0", "#1f6f8b", "#c8553d"


def sweep_params(config: SweepConfig, plan: Plan) -> dict[str, Any]:
    """The parameters of a sweep's run: search space, objective, and the settings common to all trials."""
    return {
        **{f"space/{key}": describe_distribution(distribution) for key, distribution in config.space.items()},
        "metric": config.metric,
        "trials": config.trials,
        "sampler_seed": config.sampler.seed,
        "sampler_startup_trials": config.sampler.startup_trials,
        "pruner": config.pruner.kind,
        "pruner_startup_trials": config.pruner.startup_trials,
        "pruner_warmup_epochs": config.pruner.warmup_epochs,
        "recipe": str(config.recipe),
        "data": str(plan.dataset.path),
        "dataset_digest": plan.digest,
        **({} if "model" in config.space else {"architecture": plan.architecture.name}),
        **{key: value for key, value in plan.recipe.train.items() if key not in config.space},
    }


def write_report(folder: Path, trials: Sequence[FrozenTrial], study: Study, config: SweepConfig) -> list[Path]:
    """Write sweep.yaml, trials.csv and, once there are values, the plots history.png and importances.png.

    Returns their paths.
    """
    written = [folder / "sweep.yaml", folder / "trials.csv"]
    atomic_write(written[0], config_yaml(config))
    atomic_write(written[1], trials_csv(trials, config))
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        written.append(folder / "plots" / "history.png")
        _save(_history(trials, config), written[-1])
    if importances := _importances(trials, study):
        written.append(folder / "plots" / "importances.png")
        _save(_bars(importances, config), written[-1])
    return written


def config_yaml(config: SweepConfig) -> str:
    """The sweep as YAML that `load_sweep` reads."""
    document = {
        "recipe": str(config.recipe),
        "trials": config.trials,
        "metric": config.metric,
        "sampler": config.sampler.model_dump(),
        "pruner": config.pruner.model_dump(),
        "space": {key: yaml.safe_load(f"{{{describe_distribution(one)}}}") for key, one in config.space.items()},
    }
    return yaml.safe_dump(document, sort_keys=False)


def trials_csv(trials: Sequence[FrozenTrial], config: SweepConfig) -> str:
    """A row for each finished trial: state, value, last epoch, seconds, settings, reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", config.metric, "epochs_run", "seconds", *config.space, "run", "reason"])
    for trial in trials:
        seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.0f}"
        epochs = trial.last_step + 1 if trial.last_step is not None else 0
        settings = [trial.params.get(key, "") for key in config.space]
        attrs = trial.user_attrs
        value = "" if trial.value is None or trial.state != TrialState.COMPLETE else trial.value
        writer.writerow(
            [
                trial.number,
                _STATES[trial.state],
                value,
                epochs,
                seconds,
                *settings,
                attrs.get("folder", ""),
                attrs.get("reason", ""),
            ]
        )
    return text.getvalue()


def _history(trials: Sequence[FrozenTrial], config: SweepConfig) -> Figure:
    """Plot the value of every trial, and the best so far."""
    figure, axes = _figure()
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    values = [float(trial.value or 0.0) for trial in done]
    best = [max(values[: count + 1]) for count in range(len(values))]
    axes.step([trial.number for trial in done], best, where="post", color=_STRONG, label="best so far")
    axes.scatter([trial.number for trial in done], values, color=_PALE, label="complete")
    for state, mark in ((TrialState.PRUNED, "v"), (TrialState.FAIL, "x")):
        some = [trial for trial in trials if trial.state == state]
        if some:
            heights = [max(trial.intermediate_values.values(), default=0.0) for trial in some]
            axes.scatter([trial.number for trial in some], heights, color=_WARN, marker=mark, label=_STATES[state])
    axes.set_xlabel("trial")
    axes.set_ylabel(config.value_name)
    axes.legend()
    return figure


def _importances(trials: Sequence[FrozenTrial], study: Study) -> dict[str, float]:
    """The share of the variance between trials that each setting explains; empty with too few values."""
    values = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    if len(values) < _FEWEST_FOR_IMPORTANCE or len(set(values)) == 1:
        return {}
    with warnings.catch_warnings():
        # It warns of few trials; the docs cover that.
        warnings.simplefilter("ignore")
        return get_param_importances(study)


def _bars(importances: Mapping[str, float], config: SweepConfig) -> Figure:
    figure, axes = _figure()
    names = list(importances)[::-1]
    axes.barh(names, [importances[name] for name in names], color=_STRONG)
    axes.set_xlabel(f"share of the differences in {config.value_name}")
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
