"""The tables of people's decisions: rows are added and never changed (migrations/ makes the triggers that hold it).

All keys are natural ones, so that a row delivered twice is the same row, and nobody needs a right to sequences.
"""

from datetime import UTC, datetime

from sqlalchemy import CheckConstraint, DateTime, Dialect, ForeignKeyConstraint, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import BigInteger, Double, TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, always UTC when it is read; SQLite stores it without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time in UTC, with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """What the tables have in common."""

    type_annotation_map = {str: Text, datetime: UtcTime, float: Double}  # noqa: RUF012 - SQLAlchemy declares it so


class ReviewRow(Base):
    """One review, and the census result that it stands on."""

    __tablename__ = "review"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    survey_digest: Mapped[str]
    census_run: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())


class DrawnItemRow(Base):
    """A box or photo that was handed out because chance put it next."""

    __tablename__ = "drawn_item"
    __table_args__ = (
        ForeignKeyConstraint(["review"], ["review.id"], name="drawn_item_review"),
        CheckConstraint("kind IN ('box', 'photo')", name="drawn_item_kind"),
        {"sqlite_with_rowid": False},
    )

    review: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    batch: Mapped[str]
    drawn_at: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())


class DecisionRow(Base):
    """One `Decision`."""

    __tablename__ = "decision"
    __table_args__ = (
        ForeignKeyConstraint(["review"], ["review.id"], name="decision_review"),
        CheckConstraint("verdict IN ('keep', 'reject', 'species', 'duplicate', 'unsure')", name="decision_verdict"),
        CheckConstraint("drawn IN ('sample', 'choice')", name="decision_drawn"),
        {"sqlite_with_rowid": False},
    )

    review: Mapped[str] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(primary_key=True)
    photo_sha256: Mapped[str]
    box_key: Mapped[str]
    verdict: Mapped[str]
    reviewer: Mapped[str]
    drawn: Mapped[str]
    species: Mapped[str]
    decided_at: Mapped[datetime | None]
    milliseconds: Mapped[int | None] = mapped_column(BigInteger)
    settles: Mapped[bool]
    note: Mapped[str]
    supersedes: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())


class PhotoSearchRow(Base):
    """One `PhotoSearch`; its boxes are rows of `added_box`."""

    __tablename__ = "photo_search"
    __table_args__ = (
        ForeignKeyConstraint(["review"], ["review.id"], name="photo_search_review"),
        CheckConstraint("drawn IN ('sample', 'choice')", name="photo_search_drawn"),
        {"sqlite_with_rowid": False},
    )

    review: Mapped[str] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(primary_key=True)
    photo_sha256: Mapped[str]
    reviewer: Mapped[str]
    drawn: Mapped[str]
    blind: Mapped[bool]
    done_at: Mapped[datetime | None]
    milliseconds: Mapped[int | None] = mapped_column(BigInteger)
    settles: Mapped[bool]
    note: Mapped[str]
    supersedes: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())


class AddedBoxRow(Base):
    """One `AddedBox` of a search; `number` is its place there."""

    __tablename__ = "added_box"
    __table_args__ = (
        ForeignKeyConstraint(
            ["review", "search"], ["photo_search.review", "photo_search.uuid"], name="added_box_search"
        ),
        {"sqlite_with_rowid": False},
    )

    review: Mapped[str] = mapped_column(primary_key=True)
    search: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    x1: Mapped[float]
    y1: Mapped[float]
    x2: Mapped[float]
    y2: Mapped[float]
    species: Mapped[str]
    before_reveal: Mapped[bool]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())
