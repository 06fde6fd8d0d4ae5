import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.census.estimates.estimate import STRIP_METHODS, StripMethod, estimate_strip, sampling_limits
from transect.census.estimates.intervals import StripSample, lognormal, percentile, student, studentised

COUNTS, AREAS, STRATUM = [12, 5, 0, 22, 8, 31, 2, 9], [4, 3, 2.5, 5, 3.5, 4.5, 2, 3.7], 300.0

samples = st.lists(st.tuples(st.integers(0, 300), st.floats(0.05, 20)), min_size=5, max_size=15).filter(
    lambda pairs: len({round(y / z, 6) for y, z in pairs}) > 2
)


def sample(pairs: list[tuple[int, float]], factor: float = 1.0, share: float = 0.1) -> StripSample:
    areas = [z * factor for _, z in pairs]
    return StripSample.of([y for y, _ in pairs], areas, sum(areas) / share)


def test_student_limits_are_the_formula() -> None:
    assert student(470, 15115.451388888887, 4) == pytest.approx((128.650, 811.350), abs=5e-4)


def test_lognormal_limits_are_the_formula() -> None:
    # CV 0.5: C = exp(1.959964 sqrt(ln 1.25)) = exp(0.925851) = 2.5240, worked by hand.
    low, high = lognormal(100, 2500, math.inf)
    assert high == pytest.approx(252.40, abs=0.01)
    assert low == pytest.approx(100 / 2.5240, abs=0.005)


@pytest.mark.parametrize("method", STRIP_METHODS)
def test_the_limits_of_sampling_alone_are_those_of_the_estimate_without_its_floor(method: StripMethod) -> None:
    strata = [StripSample.of(COUNTS, AREAS, STRATUM), StripSample.of([3, 9, 1, 7, 2], [2, 4, 1.5, 3, 2], 500)]
    assert sampling_limits(strata, method) == estimate_strip(strata, method).ci95
    # Nearly all ground was searched: the animals seen are more than the lower limit.
    whole = [StripSample.of([0, 40, 1, 0, 22], [1, 1, 1, 1, 1], 6)]
    low, high = estimate_strip(whole, method).ci95 or (0, 0)
    assert low == 63
    assert sampling_limits(whole, method)[0] < 63
    assert sampling_limits(whole, method)[1] == high


def test_studentised_limits_of_normal_data_are_near_students() -> None:
    generator = np.random.default_rng(2)
    counts = np.round(generator.normal(1000, 60, 60))
    one = StripSample(counts, np.ones(60), 600)
    low, high = studentised([one])
    expected = student(one.estimate, one.variance or 0, 59)
    assert low == pytest.approx(expected[0], rel=0.01)
    assert high == pytest.approx(expected[1], rel=0.01)


def test_studentised_limits_reach_further_up_for_herds() -> None:
    one = StripSample.of([0, 1, 0, 0, 90, 3, 0, 12, 0, 2], [1] * 10, 100)
    low, high = studentised([one])
    assert low is not None
    assert high is not None
    assert high - one.estimate > 2 * (one.estimate - low)
    assert high > student(one.estimate, one.variance or 0, 9)[1]


def test_studentised_agrees_with_the_formula_on_many_draws() -> None:
    one = StripSample.of(COUNTS, AREAS, STRATUM)
    chosen = np.random.default_rng(4).integers(0, 8, (200_000, 7))
    y, z = one.counts[chosen], one.areas[chosen]
    ratio = y.sum(axis=1) / z.sum(axis=1)
    variance = np.var(y - ratio[:, None] * z, axis=1, ddof=1) / 7 / z.mean(axis=1) ** 2
    se = math.sqrt(one.variance or 0)
    with np.errstate(divide="ignore"):
        pivots = (ratio - one.ratio) / np.sqrt(variance)
    expected = [one.estimate - quantile * se for quantile in np.quantile(pivots, [0.975, 0.025])]
    assert studentised([one]) == pytest.approx(expected, abs=0.1 * se)


def test_too_few_transects_with_animals_have_no_finite_limit() -> None:
    one = StripSample.of([0, 0, 0, 0, 0, 0, 0, 8], AREAS, STRATUM)
    assert studentised([one])[1] is None
    found = estimate_strip([one])
    assert found.ci95 is not None
    assert found.ci95[1] == pytest.approx(lognormal(one.estimate, one.variance or 0, 7)[1])
    assert "1 of 8 transects" in found.note


def test_each_limit_is_that_of_the_wider_method_and_needs_no_note() -> None:
    one = StripSample.of([17, 19, 21, 23, 24], [4, 4, 4, 2, 2], 400)
    by_formula, drawn = lognormal(one.estimate, one.variance or 0, 4), studentised([one])
    assert drawn[0] is not None
    assert drawn[1] is not None
    assert by_formula[0] < drawn[0]
    assert by_formula[1] < drawn[1]
    found = estimate_strip([one])
    assert (found.ci95, found.note) == ((by_formula[0], drawn[1]), "")
    for method in STRIP_METHODS:
        assert estimate_strip([one], method).note == ""


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_handful_of_transects_gets_finite_limits_and_a_note(n: int) -> None:
    found = estimate_strip([StripSample.of(COUNTS[:n], AREAS[:n], STRATUM)])
    assert found.ci95 is not None
    assert np.isfinite(found.ci95).all()
    assert "too few to resample" in found.note


