"""`transect runs reproduce`: repeat a training, and compare its metrics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from transect.cli.tables import wide_console
from transect.settings import load_settings

if TYPE_CHECKING:
    from transect.training.reproduce.metric_diff import MetricDiff
    from transect.training.reproduce.reproduce import ReproductionPlan

_MOST_ROWS = 10
_HEADLINE = ("train/loss", "val/loss", "metrics/mAP50-95", "test/mAP50-95")


def reproduce(
    run: Annotated[str, typer.Argument(help="A training: its id or a prefix of it, its name, or @ALIAS.")],
    data: Annotated[
        Path | None, typer.Option(help="data.yaml of its training set. Default: its path in the original run.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check whether it can be repeated here.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Train although versions, source or machine are others.")
    ] = False,
) -> None:
    """Repeat a training from its MLflow run, and compare every metric; nothing is registered.

    Exits with 1 when a metric differs by more than 1e-6.
    """
    from transect.training.reproduce.reproduce import plan_reproduction
    from transect.training.reproduce.reproduce import reproduce as run_again

    settings = load_settings()
    plan = plan_reproduction(run, settings, data=data)
    _print_reproduction_plan(plan)
    if not anyway:
        plan.refuse_differences()
    if dry_run:
        return
    again = run_again(plan, settings)
    _print_diff(again.diff)
    print(f"Run {again.outcome.run_id} reproduces {plan.logged.row.run_id}. {again.diff.sentence}")
    if again.diff.different:
        raise typer.Exit(1)


def _print_reproduction_plan(plan: "ReproductionPlan") -> None:
    row = plan.logged.row
    print(f"Run {row.name} ({row.run_id}) of {row.experiment} was: {row.tags.get('transect.command', 'unknown')}")
    print(f"Equivalent command: {plan.command}")
    print(f"Its training set is there, with the digest {plan.training.digest}.")
    for sentence in plan.differences:
        print(f"Different: {sentence}")
    if not plan.differences:
        print("Source, versions, machine and starting weights are as they were.")


def _print_diff(diff: "MetricDiff") -> None:
    """Print the metrics that differ most; if none does, the headline metrics."""
    differ = [one for one in diff.differences if one.amount > 0]
    shown = differ[:_MOST_ROWS] or [one for one in diff.differences if one.metric in _HEADLINE]
    table = Table("metric", "step", "was", "is", "difference")
    for one in shown:
        new = "-" if one.new is None else f"{one.new:.6g}"
        table.add_row(one.metric, str(one.step), f"{one.old:.6g}", new, f"{one.amount:.3g}")
    wide_console().print(table)
    if more := len(differ[_MOST_ROWS:]):
        print(f"{more} more metrics differ, by no more than the last of these.")
