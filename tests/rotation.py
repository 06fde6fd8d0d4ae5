"""Rotate long tests by the date, so that continuous integration stays under an hour."""

from datetime import UTC, date, datetime

import pytest

DAYS = 3


def has_its_turn(number: int, day: date) -> bool:
    """Whether the rotating test of this number, in the order of collection, runs on `day`."""
    return number % DAYS == turn_of_the_day(day)


def turn_of_the_day(day: date | None = None) -> int:
    """The part, from 0, of a test in DAYS parts that runs on `day` (default: today)."""
    return (day or datetime.now(UTC).date()).toordinal() % DAYS


def rest_of_the_day(items: list[pytest.Item], day: date | None = None) -> None:
    """Skip the tests marked `rotating` that run on another day."""
    today = day or datetime.now(UTC).date()
    rotating = [item for item in items if item.get_closest_marker("rotating")]
    for number, item in enumerate(rotating):
        if not has_its_turn(number, today):
            item.add_marker(pytest.mark.skip(reason=f"runs every {DAYS} days with --rotate, always with make test-all"))
