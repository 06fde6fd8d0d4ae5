import math

import numpy as np
import pytest
from scipy.stats import beta, chi2

from transect.arrays import FloatArray
from transect.census.estimates.factor import _correlation, estimate_factor
from transect.census.estimates.rates import PRIOR_EVENTS, rate, rate_design_effect, share, share_design_effect


def single(events: int, trials: int) -> tuple[FloatArray, FloatArray]:
    """One trial an image, of which the first so many were events."""
    return (np.arange(trials) < events).astype(float), np.ones(trials)


@pytest.mark.parametrize(
    ("events", "low", "high"), [(0, 0, 0.217), (1, 0.011, 0.381), (2, 0.044, 0.503), (10, 0.783, 1)]
)
def test_single_trials_have_jeffreys_limits(events: int, low: float, high: float) -> None:
    # Brown, Cai and DasGupta 2001, table 5, n = 10.
    found = share(*single(events, 10))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)
    assert found.se > 0
    assert math.isfinite(found.cv)


def test_no_event_has_an_upper_limit_and_an_error() -> None:
    found = rate(np.zeros(8), np.full(8, 0.5))
    # A square of a normal deviate is twice a Gamma(1/2).
    assert found.value == found.low == 0
    assert found.high == pytest.approx(chi2(1).ppf(0.975) / 2 / 4)
    assert found.se == pytest.approx(math.sqrt(0.5 + 0.25) / 4)
    assert found.cv == pytest.approx(math.sqrt(2))


def test_the_limits_of_a_rate_come_near_the_normal_ones_where_there_are_many() -> None:
    found = rate(np.full(2500, 4.0), np.full(2500, 2.0))
    assert found.value == 2
    assert found.cv == pytest.approx(0.01, rel=0.01)
    assert found.se == pytest.approx(0.02, rel=0.01)
    assert (found.low, found.high) == pytest.approx((2 - 0.0392, 2 + 0.0392), abs=5e-4)


def test_exposure_that_is_drawn_with_the_images_adds_its_own_scatter() -> None:
    events, exposure = np.array([3.0, 0, 5, 2]), np.array([4.0, 1, 9, 6])
    fixed = rate_design_effect(events, exposure).effect
    drawn = rate_design_effect(events, exposure, random_exposure=True).effect
    # The squared coefficient of variation of a sum of four, and 10 events to 4 of the prior.
    cv2 = 4 * np.var(exposure, ddof=1) / exposure.sum() ** 2
    assert fixed > 1
    assert drawn - fixed == pytest.approx(4 / 14 * 10 * cv2)


def test_animals_missed_by_the_herd_count_as_few() -> None:
    # Two images of 10, one of them missed: rho would be above 1, so it is 1, and weighs 10 (1 - 200 / 400) = 5 to 4.
    found = share_design_effect(np.array([10.0, 0.0]), np.array([10.0, 10.0]))
    correlation = 5 / 9 + 4 / 9 * 0.05
    assert found.effect == pytest.approx(1 + correlation * 9)
    # t(0.975, 1) = 12.7062.
    assert found.widening == pytest.approx(1 + 5 / 9 * ((12.7062 / 1.959964) ** 2 - 1), rel=1e-5)


def test_without_an_error_herds_have_the_prior_correlation() -> None:
    found = share_design_effect(np.zeros(3), np.array([21.0, 21.0, 0.0]))
    assert found.effect == pytest.approx(1 + 0.05 * 20)
    assert found.widening == 1
    known = share(np.zeros(3), np.array([21.0, 21.0, 0.0]))
    assert known.high == pytest.approx(beta(0.5, 21.5).ppf(0.975))


def test_false_alarms_of_one_image_count_as_few() -> None:
    # 20 on one of ten images: residuals 18 and nine of -2, so 360 / 0.9 / 20 = 20, and the prior 1 + 20 / 10, 20 to 4.
    found = rate_design_effect(np.array([20.0, *[0.0] * 9]), np.ones(10))
    assert found.effect == pytest.approx(20 * 20 / 24 + 3 * 4 / 24)
    # t(0.975, 9) = 2.26216.
    assert found.widening == pytest.approx(1 + 20 / 24 * ((2.26216 / 1.959964) ** 2 - 1), rel=1e-5)


def test_a_correlation_of_few_images_counts_as_their_number_less_one() -> None:
    # Residuals of -2, 0 and 2 in both: a correlation of 1, of nine errors each on three images.
    errors, labelled = np.array([1.0, 3.0, 5.0]), np.full(3, 10.0)
    assert float(_correlation(errors, errors, labelled)) == pytest.approx(2 / (2 + PRIOR_EVENTS))
    # One error of a kind has the weight of one, however many images there are.
    single = np.array([0.0, 0.0, 1.0])
    found = np.corrcoef(errors, single)[0, 1]
    assert float(_correlation(errors, single, labelled)) == pytest.approx(found / (1 + PRIOR_EVENTS))


def test_one_image_takes_what_is_typical() -> None:
    known = estimate_factor(np.array([9.0]), np.array([1.0]), np.array([1.0]))
    # 10 animals: 1 + 0.05 * 9 of misses; 1 + 1 for the image and 1 for the animals in it, of false alarms.
    assert share_design_effect(np.array([1.0]), np.array([10.0])).effect == pytest.approx(1.45)
    assert rate_design_effect(np.array([1.0]), np.array([10.0]), random_exposure=True).effect == pytest.approx(3)
    assert known.factor.low < 1 < known.factor.high


def test_many_sets_are_computed_at_once() -> None:
    rng = np.random.default_rng(2)
    right, wrong, missed = (rng.poisson(mean, (5, 12)).astype(float) for mean in (6, 0.5, 0.4))
    whole = estimate_factor(right, wrong, missed)
    for row in range(5):
        one = estimate_factor(right[row], wrong[row], missed[row])
        for name in ("value", "se", "low", "high", "cv"):
            assert getattr(one.factor, name) == pytest.approx(getattr(whole.factor, name)[row])


@pytest.mark.parametrize(
    ("events", "trials", "words"),
    [
        ([1.0], [0.5], "more events"),
        ([0.0], [0.0], "exposed"),
        ([-1.0], [2.0], "negative"),
        ([1.0], [1.0, 1.0], "shapes"),
    ],
)
def test_impossible_counts_are_refused(events: list[float], trials: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        share(np.array(events), np.array(trials))


@pytest.mark.parametrize(("correlation", "recall"), [(0.0, 0.9), (0.1, 0.9), (0.1, 0.99)])
def test_limits_of_the_factor_hold_the_truth(correlation: float, recall: float) -> None:
    # 200 animals on average in 30 images, half of them empty, and 0.06 false alarms an animal, by the ground.
    rng = np.random.default_rng(3)
    shape = (2000, 30)
    animals = np.where(rng.random(shape) < 0.5, rng.geometric(0.075, shape), 0)
    found = rng.beta(recall * 9, (1 - recall) * 9, shape) if correlation else recall
    right = rng.binomial(animals, found).astype(float)
    wrong = rng.poisson(0.4 * (rng.exponential(1, shape) if correlation else 1), shape).astype(float)
    known = estimate_factor(right, wrong, animals - right).factor
    truth = 1 / (recall + 0.4 / (0.5 / 0.075))
    share_held = np.mean((known.low <= truth) & (truth <= known.high))
    # Two standard errors of a simulation of 2,000 more than the 93 to 97% of benchmarks/factor.py.
    assert 0.92 < share_held < 0.98
