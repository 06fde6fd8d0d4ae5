"""Which version the tables of a database have, and how they are brought to that of this code."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, func, inspect, select, table, text

from transect.errors import InputError
from transect.review.decisions.connection import Address
from transect.review.decisions.tables import Base

VERSION_TABLE = "transect_review_version"
"""Not Alembic's usual `alembic_version`: MLflow's tables, which may be in the same database, use that one."""
ROLE = "transect_review"
"""The role that reads and adds rows, where the database has it: docker/mlflow/initialise.py makes it in the stack."""
HOW_TO_MIGRATE = (
    "run `transect review migrate` as the owner of its tables (in the stack: `docker compose run --rm review-init`)"
)
_LOCK = 0x7472616E73656374  # any number, the same for all who migrate


def versions() -> ScriptDirectory:
    """The versions of the tables that this code knows."""
    return ScriptDirectory(str(Path(__file__).with_name("migrations")))


def is_current(connection: Connection, address: Address) -> bool:
    """Whether the tables are those of this code; false for an older version and for an empty database.

    Raises InputError for a newer version, and for an SQLite file of another program.
    """
    if not inspect(connection).has_table(VERSION_TABLE):
        if address.file is not None and inspect(connection).get_table_names():
            raise InputError(f"{address.shown} is a database of another program; name the file of a review.")
        return False
    found: list[str] = list(connection.scalars(select(column("version_num")).select_from(table(VERSION_TABLE))))
    known = versions()
    if found == [known.get_current_head()]:
        return True
    if not set(found) <= {script.revision for script in known.walk_revisions()}:
        raise InputError(
            f"{address.shown} has the tables of a newer Transect (version {', '.join(found)}); use that one."
        )
    return False


def require_current(connection: Connection, address: Address) -> None:
    """Raise InputError, which says what to do, unless the tables are those of this code."""
    if not is_current(connection, address):
        raise InputError(f"{address.shown} has no tables for reviews, or older ones; {HOW_TO_MIGRATE}.")


def upgrade(connection: Connection, address: Address) -> bool:
    """Bring the tables to the version of this code, in the transaction of `connection`; false where they have it.

    Processes that do so at one time wait for one another. Raises InputError as `is_current` does.
    """
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    current = is_current(connection, address)
    if not current:
        _run_migrations(connection)
    if postgres:
        _grant_rows(connection)
    return not current


def _run_migrations(connection: Connection) -> None:
    script = versions()

    # As Alembic's own command does, which would need files of configuration.
    def steps(revision: object, context: MigrationContext) -> object:
        return script._upgrade_revs("head", revision)  # type: ignore[arg-type]

    with EnvironmentContext(Config(), script, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=True)
        environment.run_migrations()


def _grant_rows(connection: Connection) -> None:
    """Let the role read every table and add rows to those of reviews; the version is the owner's alone."""
    if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": ROLE}) is None:
        return
    names = ", ".join(found.name for found in Base.metadata.sorted_tables)
    connection.execute(text(f"GRANT SELECT, INSERT ON {names} TO {ROLE}"))
    connection.execute(text(f"GRANT SELECT ON {VERSION_TABLE} TO {ROLE}"))
