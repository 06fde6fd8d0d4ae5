"""`transect census`: a survey folder in, counts with limits out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from transect.cli.census_plan import print_plan
from transect.cli.defaults import config_file, open_detector
from transect.errors import InputError
from transect.settings import load_settings

if TYPE_CHECKING:
    from transect.census import CensusResult

app = typer.Typer(help="Count a survey.", no_args_is_help=True)


@app.command()
def run(
    survey: Annotated[Path, typer.Argument(help="Survey folder: survey.yaml and images/.")],
    out: Annotated[Path | None, typer.Option(help="Where results go. Default: results/NAME.")] = None,
    model: Annotated[str, typer.Option(help="Model. Default: survey.yaml's, else the production alias.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Census settings. Default: configs/census.yaml, where there is one.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be counted, and how long it would take; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
) -> None:
    """Detect, place on the ground, count each animal once, estimate, report. Run again to go on."""
    from transect.census import load_config, load_survey, run_census
    from transect.registry import connect

    settings = load_settings()
    if dry_run:
        chosen = load_config(config or config_file("census.yaml"))
        print_plan(survey, model, chosen, settings, as_json=as_json)
        return
    if as_json:
        raise InputError("--json is for --dry-run; a census writes its JSON into its result folder.")
    definition = load_survey(survey)
    detector = open_detector(settings, model or definition.model or "")
    result = run_census(
        survey,
        out=out or Path("results") / definition.name,
        detector=detector,
        config=load_config(config or config_file("census.yaml")),
        settings=settings,
    )
    params, metrics, tags, artifacts = result.as_run()
    run_id = connect(settings).log_census_run(definition.name, params, metrics, tags, artifacts)
    print_counts(result)
    print(f"Report: {result.report}")
    print(f"MLflow run: {run_id}")


def print_counts(result: "CensusResult") -> None:
    """Print a census as a table, and how many files there are to look at."""
    table = Table("species", "seen", "unique", "estimate", "95% limits", "animals/km²")
    for row in result.rows:
        limits = "-" if row.ci95 is None else f"{row.ci95[0]:.0f} to {row.ci95[1]:.0f}"
        estimate = "-" if row.estimate is None else f"{row.estimate:.0f}"
        density = "-" if row.density_per_km2 is None else f"{row.density_per_km2:.2f}"
        table.add_row(row.species, str(row.seen), str(row.unique), estimate, limits, density)
    Console().print(table)
    if result.failures:
        print(f"{len(result.failures)} files or rows to look at; failures.csv and the report name each with its reason.")
