"""`transect runs`: list, show and compare runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from transect.cli.runs.clean import clean
from transect.cli.runs.reproduce import reproduce
from transect.cli.runs.sync import sync
from transect.cli.tables import wide_console
from transect.settings import load_settings

if TYPE_CHECKING:
    from transect.registry import Comparison, RunRow

app = typer.Typer(help="Runs in MLflow: list, show, compare, and deliver undelivered entries.", no_args_is_help=True)
app.command()(sync)
app.command()(clean)
app.command()(reproduce)

_HEADLINE = ("test/mAP50-95", "test/mAP50", "val/loss")
_RUN_HELP = "A run's id or a prefix of it, its name, or @ALIAS of the model it made."


@app.command("list")
def list_all(
    experiment: Annotated[str, typer.Option(help="Only this experiment, such as configs_train_wildlife.")] = "",
    search: Annotated[
        str, typer.Option(metavar="FILTER", help="MLflow's filter, such as: metrics.`val/loss` < 0.5")
    ] = "",
    order: Annotated[str, typer.Option(help="MLflow's order, such as: metrics.`val/loss` ASC. Default: newest.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Most runs; 0 for all.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with everything.")] = False,
) -> None:
    """List runs, newest first."""
    from transect.registry import connect, list_runs

    rows = list_runs(connect(load_settings()), experiment=experiment, search=search, order=order, limit=limit)
    if as_json:
        for row in rows:
            print(row.as_json())
        return
    if not rows:
        print("No run fits." if search or experiment else "There is no run yet; make one: make train")
        return
    table = Table("id", "run", "experiment", "status", "started", "minutes", *_HEADLINE)
    for row in rows:
        table.add_row(
            row.run_id[:8],
            row.name,
            row.experiment,
            row.status,
            f"{row.started:%Y-%m-%d %H:%M}",
            "-" if row.minutes is None else f"{row.minutes:.1f}",
            *(_number(row.metrics.get(name)) for name in _HEADLINE),
        )
    wide_console().print(table)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help=_RUN_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show one run: configuration, metrics, lineage."""
    from transect.registry import connect, find_run, run_lineage

    registry = connect(load_settings())
    row = find_run(registry, run)
    if as_json:
        print(row.as_json())
        return
    _section("run", _head(row))
    _section("lineage", run_lineage(registry, row))
    _section("metrics", {name: _number(value) for name, value in sorted(row.metrics.items())})
    _section("params", dict(sorted(row.params.items())))
    _section("tags", {name: " ".join(value.split()) for name, value in sorted(row.tags.items())})


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help=f"Two or more runs. {_RUN_HELP}")],
    everything: Annotated[
        bool, typer.Option("--all", help="System metrics and the metrics of each class too.")
    ] = False,
) -> None:
    """Compare runs: parameters that differ, tags that differ, metrics."""
    from transect.registry import compare_runs, connect, find_run

    registry = connect(load_settings())
    compared = compare_runs([find_run(registry, one) for one in runs])
    console = wide_console()
    console.print(_beside("parameter", compared, _texts(compared.params)))
    console.print(_beside("tag", compared, _texts(compared.tags)))
    numbers = {
        name: [_number(value) for value in row]
        for name, row in compared.metrics.items()
        if everything or not (name.startswith("system/") or "/class/" in name)
    }
    console.print(_beside("metric", compared, numbers))


def _head(row: "RunRow") -> dict[str, str]:
    return {
        "id": row.run_id,
        "name": row.name,
        "experiment": row.experiment,
        "status": row.status,
        "started": f"{row.started:%Y-%m-%d %H:%M:%S} UTC",
        "minutes": "-" if row.minutes is None else f"{row.minutes:.1f}",
    }


def _section(title: str, values: dict[str, str]) -> None:
    if values:
        print(title)
    for name, value in values.items():
        print(f"  {name:<32} {value}")


def _beside(title: str, compared: "Comparison", rows: dict[str, list[str]]) -> Table:
    table = Table(title, *(f"{run.run_id[:8]}\n{run.name}" for run in compared.runs))
    for name, values in rows.items():
        table.add_row(name, *values)
    if not rows:
        table.add_row(f"no {title} differs" if title != "metric" else "no metric", *("" for _ in compared.runs))
    return table


def _texts(rows: Mapping[str, Sequence[str | None]]) -> dict[str, list[str]]:
    return {name: ["-" if value is None else value for value in values] for name, values in rows.items()}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"
