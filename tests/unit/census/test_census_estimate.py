import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.census import add_strata, jolly2, total_coverage
from transect.census.estimates.estimate import STRIP_METHODS, estimate_strip
from transect.census.estimates.intervals import StripSample

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


def test_total_coverage_says_what_it_rests_on() -> None:
    assert total_coverage(50, 5, 5).note == "Total coverage has no sampling error, so no interval."
    assert total_coverage(50, 4, 5).note == (
        "80.0% of the area was covered; the rest is taken to hold as many animals per km2."
    )


# Published worked examples. The ratio estimator is Jolly's method II with another name for the ground: x for z.


def test_scheaffer_timber_sale() -> None:
    # Scheaffer, Mendenhall and Ott, Elementary Survey Sampling, ch. 6, exercise 6.1: volume from basal area, 12 of 250
    # trees, 75 square feet in all. A printed solution: r 21.194, total 1589.55, variance 8678.56, bound 186.31.
    basal_area = [0.3, 0.5, 0.4, 0.9, 0.7, 0.2, 0.6, 0.5, 0.8, 0.4, 0.8, 0.6]
    found = jolly2([6, 9, 7, 19, 15, 5, 12, 9, 20, 9, 18, 13], basal_area, 75, transects_possible=250)
    assert found.density == pytest.approx(21.1940, abs=5e-5)
    assert found.estimate == pytest.approx(1589.55, abs=5e-3)
    assert found.variance == pytest.approx(8678.56, abs=5e-3)
    assert 2 * (found.se or 0) == pytest.approx(186.317, abs=1e-3)


@pytest.mark.parametrize(
    ("pair", "total", "variance"),
    [
        ((0, 1), 265, 8),
        ((0, 2), 263.0075, 18.0903),
        ((0, 3), 268.8971, 0.0017),
        ((1, 2), 258.8372, 1.7307),
        ((1, 3), 265, 8),
        ((2, 3), 263.0370, 18.2677),
    ],
)
def test_borkowski_every_sample_of_a_small_population(pair: tuple[int, int], total: float, variance: float) -> None:
    # J. Borkowski, lecture notes on sampling, Montana State University, "Demonstration of bias in ratio estimation":
    # all samples of 2 out of 4 units, t_x = 265, with the estimate and its estimated variance to four decimals.
    x, y = [67, 63, 66, 69], [68, 62, 64, 70]
    found = jolly2([y[i] for i in pair], [x[i] for i in pair], 265, transects_possible=4)
    assert found.estimate == pytest.approx(total, abs=5e-5)
    assert found.variance == pytest.approx(variance, abs=5e-5)


def test_lehtonen_and_pahkinen_province_91() -> None:
    # Lehtonen and Pahkinen, Practical Methods for Design and Analysis of Complex Surveys, p. 102, as UCLA's statistical
    # consulting reworks it: unemployed over households in 8 of 32 municipalities, 6610 / 41238 = 0.16028905.
    households = [26881, 4896, 3730, 556, 1463, 1946, 834, 932]
    found = jolly2([4123, 760, 721, 142, 187, 331, 127, 219], households, 4 * 41238, transects_possible=32)
    assert (found.seen, found.area_km2) == (6610, 41238)
    assert found.density == pytest.approx(0.16028905, abs=5e-9)


@given(transects, st.integers(31, 500))
def test_variance_is_that_of_the_fish_and_wildlife_service(data: list[tuple[int, float]], possible: int) -> None:
    # The form of PhotoEstimate in AKaerial, by which the U.S. Fish and Wildlife Service counts on strips of photos:
    # M2 (1 - m / M) / m (s2_count + d2 s2_area - 2 d cov).
    y, z = np.array([y for y, _ in data], float), np.array([z for _, z in data])
    density = y.sum() / z.sum()
    spread = y.var(ddof=1) + density**2 * z.var(ddof=1) - 2 * density * np.cov(y, z)[0, 1]
    expected = possible**2 * (1 - len(data) / possible) / len(data) * spread
    found = jolly2(list(y), list(z), 20 * float(z.sum()), transects_possible=possible)
    assert found.variance == pytest.approx(expected, rel=1e-6, abs=1e-9 * possible**2 * (1 + y.max() ** 2))


def test_every_method_shares_estimate_and_variance() -> None:
    one = StripSample.of(COUNTS, AREAS, STRATUM)
    for method in STRIP_METHODS:
        found = estimate_strip([one], method)
        assert found.estimate == pytest.approx(470)
        assert found.variance == pytest.approx(15115.451, abs=5e-4)
        assert found.method == method
        assert found.sampled_share == pytest.approx(0.1)


