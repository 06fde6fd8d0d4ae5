"""Every long test has its turn, and no day has none."""

from datetime import date, timedelta

import pytest

from rotation import DAYS, has_its_turn, rest_of_the_day


def test_each_runs_once_in_a_round_of_days() -> None:
    start = date(2026, 12, 30)
    for number in range(7):
        turns = [has_its_turn(number, start + timedelta(days=day)) for day in range(DAYS)]
        assert turns.count(True) == 1


def test_only_rotating_tests_are_left_out(request: pytest.FixtureRequest) -> None:
    plain = request.node
    long = [pytest.Function.from_parent(plain.parent, name=f"{plain.name}", callobj=plain.obj) for _ in range(DAYS)]
    for item in long:
        item.add_marker(pytest.mark.rotating)
    before = plain.get_closest_marker("skip")
    rest_of_the_day([long[0], plain, *long[1:]], date(2026, 12, 30))
    assert plain.get_closest_marker("skip") is before
    assert [item.get_closest_marker("skip") is None for item in long].count(True) == 1
