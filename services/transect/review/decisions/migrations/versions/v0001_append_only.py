"""The first tables, and the triggers that let rows be added alone.

There is no way back: it would delete what people decided.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TABLES = {
    "review": ("id",),
    "drawn_item": ("review", "kind", "key"),
    "decision": ("review", "uuid"),
    "photo_search": ("review", "uuid"),
    "added_box": ("review", "search", "number"),
}
_POSTGRES_FUNCTION = """
CREATE FUNCTION transect_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are added and never changed', TG_TABLE_NAME;
END
$$
"""


def upgrade() -> None:
    """Make the tables, then their triggers."""
    _make_review()
    _make_decision()
    _make_photo_search()
    postgres = op.get_bind().dialect.name == "postgresql"
    if postgres:
        op.execute(_POSTGRES_FUNCTION)
    for table, key in _TABLES.items():
        for statement in _postgres_triggers(table) if postgres else _sqlite_triggers(table, key):
            op.execute(statement)


def _make_review() -> None:
    op.create_table(
        "review",
        sa.Column("id", sa.Text, primary_key=True),
        _text("name"),
        _text("survey_digest"),
        _text("census_run"),
        _text("created_by"),
        _now("created_at"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "drawn_item",
        *(sa.Column(name, sa.Text, primary_key=True) for name in _TABLES["drawn_item"]),
        _text("batch"),
        _now("drawn_at"),
        sa.ForeignKeyConstraint(["review"], ["review.id"], name="drawn_item_review"),
        sa.CheckConstraint("kind IN ('box', 'photo')", name="drawn_item_kind"),
        sqlite_with_rowid=False,
    )


def _make_decision() -> None:
    op.create_table(
        "decision",
        *(sa.Column(name, sa.Text, primary_key=True) for name in _TABLES["decision"]),
        *(_text(name) for name in ("photo_sha256", "box_key", "verdict", "reviewer", "drawn", "species")),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.Column("milliseconds", sa.BigInteger),
        sa.Column("settles", sa.Boolean, nullable=False),
        _text("note"),
        _text("supersedes"),
        _now("recorded_at"),
        sa.ForeignKeyConstraint(["review"], ["review.id"], name="decision_review"),
        sa.CheckConstraint("verdict IN ('keep', 'reject', 'species', 'duplicate', 'unsure')", name="decision_verdict"),
        sa.CheckConstraint("drawn IN ('sample', 'choice')", name="decision_drawn"),
        sqlite_with_rowid=False,
    )


def _make_photo_search() -> None:
    op.create_table(
        "photo_search",
        *(sa.Column(name, sa.Text, primary_key=True) for name in _TABLES["photo_search"]),
        *(_text(name) for name in ("photo_sha256", "reviewer", "drawn")),
        sa.Column("blind", sa.Boolean, nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True)),
        sa.Column("milliseconds", sa.BigInteger),
        sa.Column("settles", sa.Boolean, nullable=False),
        _text("note"),
        _text("supersedes"),
        _now("recorded_at"),
        sa.ForeignKeyConstraint(["review"], ["review.id"], name="photo_search_review"),
        sa.CheckConstraint("drawn IN ('sample', 'choice')", name="photo_search_drawn"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "added_box",
        sa.Column("review", sa.Text, primary_key=True),
        sa.Column("search", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("x1", "y1", "x2", "y2")),
        _text("species"),
        sa.Column("before_reveal", sa.Boolean, nullable=False),
        _now("recorded_at"),
        sa.ForeignKeyConstraint(
            ["review", "search"], ["photo_search.review", "photo_search.uuid"], name="added_box_search"
        ),
        sqlite_with_rowid=False,
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.current_timestamp(), nullable=False)


def _postgres_triggers(table: str) -> list[str]:
    """A statement that would change no row is refused too, and so is TRUNCATE, for which rows have no trigger."""
    return [
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION transect_append_only()"
    ]


def _sqlite_triggers(table: str, key: tuple[str, ...]) -> list[str]:
    """INSERT OR REPLACE deletes a row without asking the trigger of DELETE, so a row that is there is refused too."""
    same = " AND ".join(f"{name} = NEW.{name}" for name in key)
    refuse = f"SELECT RAISE(ABORT, 'rows of {table} are added and never changed');"
    there = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - names of this file
    return [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN {refuse} END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN {refuse} END",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} {there} BEGIN {refuse} END",
    ]
