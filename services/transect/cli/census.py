"""`transect census`: a survey folder in, counts with limits out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from transect.cli.census_plan import print_plan
from transect.cli.defaults import config_file, open_detector
from transect.errors import InputError
from transect.settings import load_settings

if TYPE_CHECKING:
    from transect.census import CensusResult
    from transect.census.compare import Comparison
    from transect.census.tally import StratumEstimate

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


@app.command()
def estimate(
    transects: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns stratum,transect,species,area_km2,count. A transect without a row for a species "
            "has none of it; a row without species and count names a transect on which nothing was seen."
        ),
    ],
    strata: Annotated[Path, typer.Option(help="CSV with the columns stratum,area_km2[,transects_possible].")],
    method: Annotated[
        Literal["bootstrap", "jolly2", "lognormal", "percentile", "total"],
        typer.Option(help="How the 95% limits are made; total: everything was counted, not a sample."),
    ] = "bootstrap",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, unrounded.")] = False,
) -> None:
    """Estimate numbers from counts on transects, however they were counted; needs no survey and no model."""
    import json

    from transect.census.outputs import estimate_record
    from transect.census.tally import estimate_species
    from transect.census.transect_table import read_count_table

    samples = read_count_table(transects, strata).samples
    found = [one for species, mine in samples.items() for one in estimate_species(species, mine, method)]
    if as_json:
        print(json.dumps({"estimates": [estimate_record(one) for one in found]}, indent=2, allow_nan=False))
    else:
        _print_estimates(found)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A result folder, or what `census estimate --json` printed.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, unrounded.")] = False,
) -> None:
    """Tell what changed between two runs or two years, and test whether the numbers of animals did."""
    import json

    from transect.census.compare import compare as compare_results
    from transect.census.results import read_census

    comparison = compare_results(read_census(a), read_census(b))
    if as_json:
        print(json.dumps(comparison.to_json(), indent=2, allow_nan=False))
    else:
        _print_comparison(comparison)


def _print_estimates(found: "Sequence[StratumEstimate]") -> None:
    table = Table("stratum", "species", "n", "seen", "estimate", "SE", "95% limits", "per km²")
    for one in found:
        value = one.estimate
        table.add_row(
            *(one.stratum, one.species, str(value.n), str(value.seen), _number(value.estimate), _number(value.se)),
            *(_limits(value.ci95), _number(value.density, 3)),
        )
    Console().print(table)
    for one in found:
        if one.estimate.note:
            print(f"{one.species} in {one.stratum}: {one.estimate.note}")


def _print_comparison(comparison: "Comparison") -> None:
    if comparison.changes:
        changed = Table("changed", "A", "B")
        for change in comparison.changes:
            changed.add_row(change.what, str(change.a), str(change.b))
        Console().print(changed)
    table = Table("stratum", "species", "A", "B", "B - A", "95% limits", "B / A", "p")
    for one in comparison.differences:
        table.add_row(
            *(one.stratum, one.species, _number(one.a), _number(one.b), _number(one.difference)),
            *(_limits(one.ci95), _number(one.ratio, 2), _number(one.p, 3)),
        )
    Console().print(table)
    for one in comparison.differences:
        if one.note:
            print(f"{one.species} in {one.stratum}: {one.note}")
    for side, keys in (("A", comparison.only_a), ("B", comparison.only_b)):
        if keys:
            print(f"Only in {side}: {', '.join(f'{species} in {stratum}' for stratum, species in keys)}.")


def _limits(limits: tuple[float, float] | None) -> str:
    return "-" if limits is None else f"{limits[0]:.0f} to {limits[1]:.0f}"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


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
        print(
            f"{len(result.failures)} files or rows to look at; failures.csv and the report name each with its reason."
        )
