"""`transect sweep`: search for better settings of a recipe, and register the best model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transect.cli.defaults import sample_training_set
from transect.errors import InputError
from transect.settings import Settings, load_settings
from transect.wording import count_of

if TYPE_CHECKING:
    from transect.training.sweep.run import SweepRequest


def sweep(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings of the recipe that every trial has, such as epochs=30."
        ),
    ] = None,
    config: Annotated[Path, typer.Option(help="Recipe, space, metric, sampler and pruner of the sweep.")] = Path(
        "configs/sweep/wildlife.yaml"
    ),
    model: Annotated[
        str | None, typer.Option(help="Architecture, as for transect train. Default: the recipe's, else yolo11n.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Ultralytics data.yaml. Default: the sample survey's training set, made when missing."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Total number of trials. Default: the file's.")] = None,
    name: Annotated[
        str, typer.Option(help="Name of the sweep; an existing one is resumed. Default: the file's and the model's.")
    ] = "",
    join: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Train trials of the sweep of this name, which another process or machine coordinates, until all have "
            "ended. Recipe, model and data are to be the same as there.",
        ),
    ] = "",
) -> None:
    """Train with many settings, stop the worse ones early, register the best; the same command resumes it."""
    from transect.training.sweep.run import SweepRequest
    from transect.training.sweep.run import sweep as run_sweep

    settings = load_settings()
    if join and (name or trials):
        raise InputError(
            f"--join {join}: {'--name' if name else '--trials'} is the coordinator's to give; leave it out."
        )
    request = SweepRequest(
        config=config,
        model=model,
        data=data,
        overrides=tuple(overrides or ()),
        trials=trials,
        name=name or join,
        default_data=lambda: sample_training_set(settings),
    )
    if join:
        _join(request, settings)
        return
    outcome = run_sweep(request, settings)
    counts = ", ".join(f"{outcome.counts.get(state, 0)} {state}" for state in ("complete", "pruned", "failed"))
    print(f"Sweep {outcome.name} is finished (run {outcome.run_id}): {counts}; {outcome.folder / 'trials.csv'}")
    print(f"Best is trial {outcome.best.number} with {outcome.best.value:.4f}:")
    for key, value in outcome.best.params.items():
        print(f"  {key:<16} {value:.6g}" if isinstance(value, float) else f"  {key:<16} {value}")
    done = "Registered" if outcome.new else "It is registered already, as"
    print(f"{done} {outcome.model} version {outcome.version}{' with alias candidate' if outcome.new else ''}.")
    print("Next: `make promote` (or `transect models promote`).")


def _join(request: "SweepRequest", settings: Settings) -> None:
    from transect.training.sweep.join import join_sweep

    outcome = join_sweep(request, settings)
    which = f" ({', '.join(map(str, outcome.trials))})" if outcome.trials else ""
    print(
        f"All {outcome.total} trials of sweep {outcome.name} have ended; this worker trained "
        f"{count_of(len(outcome.trials), 'trial')}{which}."
    )
    print("Its coordinator registers the best.")
