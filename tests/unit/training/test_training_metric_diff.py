import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.training.reproduce.logged_training import is_deterministic_metric
from transect.training.reproduce.metric_diff import TOLERANCE, compare_histories

_HISTORIES = st.dictionaries(
    st.sampled_from(["train/loss", "val/loss", "test/mAP50"]),
    st.dictionaries(st.integers(1, 5), st.floats(), min_size=1),
)


@given(histories=_HISTORIES)
def test_every_training_is_the_same_as_itself(histories: dict[str, dict[int, float]]) -> None:
    found = compare_histories(histories, histories)
    assert (found.different, found.largest) == ((), 0.0)
    assert found.sentence.startswith("The same to 1e-06")


@given(step=st.integers(1, 5), amount=st.floats(1e-5, 1e3))
def test_the_step_that_differs_most_is_named(step: int, amount: float) -> None:
    old = {"val/loss": dict.fromkeys(range(1, 6), 1.0), "other": {1: 0.5}}
    new = {"val/loss": {**old["val/loss"], step: 1.0 + amount}, "other": {1: 0.5 + TOLERANCE / 2}, "more": {1: 9.0}}
    found = compare_histories(old, new)
    (different,) = found.different
    assert (different.metric, different.step, different.new) == ("val/loss", step, 1.0 + amount)
    assert found.largest == pytest.approx(amount)
    assert "1 of 2 metrics differ: val/loss by" in found.sentence


@pytest.mark.parametrize("new", [{}, {"loss": {1: 0.5}}, {"loss": {1: 0.5, 2: math.nan}}])
def test_what_is_missing_or_no_number_is_different(new: dict[str, dict[int, float]]) -> None:
    found = compare_histories({"loss": {1: 0.5, 2: 0.25}}, new)
    assert [one.metric for one in found.different] == ["loss"]
    assert found.largest == math.inf


def test_infinity_is_what_mlflow_makes_of_it() -> None:
    assert not compare_histories({"loss": {1: 1.7976931348623157e308}}, {"loss": {1: math.inf}}).different
    assert compare_histories({"loss": {1: 1.7976931348623157e308}}, {"loss": {1: -math.inf}}).different


def test_what_the_clock_measures_is_left_out() -> None:
    names = ("system/cpu_utilization_percentage", "int8/speedup", "int8/passed", "train/loss")
    assert [is_deterministic_metric(name) for name in names] == [False, False, True, True]
