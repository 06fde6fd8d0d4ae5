"""`transect models`: list and show registered versions, promote and roll back."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from transect.cli.defaults import config_file
from transect.settings import load_settings
from transect.settings.account import user_name

app = typer.Typer(help="Registered models: list, show, promote, roll back.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """List the registered versions, newest first."""
    from transect.registry import connect

    settings = load_settings()
    rows = connect(settings).list_versions()
    if not rows:
        print(f"No version of {settings.model_name} is registered; train one: make train (or transect train).")
        return
    table = Table(
        "version", "aliases", "registered", "architecture", "mAP50", "mAP50-95", "precisions", "for a census", "run"
    )
    for row in rows:
        table.add_row(
            row.version,
            ", ".join(row.aliases),
            f"{row.created:%Y-%m-%d %H:%M}",
            row.architecture,
            _number(row.map50),
            _number(row.map50_95),
            row.precisions,
            row.census_basis,
            row.run_id,
        )
    Console().print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@app.command()
def show(
    reference: Annotated[str, typer.Argument(help="Alias, version, or models:/NAME@ALIAS.")] = "production",
) -> None:
    """Show one version: its origin, training data and metrics."""
    from transect.registry import connect, version_details

    for name, value in version_details(connect(load_settings()), reference).items():
        print(f"{name:<28} {value}")


@app.command()
def promote(
    candidate: Annotated[str, typer.Argument(help="What to promote: an alias or a version.")] = "candidate",
    data: Annotated[
        Path | None, typer.Option(help="data.yaml with the test split. Default: the candidate's own.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Limits of the gate. Default: configs/promotion.yaml, where there is one.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate refuses; needs --reason.")] = False,
) -> None:
    """Evaluate candidate and production on the same test split; the candidate is served if it is better."""
    from transect.registry import connect, load_gate
    from transect.registry import promote as run_gate

    registry = connect(load_settings())
    verdict = run_gate(
        registry,
        candidate=candidate,
        data=data,
        gate=load_gate(limits) if (limits := gate or config_file("promotion.yaml")) else None,
        actor=_actor(),
        reason=reason,
        force=force,
    )
    print(verdict.sentence)
    if verdict.run_id:
        print(f"All figures are in the run {verdict.run_id} of the experiment promotion.")


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept with the replaced version.")] = "",
) -> None:
    """Serve the previous production version again, at once."""
    from transect.registry import connect
    from transect.registry import rollback as run_rollback

    print(run_rollback(connect(load_settings()), actor=_actor(), reason=reason).sentence)


def _actor() -> str:
    return user_name(f"user {os.getuid()}")
