"""The address of a PostgreSQL database in a variable of the environment."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from transect.errors import SettingsError

_FORM = "postgresql://USER:PASSWORD@HOST/DATABASE"
_NAMES = ("postgresql", "postgres", "postgresql+psycopg2")


def postgres_url(address: str, variable: str, *, kept: str, otherwise: str) -> URL:
    """The address as SQLAlchemy takes it, with the driver that Transect has.

    Raises SettingsError, naming `variable`, for what is no address of PostgreSQL; `kept` is what is kept there, and
    `otherwise` where it is kept when the variable is empty.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(f"{variable} is no address; give {_FORM}.") from error
    if url.drivername not in _NAMES:
        raise SettingsError(
            f"{variable} names {url.drivername}, and {kept} are kept in PostgreSQL: give {_FORM}, or leave it empty "
            f"for {otherwise}."
        )
    return url.set(drivername="postgresql+psycopg2")
