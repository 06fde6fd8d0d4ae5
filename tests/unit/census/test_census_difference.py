import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from transect.census.estimates.difference import Contrast, Estimated, mover, paired, satterthwaite, symmetric, welch
from transect.census.estimates.estimate import estimate_strip
from transect.census.estimates.intervals import StripSample, student


def plain(estimate: float, se: float, df: float = math.inf) -> Estimated:
    return Estimated(estimate, se**2, df, student(estimate, se**2, df))


def contrast(a: Estimated, b: Estimated) -> Contrast:
    found = mover(a, b)
    assert found is not None
    return found


estimates = st.builds(
    lambda estimate, down, up, df: Estimated(
        estimate, (0.5 * estimate * (1 - down + up)) ** 2, df, (estimate * down, estimate * (1 + up))
    ),
    st.floats(1, 1e5),
    st.floats(0.02, 0.98),
    st.floats(0.02, 10),
    st.floats(1, 60),
)


def test_mover_of_normal_estimates_is_the_normal_test() -> None:
    found = contrast(plain(100, 30), plain(220, 40))
    reach = 1.959963984540054
    assert found.ci95 == pytest.approx((120 - reach * 50, 120 + reach * 50))
    assert found.se == pytest.approx(50)
    assert found.p == pytest.approx(2 * stats.norm.sf(120 / 50))


def test_mover_keeps_the_asymmetry_of_the_limits() -> None:
    # By hand: down sqrt(30^2 + 80^2) = 85.440, up sqrt(120^2 + 20^2) = 121.655.
    found = contrast(Estimated(60, 900, 9, (40, 140)), Estimated(200, 1600, 9, (170, 320)))
    assert found.ci95 == pytest.approx((140 - 85.440, 140 + 121.655), abs=1e-3)
    assert found.p < 0.05


def test_ratio_limits_of_normal_estimates_are_fiellers() -> None:
    # Fieller 1954 without correlation: the ratios at which b - ratio a is 1.96 standard errors from 0.
    a, b, reach = plain(100, 10), plain(220, 40), 1.959963984540054
    found = contrast(a, b).ratio_ci95
    assert found is not None
    for ratio in found:
        assert abs(220 - ratio * 100) == pytest.approx(reach * math.hypot(40, ratio * 10))


@given(estimates, estimates)
def test_limits_of_difference_and_ratio_and_p_agree(a: Estimated, b: Estimated) -> None:
    found = contrast(a, b)
    assume(all(abs(limit) > 1e-6 * (a.estimate + b.estimate) for limit in found.ci95))
    differs = not found.ci95[0] <= 0 <= found.ci95[1]
    assert (found.p < 0.05) == differs
    assert found.ratio_ci95 is not None
    low, high = found.ratio_ci95
    assert low <= b.estimate / a.estimate * (1 + 1e-9)
    assert high >= b.estimate / a.estimate * (1 - 1e-9)
    assert (not low <= 1 <= high) == differs


@given(estimates, estimates)
def test_swapping_turns_difference_and_ratio(a: Estimated, b: Estimated) -> None:
    there, back = contrast(a, b), contrast(b, a)
    assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))
    assert there.ratio_ci95 is not None
    assert back.ratio_ci95 == pytest.approx((1 / there.ratio_ci95[1], 1 / there.ratio_ci95[0]))
    if a.estimate != b.estimate:
        assert back.p == pytest.approx(there.p)


@given(estimates, estimates, st.floats(1e-3, 1e3))
def test_units_change_nothing(a: Estimated, b: Estimated, factor: float) -> None:
    def scaled(one: Estimated) -> Estimated:
        assert one.ci95 is not None
        low, high = one.ci95
        return Estimated(one.estimate * factor, one.variance * factor**2, one.degrees, (low * factor, high * factor))

    one, other = contrast(a, b), contrast(scaled(a), scaled(b))
    assert other.p == pytest.approx(one.p, rel=1e-6, abs=1e-12)
    assert other.ratio_ci95 == pytest.approx(one.ratio_ci95)


def test_a_complete_count_leaves_the_limits_of_the_other() -> None:
    found = contrast(Estimated(50, 0, 9, (50, 50)), Estimated(100, 400, 9, (70, 190)))
    assert found.ci95 == pytest.approx((20, 140))
    assert found.ratio_ci95 == pytest.approx((70 / 50, 190 / 50))


def test_what_has_no_limits_has_no_mover() -> None:
    assert mover(Estimated(0, 0, 9, None), plain(100, 20)) is None
    assert mover(Estimated(50, 4, 9, (40, 50)), Estimated(90, 4, 9, (90, 99))) is None


def test_a_limit_at_zero_leaves_no_ratio() -> None:
    assert contrast(Estimated(50, 400, 9, (0, 120)), plain(100, 20)).ratio_ci95 is None


def test_welch_agrees_with_scipy() -> None:
    found = welch(plain(470, 123, 4), plain(1100, 180, 5))
    expected = stats.ttest_ind_from_stats(1100, 180 * 6**0.5, 6, 470, 123 * 5**0.5, 5, equal_var=False)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_satterthwaite_of_equal_variances_adds_the_degrees() -> None:
    assert satterthwaite(plain(10, 3, 7), plain(20, 3, 7)) == pytest.approx(14)
    assert satterthwaite(plain(10, 3, 7), plain(20, 0, 4)) == pytest.approx(7)


def test_paired_of_equal_areas_is_the_paired_t_test() -> None:
    before, after = np.array([3.0, 0, 8, 2, 5, 9]), np.array([5.0, 1, 9, 2, 9, 10])
    se, df = paired(before, after, np.ones(6), 1e12)
    expected = stats.ttest_rel(after, before)
    assert df == 5
    found = symmetric(1e12 * float((after - before).mean()), se, df)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-6)


def test_counts_that_differ_alike_everywhere_have_no_error() -> None:
    areas = np.array([1.0, 2.0, 4.0])
    assert paired(np.array([3.0, 0, 8]), np.array([5.0, 4, 16]), areas, 100) == (0.0, 2.0)


def test_few_transects_against_many_do_not_call_equal_numbers_different() -> None:
    """8 against 40 of 400 transects over herds, the same animals: Welch's t calls one in ten different."""
    generator, surveys, called = np.random.default_rng(5), 150, {"mover": 0, "welch": 0}
    for _ in range(surveys):
        areas = generator.gamma(8, 0.125, 400)
        counts = generator.negative_binomial(0.5, 0.5 / (0.5 + 12 * areas)).astype(float)
        both = []
        for flown in (8, 40):
            chosen = generator.choice(400, flown, replace=False)
            found = estimate_strip([StripSample(counts[chosen], areas[chosen], float(areas.sum()))])
            both.append(Estimated(found.estimate or 0, found.variance or 0, found.df or 1, found.ci95))
        called["mover"] += contrast(*both).p < 0.05
        called["welch"] += welch(*both).p < 0.05
    assert called["mover"] / surveys < 0.09 < called["welch"] / surveys + 0.05
    assert called["mover"] < called["welch"]
