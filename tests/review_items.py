"""Decisions and searches for tests of the store of reviews."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

from transect.review.decisions.decision import AddedBox, Decision, PhotoSearch
from transect.review.decisions.store import DecisionStore

REVIEW = "review-1"
PHOTO = "a" * 64


def decision(uuid: str, **changed: object) -> Decision:
    """A decision; everything but its uuid may be left out."""
    usual: dict[str, object] = {
        "photo_sha256": PHOTO,
        "box_key": "b" * 64,
        "verdict": "keep",
        "reviewer": "ada",
        "drawn": "sample",
        # With microseconds, and in a zone that is not UTC.
        "decided_at": datetime(2026, 11, 30, 14, 5, 6, 123457, tzinfo=timezone(timedelta(hours=2))),
        "milliseconds": 812,
    }
    return Decision(uuid=uuid, **{**usual, **changed})  # type: ignore[arg-type]


def search(uuid: str, *boxes: tuple[float, float, float, float], **changed: object) -> PhotoSearch:
    """A search that found `boxes`."""
    usual: dict[str, object] = {"photo_sha256": PHOTO, "reviewer": "ada", "drawn": "sample", "blind": True}
    added = tuple(AddedBox(box=box, species="zebra", before_reveal=number % 2 == 0) for number, box in enumerate(boxes))
    return PhotoSearch(uuid=uuid, added=added, **{**usual, **changed})  # type: ignore[arg-type]


def add_review(store: DecisionStore, review_id: str = REVIEW, **changed: str) -> None:
    """Add a review as one census would."""
    usual = {"name": "first", "created_by": "ada", "survey_digest": "c" * 64, "census_run": "0123456789ab"}
    store.add_review(review_id, **{**usual, **changed})


EVERY_FIELD = (
    decision("d1"),
    decision(
        "d2",
        verdict="species",
        species="eland, Æðr 🦌",
        reviewer="bo",
        drawn="choice",
        decided_at=None,
        milliseconds=None,
        settles=True,
        note="two\nlines, 'quoted' \"twice\"; %s :name",
        supersedes="d1",
    ),
    decision("d3", verdict="reject", decided_at=datetime(2026, 1, 1, tzinfo=UTC), milliseconds=0),
)
EVERY_SEARCH = (
    search("s1", (1.0, 2.5, 1e-17, 1234.123456789), (0.1, 0.2, 0.30000000000000004, 4.0)),
    search("s2", blind=False, done_at=datetime(2026, 1, 1, 12, tzinfo=UTC), milliseconds=60_000, note="n"),
    search("s3", (1, 2, 3, 4), settles=True, supersedes="s2", reviewer="bo", drawn="choice"),
)


def start_writer(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """A Python process that imports what this one can import, and says on its standard output how far it is."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
