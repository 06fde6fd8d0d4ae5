"""`transect runs clean`: delete runs that nothing depends on; without --yes it only lists them."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from transect.cli.interrupt import stoppable
from transect.cli.tables import wide_console
from transect.settings import Settings, load_settings
from transect.wording import count_of

if TYPE_CHECKING:
    from transect.registry import Cleaning, CleanRule, Registry
    from transect.registry.runs.search import RunRow


def clean(
    older_than: Annotated[
        str, typer.Option(help="Only runs that ended longer ago: hours, days or weeks, such as 12h, 30d, 8w.")
    ] = "30d",
    keep: Annotated[int, typer.Option(min=0, help="The newest N runs of each experiment with such a status stay.")] = 0,
    status: Annotated[
        str, typer.Option(help="Some of finished, failed, killed. Default: failed,killed; with --local: finished.")
    ] = "",
    experiment: Annotated[str, typer.Option(help="Only this experiment.")] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Folders under TRANSECT_HOME/train that MLflow has in full, not runs.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only list what would be deleted.")] = False,
) -> None:
    """List the runs that may be deleted, and those that stay with the reason; with --yes, delete them in MLflow.

    Deleted runs can be restored. The run of a registered version always stays, and so does every run that it or a
    census depends on.
    """
    from transect.registry import CleanRule, connect

    rule = CleanRule.parse(status or ("finished" if local else "failed,killed"), older_than, keep, experiment)
    settings = load_settings()
    registry = connect(settings)
    with stoppable():
        if local:
            _clean_folders(settings, registry, rule, yes=yes)
        else:
            _clean_runs(settings, registry, rule, yes=yes)


def _clean_runs(settings: Settings, registry: "Registry", rule: "CleanRule", *, yes: bool) -> None:
    from transect.registry import clean_runs, plan_cleaning
    from transect.tracking.cleanup import undelivered_runs

    cleaning = plan_cleaning(registry, rule, undelivered_runs(settings))
    _print_runs(cleaning)
    if not cleaning.removable:
        print("Nothing to remove.")
        return
    if not yes:
        runs = count_of(len(cleaning.removable), "run")
        print(f"Nothing was removed; --yes removes {runs} ({_bytes(cleaning.size)}).")
        return
    deleted, stayed = clean_runs(registry, cleaning, rule)
    for run, why in stayed:
        print(f"{run.run_id} ({run.name}) stays: {why}.")
    print(f"Removed {count_of(len(deleted), 'run')}; each can be restored: mlflow runs restore --run-id ID")
    if deleted:
        print(f"To free the space for good (docs/tracking.md says what else that removes): {_gc_command(deleted)}")


def _clean_folders(settings: Settings, registry: "Registry", rule: "CleanRule", *, yes: bool) -> None:
    from transect.tracking.cleanup import find_removable_folders, remove_run_folders

    folders = find_removable_folders(settings, registry, rule)
    for run_folder in folders.removable:
        print(f"{run_folder.folder}  {_bytes(run_folder.size)}")
    _print_kept([(str(folder), why) for folder, why in folders.kept])
    if not folders.removable:
        print("Nothing to remove.")
        return
    if not yes:
        count, size = len(folders.removable), _bytes(folders.size)
        print(f"Nothing was removed; --yes removes {count_of(count, 'folder')} ({size}) for good.")
        return
    removed, stayed = remove_run_folders(registry, folders)
    _print_kept([(str(folder), why) for folder, why in stayed])
    print(f"Removed {count_of(len(removed), 'folder')}.")


def _print_runs(cleaning: "Cleaning") -> None:
    if cleaning.removable:
        table = Table("id", "run", "experiment", "status", "ended", "files")
        for one in cleaning.removable:
            run = one.run
            ended = f"{run.ended or run.started:%Y-%m-%d %H:%M}"
            table.add_row(run.run_id[:8], run.name, run.experiment, run.status, ended, _bytes(one.size))
        wide_console().print(table)
    _print_kept([(f"{run.run_id[:8]} {run.name}", why) for run, why in cleaning.kept])


def _print_kept(kept: Sequence[tuple[str | Path, str]]) -> None:
    for item, why in kept:
        print(f"stays: {item}: {why}.")


def _gc_command(deleted: "Sequence[RunRow]") -> str:
    return shlex.join(["mlflow", "gc", "--run-ids", ",".join(run.run_id for run in deleted)])


def _bytes(size: int) -> str:
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
