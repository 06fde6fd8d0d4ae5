"""`transect census`: count the animals of a survey folder, with confidence limits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from transect import api
from transect.cli.census.plan import print_plan
from transect.cli.defaults import config_file
from transect.cli.interrupt import stoppable
from transect.errors import InputError, RegistryError
from transect.settings import Settings, load_settings
from transect.wording import count_of

if TYPE_CHECKING:
    from transect.census import CensusConfig, CensusResult
    from transect.census.compare import Comparison, Difference
    from transect.census.counting.tally import StratumEstimate

app = typer.Typer(help="Count a survey.", no_args_is_help=True)
# Failures that are printed one by one.
_MOST_NAMED = 20


SurveyPlace = Annotated[
    str, typer.Argument(help="Survey folder with survey.yaml and images/, or its address, such as s3://BUCKET/FOLDER.")
]
OutFolder = Annotated[Path | None, typer.Option(help="Where results go. Default: results/NAME.")]
ModelName = Annotated[str, typer.Option(help="Model. Default: survey.yaml's, else the production alias.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        help="Census settings, such as trust: refuse, which ends with exit code 2 where the detector is not validated. "
        "Default: configs/census.yaml, where there is one."
    ),
]
ImagesPlace = Annotated[str, typer.Option(help="Folder in a store where the photos lie instead of in images/.")]
PartsPlace = Annotated[
    str,
    typer.Option(help="Folder or address that all machines share, where what is found in each photo is kept."),
]


@app.command()
def run(
    survey: SurveyPlace,
    out: OutFolder = None,
    model: ModelName = "",
    config: ConfigFile = None,
    images: ImagesPlace = "",
    parts: Annotated[
        str,
        typer.Option(help="Folder or address where what is found in each photo is kept. Default: work in --out."),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be counted, and how long it would take; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
) -> None:
    """Detect, place on the ground, count each animal once, estimate, report. Run again to resume."""
    with stoppable():
        settings = load_settings()
        if dry_run:
            _plan(survey, model, config, settings, images=images, as_json=as_json)
        elif as_json:
            raise InputError("--json is for --dry-run; a census writes its JSON into its result folder.")
        else:
            api.run_census(
                survey,
                out=out,
                model=model,
                config=_config(config),
                record=_report(settings),
                settings=settings,
                images=images,
                parts=parts,
            )


@app.command()
def search(
    survey: SurveyPlace,
    shard: Annotated[str, typer.Option(help="The part of the photos to search, as 3/7: the third of seven.")],
    parts: PartsPlace,
    model: ModelName = "",
    config: ConfigFile = None,
    images: ImagesPlace = "",
) -> None:
    """Search one shard of a survey on this machine, for `transect census count`. Run again to resume."""
    with stoppable():
        done = api.search_shard(
            survey, shard, parts=parts, model=model, config=_config(config), settings=load_settings(), images=images
        )
        print(
            f"Shard {shard}: {count_of(done.photos, 'photo')}, {done.searched} searched, {done.reused} found earlier, "
            f"{len(done.failures)} cannot be searched."
        )
        for reason in done.failures[:_MOST_NAMED]:
            print(f"  {reason}")
        if len(done.failures) > _MOST_NAMED:
            print(f"  and {len(done.failures) - _MOST_NAMED} more; the census lists all")


@app.command(name="count")
def count_command(
    survey: SurveyPlace,
    parts: PartsPlace,
    out: OutFolder = None,
    model: ModelName = "",
    config: ConfigFile = None,
    images: ImagesPlace = "",
) -> None:
    """Count a survey whose shards are searched: the same files as `transect census run`, byte for byte."""
    with stoppable():
        settings = load_settings()
        api.count_parts(
            survey,
            parts=parts,
            out=out,
            model=model,
            config=_config(config),
            record=_report(settings),
            settings=settings,
            images=images,
        )


def _config(config: Path | None) -> "CensusConfig":
    from transect.census import load_config

    return load_config(config or config_file("census.yaml"))


def _plan(survey: str, model: str, config: Path | None, settings: Settings, *, images: str, as_json: bool) -> None:
    print_plan(survey, model, _config(config), settings, images=images, as_json=as_json)


def _report(settings: Settings) -> "Callable[[CensusResult], None]":
    """Prints a census and logs it, while its folder is locked."""

    def record(result: "CensusResult") -> None:
        print_counts(result)
        print(f"Report: {result.report}", flush=True)
        if settings.census_log == "none":
            print("MLflow run: none (TRANSECT_CENSUS_LOG=none)")
            return
        from transect.tracking.census_log import log_census

        try:
            run_id = log_census(result.as_run(settings.census_log), settings)
        except RegistryError as error:
            raise RegistryError(
                f"{error} The results are in {result.folder}; the same command again logs them too."
            ) from error
        without = " (a summary without positions; TRANSECT_CENSUS_LOG=full logs all)"
        print(f"MLflow run: {run_id}{without if settings.census_log == 'summary' else ''}")

    return record


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
        api.LimitsMethod,
        typer.Option(help="How the 95% limits are made; total: everything was counted, not a sample."),
    ] = "bootstrap",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, unrounded.")] = False,
) -> None:
    """Estimate numbers from counts on transects, however they were counted; needs no survey and no model."""
    import json

    from transect.census.outputs.files import estimate_record

    found = api.estimate(transects, strata, method=method)
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
    """Show the changes between two runs or two years, and test whether the numbers of animals differ."""
    import json

    from transect.census.compare import compare as compare_results
    from transect.census.saved_result import read_census

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
    for side, state in (("A", comparison.detector_a), ("B", comparison.detector_b)):
        if state:
            doubted = [one for one in comparison.differences if _state_in(one, side) == "not validated here"]
            named = ", ".join(dict.fromkeys(one.species for one in doubted))
            print(f"The detector in {side} is {state}{f': {named}' if named else ''}.")
    # Without a detector the columns would be empty.
    detected = bool(comparison.detector_a or comparison.detector_b)
    states = ("detector in A", "detector in B") if detected else ()
    table = _narrow_table("stratum", "species")
    for name in states:
        table.add_column(name, min_width=len("not known"))
    for name in ("A", "B", "B - A", "95% limits", "B / A", "p"):
        table.add_column(name)
    for one in comparison.differences:
        table.add_row(
            *(one.stratum, one.species, *([one.detector_a or "-", one.detector_b or "-"] if detected else [])),
            *(_number(one.a), _number(one.b), _number(one.difference)),
            *(_limits(one.ci95), _number(one.ratio, 2), _number(one.p, 3)),
        )
    Console().print(table)
    for one in comparison.differences:
        if one.note:
            print(f"{one.species} in {one.stratum}: {one.note}")
    for side, keys in (("A", comparison.only_a), ("B", comparison.only_b)):
        if keys:
            print(f"Only in {side}: {', '.join(f'{species} in {stratum}' for stratum, species in keys)}.")


def _narrow_table(*columns: str) -> Table:
    """A table without column borders, so that it fits a log of 80 columns with the detector column."""
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _state_in(one: "Difference", side: str) -> str:
    return one.detector_a if side == "A" else one.detector_b


def _limits(limits: tuple[float, float] | None) -> str:
    return "-" if limits is None else f"{limits[0]:.0f} to {limits[1]:.0f}"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def print_counts(result: "CensusResult") -> None:
    """Print a census as a table, and the number of files to check."""
    corrected = any(row.corrected is not None for row in result.rows)
    for row in result.rows:
        if row.detector == "not validated here":
            print(f"Not validated here: {row.species}. Its limits are of sampling alone.")
    table = _narrow_table("species", "seen", "unique")
    table.add_column("detector", min_width=len("not known"))
    for name in (*(["corrected"] if corrected else []), "estimate", "95% limits", "per km²"):
        table.add_column(name)
    for row in result.rows:
        table.add_row(
            *(row.species, str(row.seen), str(row.unique), row.detector),
            *([_number(row.corrected)] if corrected else []),
            *(_number(row.estimate), _limits(row.ci95), _number(row.density_per_km2, 2)),
        )
    Console().print(table)
    if any(row.detector != "validated" for row in result.rows):
        print("detector: whether its errors are known on this ground; estimate.json and the report say why not.")
    if corrected:
        print(
            "corrected: for what the detector misses and mistakes and survey.yaml's factors; counts.csv has each step."
        )
    if result.issues:
        files = count_of(len(result.issues), "file or row", "files or rows")
        print(f"{files} to check; failures.csv and the report name each with its reason.")