@given(transects, transects)
def test_strata_flown_at_one_rate_can_be_merged(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> None:
    strata = [
        StripSample.of([y for y, _ in each], [z for _, z in each], 12 * sum(z for _, z in each))
        for each in (one, other)
    ]
    both = [*one, *other]
    merged = jolly2([y for y, _ in both], [z for _, z in both], 12 * sum(z for _, z in both))
    whole = estimate_strip(strata, "jolly2")
    assert whole.estimate == pytest.approx(merged.estimate)
    assert (whole.n, whole.seen) == (merged.n, merged.seen)
    assert whole.density == pytest.approx(merged.density)
    assert whole.stratum_km2 == pytest.approx(merged.stratum_km2)


def test_density_of_strata_is_that_of_the_whole_ground() -> None:
    # Half of the animals on a tenth of the ground, which was flown ten times as much.
    dense, thin = StripSample.of([10, 30], [1, 1], 4), StripSample.of([1, 3], [1, 1], 40)
    whole = estimate_strip([dense, thin])
    assert whole.estimate == pytest.approx(160)
    assert whole.density == pytest.approx(160 / 44)


def test_sums_by_samples_and_by_estimates_agree() -> None:
    strata = [StripSample.of(COUNTS, AREAS, STRATUM), StripSample.of([1, 4, 2], [1, 2, 1], 40)]
    parts = [estimate_strip([one], "jolly2") for one in strata]
    assert add_strata(parts) == estimate_strip(strata, "jolly2")


def test_a_bootstrap_is_not_added_without_its_transects() -> None:
    parts = [
        estimate_strip([StripSample.of(COUNTS, AREAS, STRATUM)]),
        estimate_strip([StripSample.of([1, 4], [1, 2], 40)]),
    ]
    both = add_strata(parts)
    assert both.estimate is not None
    assert both.se is not None
    assert both.ci95 is None


def test_equal_densities_are_no_certainty() -> None:
    one = StripSample.of([2, 4, 6], [1, 2, 3], 60)
    found, by_jolly = estimate_strip([one]), estimate_strip([one], "jolly2")
    assert found.variance == 0
    assert found.ci95 is None
    assert "error of the estimate is unknown" in found.note
    assert by_jolly.ci95 == pytest.approx((120, 120))
    assert "error of the estimate is unknown" in by_jolly.note


def test_one_stratum_of_equal_densities_is_named_in_the_sum() -> None:
    found = estimate_strip([StripSample.of([2, 4, 6], [1, 2, 3], 60), StripSample.of(COUNTS, AREAS, STRATUM)])
    assert found.ci95 is not None
    assert "In 1 of 2 strata" in found.note


def test_everything_flown_leaves_no_error() -> None:
    found = estimate_strip([StripSample.of([3, 9, 1, 0, 4], [1, 2, 1, 1, 1], 6)])
    assert found.ci95 == pytest.approx((17, 17))
    assert "no sampling error" in found.note


def test_none_seen_says_what_could_have_been_missed() -> None:
    # (1 - 0.1) ** 28 = 0.052: all of 28 groups are missed one time in twenty.
    found = estimate_strip([StripSample.of([0] * 5, [1] * 5, 50)])
    assert found.estimate == 0
    assert found.ci95 is None
    assert "28 groups" in found.note


def test_one_transect_in_one_stratum_takes_the_limits_of_the_sum() -> None:
    found = estimate_strip([StripSample.of(COUNTS, AREAS, STRATUM), StripSample.of([3], [1], 10)])
    assert found.estimate == pytest.approx(500)
    assert found.ci95 is None
    assert found.variance is None
    assert "at least two" in found.note


def test_no_strata_are_refused() -> None:
    with pytest.raises(ValueError, match="no strata"):
        estimate_strip([])
    with pytest.raises(ValueError, match="no strata"):
        add_strata([])


def test_a_stratum_without_spread_is_named_however_little_was_seen_in_it() -> None:
    # Boxes that count for half an animal each.
    even, other = StripSample.of([0.5, 0.5], [1, 1], 10), StripSample.of([3, 9, 5], [1, 1, 1], 10)
    note = estimate_strip([even, other], "lognormal").note
    assert note == (
        "In 1 of 2 strata all transects happen to have one density, so the error of the estimate is unknown."
    )
    assert estimate_strip([StripSample.of([0, 0], [1, 1], 10), other], "lognormal").note == ""
