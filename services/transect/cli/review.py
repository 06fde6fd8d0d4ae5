"""`transect review`: what people decide about the boxes and photos of a census."""

import typer

from transect.errors import InputError
from transect.settings import load_settings

app = typer.Typer(help="Let people check a census.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    # Without a callback Typer takes the only command for the whole program.
    pass


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
