"""`transect export` and `transect import`: copy experiments to a folder, and to another MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transect.cli.interrupt import stoppable
from transect.settings import load_settings

if TYPE_CHECKING:
    from transect.registry import Copied

_Experiments = Annotated[
    list[str] | None, typer.Option("--experiment", help="Only this experiment; may be given several times.")
]


def export(
    out: Annotated[Path, typer.Argument(help="Folder of the new store; run again to add what is new.")],
    experiment: _Experiments = None,
) -> None:
    """Copy runs with full history, artifacts, models and aliases into a folder that is itself a store."""
    from transect.registry import connect, export_store

    with stoppable():
        copied = export_store(connect(load_settings()), out, experiment or ())
    _print(copied)
    print(f"Open it: transect ui --db-path {out / 'mlflow.db'}; bring it elsewhere: transect import {out}")


def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `transect export` made.")],
    experiment: _Experiments = None,
    move_aliases: Annotated[
        bool,
        typer.Option("--move-aliases", help="Also move existing aliases; this changes what is served."),
    ] = False,
) -> None:
    """Copy an exported store into the MLflow at MLFLOW_TRACKING_URI (default: the local store)."""
    from transect.registry import connect, import_store

    with stoppable():
        copied = import_store(connect(load_settings()), folder, experiment or (), move_aliases=move_aliases)
    _print(copied)


def _print(copied: "Copied") -> None:
    print(copied.sentence)
    for remark in copied.models.remarks:
        print(remark)
