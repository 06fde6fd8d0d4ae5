"""`transect review`: let people check a census, and say what is there and how sure it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transect.cli.interrupt import stoppable
from transect.cli.review.printing import print_estimate, print_plan
from transect.errors import InputError, RegistryError
from transect.settings import Settings, load_settings
from transect.wording import count_of

if TYPE_CHECKING:
    from transect.review.planning.plan import Target

app = typer.Typer(help="Let people check a census.", no_args_is_help=True)

_Review = Annotated[Path, typer.Argument(help="The review's folder, RESULT/reviews/NAME.")]
_Cv = Annotated[
    float | None,
    typer.Option(help="Aim: the coefficient of variation of the animals on the flown ground. Default: 0.10."),
]
_Minutes = Annotated[float | None, typer.Option(help="Aim: so many minutes of work from now on.")]
_Species = Annotated[str, typer.Option(help="The species whose number the aim is about.")]
_Survey = Annotated[
    Path | None, typer.Option(help="The survey folder, which holds the photos. Default: where it was at the start.")
]


@app.command()
def start(
    result: Annotated[
        Path, typer.Argument(help="The result folder of a census, or a survey folder: its newest result is taken.")
    ],
    name: Annotated[str, typer.Option(help="Name of the review.")] = "review",
    survey: _Survey = None,
    species: Annotated[
        list[str] | None,
        typer.Option(help="A further species that reviewers may name, beside those of the census. May be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random order. Default: from the census.")] = None,
) -> None:
    """Start a review of a finished census in RESULT/reviews/NAME."""
    from transect.review.folder.items import read_items
    from transect.review.folder.start import find_result, start_review

    folder, found = find_result(result)
    made = start_review(folder, name=name, survey=survey or found, seed=seed, others=species or ())
    items = read_items(made)
    print(
        f"Review: {made} ({count_of(len(items.boxes), 'box', 'boxes')} in {count_of(len(items.manifest.bins), 'bin')}, "
        f"{count_of(len(items.searchable), 'photo')} in {count_of(len(items.manifest.groups), 'group')})"
    )
    for reason, number in items.manifest.left_out.items():
        if number:
            print(f"{count_of(number, 'box', 'boxes')} {reason}: no total contains them.")
    print(f'Next: transect review plan "{made}"')


@app.command()
def plan(
    review: _Review,
    cv: _Cv = None,
    minutes: _Minutes = None,
    species: _Species = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, unrounded.")] = False,
) -> None:
    """Show what comes next, how long it takes, and what limits it should give."""
    from transect.review.planning.plan import plan_review
    from transect.review.session import open_review

    target = _target(cv, minutes, species)
    with open_review(review, load_settings()) as session:
        print_plan(plan_review(session.truth(), target), review, as_json=as_json)


@app.command()
def export(
    review: _Review,
    to: Annotated[Path, typer.Option(help="A new folder for the crops, the photos and decisions.csv.")],
    form: Annotated[
        str, typer.Option("--format", help="files, coco, label-studio, cvat, or csv (the table alone).")
    ] = "files",
    cv: _Cv = None,
    minutes: _Minutes = None,
    species: _Species = "all",
    survey: _Survey = None,
    blind: Annotated[
        bool,
        typer.Option(
            help="Hide the model's boxes in photos that are searched, so that the readers' own misses are known too."
        ),
    ] = True,
    least_certain: Annotated[
        int, typer.Option(min=0, help="Instead of the plan's: so many undecided boxes nearest to the threshold.")
    ] = 0,
    suggest_from: Annotated[
        Path | None,
        typer.Option(
            help="Another review of the same photos: what it found of a box is a suggestion in decisions.csv, and "
            "counts nowhere."
        ),
    ] = None,
) -> None:
    """Write the next crops and photos into a folder, for a person or for a labelling tool."""
    from transect.review.exchange.outgoing.export import EXPORT_FORMATS, export_batch
    from transect.review.planning.choice import least_certain_boxes
    from transect.review.planning.plan import plan_review
    from transect.review.session import open_review, survey_folder
    from transect.review.verdicts.carry import carried_over
    from transect.review.verdicts.truth import truth_of

    kind = next((one for one in EXPORT_FORMATS if one == form), None)
    if kind is None:
        raise InputError(f"--format {form} is unknown: give one of {', '.join(EXPORT_FORMATS)}.")
    settings, target = load_settings(), _target(cv, minutes, species)
    with stoppable(), open_review(review, settings) as session:
        photos_at = survey_folder(session.items, survey)
        answers = session.answers()
        truth = truth_of(session.items, answers)
        if least_certain:
            rows, photos = least_certain_boxes(truth, answers, least_certain)
        else:
            following = plan_review(truth, target)
            rows, photos = following.boxes, following.photos
        if len(rows) + len(photos) == 0:
            print("Nothing comes next: the aim is reached. `transect review estimate` says the numbers.")
            return
        suggestions: Mapping[int, str] = {}
        if suggest_from is not None:
            with open_review(suggest_from, settings) as other:
                suggestions = carried_over(other.truth(), session.items, rows)
        batch = session.hand_out(
            rows,
            photos,
            survey=photos_at,
            blind=blind,
            drawn="choice" if least_certain else "sample",
            suggestions=suggestions,
        )
        written = export_batch(batch, to, kind, max_pixels=settings.max_pixels)
    crops, searches = count_of(len(batch.boxes), "crop"), count_of(len(batch.photos), "photo")
    print(
        f"Batch {batch.batch}: {crops} to decide and {searches} to search, in {to} "
        f"({count_of(len(written.files), 'file')})"
    )
    for remark in written.remarks:
        print(remark)
    if kind in ("files", "csv"):
        print(f'Next: fill in decisions.csv, then: transect review import "{review}" "{to / "decisions.csv"}"')
    else:
        print(f"Next: see {to / 'README.txt'}")


@app.command("import")
def import_(
    review: _Review,
    decisions: Annotated[Path, typer.Argument(help="decisions.csv as filled in, or the export of a labelling tool.")],
    reviewer: Annotated[str | None, typer.Option(help="Who decided, where the file does not say.")] = None,
    batch: Annotated[int | None, typer.Option(help="The batch that the file answers, where it does not say.")] = None,
    all_done: Annotated[
        bool, typer.Option("--all-done", help="Every photo in a COCO or CVAT file was searched to its end.")
    ] = False,
    settle: Annotated[
        bool, typer.Option("--settle", help="These are a lead's decisions: they end disagreements.")
    ] = False,
) -> None:
    """Take decisions in: all of a file, or none where anything in it is wrong. A repeat changes nothing."""
    from transect.review.exchange.incoming.read import read_decisions
    from transect.review.session import open_review

    with open_review(review, load_settings()) as session:
        found = read_decisions(decisions, session.known_items(), reviewer=reviewer, batch=batch, all_done=all_done)
        taken = session.take(found, settles=settle)
    made, searches = count_of(len(found.decisions), "decision"), count_of(len(found.searches), "search", "searches")
    print(
        f"{decisions}: {made} and {searches}; {taken.new} new, {taken.known} known already, {taken.replaced} in place "
        "of earlier ones."
    )
    if taken.outdated:
        print(f"{count_of(taken.outdated, 'decision')} of the file replaced since by later ones, which stay.")
    for remark in found.remarks:
        print(remark)


@app.command()
def estimate(
    review: Annotated[Path | None, typer.Argument(help="The review's folder, RESULT/reviews/NAME.")] = None,
    cells: Annotated[
        Path | None,
        typer.Option(help="Instead of a review: bins and groups as numbers in a JSON file (docs/review-estimator.md)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, unrounded.")] = False,
    survey: _Survey = None,
) -> None:
    """Say how many animals there are: write estimate.json, counts.csv, decisions.csv, coco.json and report.html."""
    if (review is None) == (cells is None):
        raise InputError("Name either the folder of a review, or a file of bins and groups with --cells.")
    if cells is not None:
        import json

        from transect.review.estimator.cells_file import estimate_cells

        found = estimate_cells(cells)
        if as_json:
            print(json.dumps(found, indent=2, allow_nan=False))
        else:
            for name, value in found.items():
                print(f"{name}: {value}")
        return
    assert review is not None  # noqa: S101 - by the check above
    with stoppable():
        _estimate(review, survey, load_settings(), as_json=as_json)


def _estimate(review: Path, survey: Path | None, settings: Settings, *, as_json: bool) -> None:
    from transect.review.outcome.estimate import estimate_review
    from transect.review.session import open_review

    with open_review(review, settings) as session:
        result = estimate_review(session, survey=survey, max_pixels=settings.max_pixels)
    print_estimate(result.record, as_json=as_json)
    if as_json:
        return
    print(f"Report: {result.report}")
    if settings.census_log == "none":
        print("MLflow run: none (TRANSECT_CENSUS_LOG=none)")
        return
    from transect.tracking.census_log import log_census

    try:
        run_id = log_census(result.as_run(settings.census_log), settings)
    except RegistryError as error:
        raise RegistryError(f"{error} The results are in {review}; the same command again logs them too.") from error
    print(f"MLflow run: {run_id}")


@app.command()
def dataset(
    review: _Review,
    out: Annotated[Path, typer.Option(help="A new folder for data.yaml, images and labels.")],
    survey: _Survey = None,
    tile: Annotated[int, typer.Option(min=32, help="Side of the tiles around crops, in pixels.")] = 640,
) -> None:
    """Make a training set of what people decided, for `transect train --data`."""
    from transect.review.dataset.make import make_review_dataset
    from transect.review.session import open_review, survey_folder

    settings = load_settings()
    with stoppable(), open_review(review, settings) as session:
        made = make_review_dataset(
            session.truth(),
            out,
            survey=survey_folder(session.items, survey),
            tile=tile,
            max_pixels=settings.max_pixels,
        )
    for split, (images, boxes) in made.splits.items():
        print(f"{split}: {count_of(images, 'image')}, {count_of(boxes, 'box', 'boxes')}")
    if made.shared:
        print(f"{count_of(made.shared, 'photo')} left out, since they show ground of validation or have no footprint.")
    if made.unused:
        print(f"{count_of(made.unused, 'crop')} left out, since an undecided box is near.")
    print(f'Next: transect train --data "{out / "data.yaml"}"')


@app.command()
def migrate() -> None:
    """Bring the tables in TRANSECT_REVIEW_DATABASE up to date, as their owner."""
    from transect.review.decisions.store import migrate as bring_up_to_date

    url = load_settings().review_database
    if not url:
        raise InputError(
            "TRANSECT_REVIEW_DATABASE is empty, so each review has a file, which is brought up to date when it is "
            "opened; there is nothing to migrate."
        )
    done = "brought up to date" if bring_up_to_date(url) else "up to date already"
    print(f"The tables of reviews are {done}.")


def _target(cv: float | None, minutes: float | None, species: str) -> "Target":
    from transect.review.planning.plan import Target

    if cv is None and minutes is None:
        return Target(species=species)
    return Target(cv=cv, minutes=minutes, species=species)
