import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.census import add_strata, jolly2, total_coverage

COUNTS, AREAS, STRATUM = [12, 5, 0, 22, 8], [4, 3, 2.5, 5, 3.5], 180.0

transects = st.lists(st.tuples(st.integers(0, 500), st.floats(0.01, 50)), min_size=2, max_size=30)


def test_oracle_of_the_design() -> None:
    found = jolly2(COUNTS, AREAS, STRATUM)
    assert found.estimate == pytest.approx(470.0, abs=1e-9)
    assert found.variance == pytest.approx(15115.451, abs=5e-4)
    assert found.se == pytest.approx(122.9449, abs=5e-5)
    assert found.ci95 == pytest.approx((128.650, 811.350), abs=5e-4)
    assert (found.n, found.seen, found.df, found.method) == (5, 47, 4, "jolly2")


def test_lower_limit_is_never_below_the_animals_seen() -> None:
    found = jolly2([0, 0, 60], [1, 1, 1], 6)
    assert found.ci95 is not None
    assert found.ci95[0] == 60


def test_given_number_of_possible_transects_replaces_the_ratio_of_areas() -> None:
    by_area = jolly2(COUNTS, AREAS, STRATUM)
    same = jolly2(COUNTS, AREAS, STRATUM, transects_possible=STRATUM / (sum(AREAS) / 5))
    more = jolly2(COUNTS, AREAS, STRATUM, transects_possible=100)
    assert same.variance == pytest.approx(by_area.variance)
    assert more.variance is not None
    assert by_area.variance is not None
    assert more.variance > by_area.variance


def test_whole_stratum_flown_has_no_sampling_error() -> None:
    found = jolly2([3, 9], [1, 2], 3)
    assert found.estimate == pytest.approx(12)
    assert found.se == pytest.approx(0, abs=1e-6)


def test_one_transect_has_an_estimate_and_no_interval() -> None:
    found = jolly2([7], [2.0], 10)
    assert found.estimate == pytest.approx(35)
    assert found.se is None
    assert found.ci95 is None
    assert "at least two" in found.note


def test_nothing_seen_has_no_interval_that_looks_certain() -> None:
    found = jolly2([0, 0, 0], [1, 2, 3], 60)
    assert found.estimate == 0
    assert found.ci95 is None
    assert found.note


@pytest.mark.parametrize(
    ("counts", "areas", "stratum"),
    [
        ([], [], 10),
        ([1], [1, 2], 10),
        ([1, 2], [1, 0], 10),
        ([1, 2], [1, -1], 10),
        ([-1, 2], [1, 1], 10),
        ([1, 2], [1, 1], 0),
        ([1, math.nan], [1, 1], 10),
        ([1, 2], [1, math.inf], 10),
        ([1, 2], [6, 5], 10),
    ],
)
def test_impossible_surveys_are_refused(counts: list[float], areas: list[float], stratum: float) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        jolly2(counts, areas, stratum)


def test_fewer_possible_transects_than_flown_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer"):
        jolly2([1, 2], [1, 1], 10, transects_possible=1)


@given(transects)
def test_order_of_transects_does_not_matter(data: list[tuple[int, float]]) -> None:
    shuffled = sorted(data, key=lambda pair: (pair[1], pair[0]))
    area = 20 * sum(z for _, z in data)
    one = jolly2([y for y, _ in data], [z for _, z in data], area)
    other = jolly2([y for y, _ in shuffled], [z for _, z in shuffled], area)
    assert other.estimate == pytest.approx(one.estimate)
    assert other.variance == pytest.approx(one.variance, rel=1e-6, abs=1e-6)


@given(transects, st.floats(1e-3, 1e3))
def test_units_of_area_do_not_matter(data: list[tuple[int, float]], factor: float) -> None:
    area = 20 * sum(z for _, z in data)
    one = jolly2([y for y, _ in data], [z for _, z in data], area)
    other = jolly2([y for y, _ in data], [z * factor for _, z in data], area * factor)
    assert other.estimate == pytest.approx(one.estimate)
    assert other.variance == pytest.approx(one.variance, rel=1e-6, abs=1e-6)


@given(transects)
def test_limits_hold_the_estimate_and_the_animals_seen(data: list[tuple[int, float]]) -> None:
    found = jolly2([y for y, _ in data], [z for _, z in data], 20 * sum(z for _, z in data))
    assert found.variance is not None
    assert found.variance >= 0
    if found.ci95 is not None:
        assert found.estimate is not None
        assert found.seen <= found.ci95[0] <= found.estimate * (1 + 1e-9)
        assert found.estimate <= found.ci95[1] * (1 + 1e-9)


@given(transects)
def test_a_transect_without_animals_counts(data: list[tuple[int, float]]) -> None:
    area = 20 * sum(z for _, z in data) + 1
    without = jolly2([y for y, _ in data], [z for _, z in data], area)
    with_zero = jolly2([*(y for y, _ in data), 0], [*(z for _, z in data), 0.5], area)
    assert with_zero.n == without.n + 1
    assert with_zero.estimate is not None
    assert without.estimate is not None
    assert with_zero.estimate <= without.estimate


def test_strata_add() -> None:
    one, two = jolly2(COUNTS, AREAS, STRATUM), jolly2([1, 4, 2], [1, 2, 1], 40)
    both = add_strata([one, two])
    assert both.estimate == pytest.approx((one.estimate or 0) + (two.estimate or 0))
    assert both.variance == pytest.approx((one.variance or 0) + (two.variance or 0))
    assert both.n == 8
    assert both.seen == 54
    # The spread of the first stratum dominates, so its degrees of freedom nearly do.
    assert both.df == pytest.approx(4, abs=0.2)
    assert both.ci95 is not None


def test_one_stratum_is_its_own_sum() -> None:
    one = jolly2(COUNTS, AREAS, STRATUM)
    assert add_strata([one]) == one


def test_a_stratum_without_interval_leaves_the_sum_without_one() -> None:
    both = add_strata([jolly2(COUNTS, AREAS, STRATUM), jolly2([3], [1], 10)])
    assert both.estimate == pytest.approx(500)
    assert both.ci95 is None
    assert "at least two" in both.note


def test_total_coverage_is_the_count_over_the_covered_share() -> None:
    assert total_coverage(50, 4, 5).estimate == pytest.approx(62.5)
    assert total_coverage(50, 5, 5).estimate == 50
    # Photos that reach over the border cover no more than all of it.
    assert total_coverage(50, 6, 5).estimate == 50
    with pytest.raises(ValueError, match="above zero"):
        total_coverage(1, 0, 5)