def test_percentile_limits_shrink_with_the_share_that_was_flown() -> None:
    few = percentile([StripSample.of(COUNTS, AREAS, STRATUM)])
    most = percentile([StripSample.of(COUNTS, AREAS, sum(AREAS) / 0.9)])
    assert (few[1] - few[0]) / STRATUM > 2 * (most[1] - most[0]) / (sum(AREAS) / 0.9)


@given(samples, st.sampled_from(STRIP_METHODS), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_order_of_transects_changes_nothing(
    pairs: list[tuple[int, float]], method: StripMethod, random: object
) -> None:
    shuffled = sorted(pairs, key=lambda _: random.random())  # type: ignore[attr-defined] # hypothesis types it as object
    whole = sum(z for _, z in pairs) * 10
    one, other = (
        estimate_strip([StripSample.of([y for y, _ in each], [z for _, z in each], whole)], method)
        for each in (pairs, shuffled)
    )
    assert other.estimate == pytest.approx(one.estimate)
    assert other.ci95 == pytest.approx(one.ci95, rel=1e-6) if one.ci95 else other.ci95 is None


@given(samples, st.sampled_from(STRIP_METHODS), st.sampled_from([2.0**-10, 0.25, 8.0, 1024.0]))
@settings(deadline=None, max_examples=40)
def test_units_of_area_change_nothing(pairs: list[tuple[int, float]], method: StripMethod, factor: float) -> None:
    one, other = estimate_strip([sample(pairs)], method), estimate_strip([sample(pairs, factor)], method)
    assert other.estimate == pytest.approx(one.estimate)
    assert other.ci95 == pytest.approx(one.ci95, rel=1e-6) if one.ci95 else other.ci95 is None


@given(st.lists(samples, min_size=1, max_size=3), st.sampled_from(STRIP_METHODS))
@settings(deadline=None, max_examples=40)
def test_limits_hold_the_estimate_and_the_animals_seen(
    strata: list[list[tuple[int, float]]], method: StripMethod
) -> None:
    found = estimate_strip([sample(pairs) for pairs in strata], method)
    assert found.estimate is not None
    if found.ci95 is not None:
        low, high = found.ci95
        assert math.isfinite(high)
        assert found.seen <= low <= found.estimate * (1 + 1e-9)
        assert found.estimate <= high * (1 + 1e-9)
    else:
        assert found.note


@given(samples, samples, st.sampled_from(STRIP_METHODS))
@settings(deadline=None, max_examples=30)
def test_order_of_strata_changes_nothing(
    one: list[tuple[int, float]], other: list[tuple[int, float]], method: StripMethod
) -> None:
    there, back = (estimate_strip([sample(a), sample(b)], method) for a, b in ((one, other), (other, one)))
    assert back.estimate == pytest.approx(there.estimate)
    assert back.ci95 == pytest.approx(there.ci95) if there.ci95 else back.ci95 is None


def test_strata_of_one_size_are_not_resampled_alike() -> None:
    one = StripSample.of(COUNTS, AREAS, STRATUM)
    single, double = estimate_strip([one], "percentile"), estimate_strip([one, one], "percentile")
    assert single.ci95 is not None
    assert double.ci95 is not None
    # Independent errors add as squares: the width grows by the root of 2, not by 2.
    growth = (double.ci95[1] - double.ci95[0]) / (single.ci95[1] - single.ci95[0])
    assert growth == pytest.approx(math.sqrt(2), abs=0.1)


def test_a_stratum_without_animals_leaves_the_bootstrap_of_the_others() -> None:
    one = StripSample.of(COUNTS, AREAS, STRATUM)
    empty = StripSample.of([0, 0, 0, 0, 0], [1, 2, 1, 2, 1], 70)
    alone, both = estimate_strip([one]), estimate_strip([one, empty])
    assert both.ci95 == pytest.approx(alone.ci95)


@pytest.mark.parametrize("k", [0.5, 3.0])
def test_the_recommended_limits_hold_the_truth(k: float) -> None:
    generator, hits, surveys = np.random.default_rng(11), 0, 150
    for _ in range(surveys):
        areas = generator.gamma(8, 0.125, 200)
        counts = generator.negative_binomial(k, k / (k + 12 * areas)).astype(float)
        flown = generator.choice(200, 20, replace=False)
        limits = estimate_strip([StripSample(counts[flown], areas[flown], float(areas.sum()))]).ci95
        assert limits is not None
        hits += limits[0] <= counts.sum() <= limits[1]
    assert hits / surveys >= 0.90
