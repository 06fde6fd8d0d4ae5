"""What a plan aims at, and how long people take."""

import numpy as np
import pytest

from transect.errors import InputError
from transect.review.estimator.allocation import PlannedCell
from transect.review.planning.plan import Target
from transect.review.population.plan import next_numbers


@pytest.mark.parametrize(
    ("cv", "minutes", "reason"),
    [
        (None, None, "give one"),
        (0.1, 60.0, "give one"),
        (0.0, None, "between 0 and 1"),
        (10.0, None, r"between 0 and 1, such as 0\.10"),
        (None, 0.0, "above 0"),
        (None, float("inf"), "above 0"),
        (float("nan"), None, "between 0 and 1"),
    ],
)
def test_an_aim_that_is_none_is_refused(cv: float | None, minutes: float | None, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Target(cv=cv, minutes=minutes)


def test_what_comes_next_is_whole_and_no_more_than_there_is() -> None:
    planned = [PlannedCell(population=10, sd=1, cost=3), PlannedCell(population=5, sd=1, cost=3)]
    found = next_numbers(planned, np.array([7.2, 9.0]), np.array([3, 1]))
    assert found.tolist() == [5, 4]
    assert next_numbers(planned, np.array([2.0, 1.0]), np.array([3, 1])).tolist() == [0, 0]
