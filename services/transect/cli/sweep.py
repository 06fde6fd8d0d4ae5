"""`transect sweep`: search for better settings of a recipe, and register the best model."""

from pathlib import Path
from typing import Annotated

import typer

from transect.cli.defaults import sample_training_set
from transect.settings import load_settings


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
) -> None:
    """Train with many settings, stop the worse ones early, register the best; the same command resumes it."""
    from transect.training.sweep.run import SweepRequest
    from transect.training.sweep.run import sweep as run_sweep

    settings = load_settings()
    request = SweepRequest(
        config=config,
        model=model,
        data=data,
        overrides=tuple(overrides or ()),
        trials=trials,
        name=name,
        default_data=lambda: sample_training_set(settings),
    )
    outcome = run_sweep(request, settings)
    counts = ", ".join(f"{outcome.counts.get(state, 0)} {state}" for state in ("complete", "pruned", "failed"))
    print(f"Sweep {outcome.name} is finished (run {outcome.run_id}): {counts}; {outcome.folder / 'trials.csv'}")
    print(f"Best is trial {outcome.best.number} with {outcome.best.value:.4f}:")
    for key, value in outcome.best.params.items():
        print(f"  {key:<16} {value:.6g}" if isinstance(value, float) else f"  {key:<16} {value}")
    done = "Registered" if outcome.new else "It is registered already, as"
    print(f"{done} {outcome.model} version {outcome.version}{' with alias candidate' if outcome.new else ''}.")
    print("Next: `make promote` (or `transect models promote`).")
