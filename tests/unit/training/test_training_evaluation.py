import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.engine import Evaluation
from transect.engine.metrics import ClassEvaluation
from transect.training.packaging.evaluation import (
    MAX_CONF,
    MIN_CONF,
    map50_tolerance,
    recommend_confidence,
    warn_of_difference,
)
from transect.training.run_metadata import as_csv, final_metrics, headline


def _class(instances: int) -> ClassEvaluation:
    return ClassEvaluation(
        instances=instances,
        detections=0,
        map50=None,
        map50_95=None,
        precision=None,
        recall=None,
        precision_at_conf=None,
        recall_at_conf=None,
        count_error=None,
    )


def _evaluation(map50: float, *instances: int) -> Evaluation:
    return Evaluation(
        images=1,
        instances=sum(instances),
        map50=map50,
        map50_95=map50 / 2,
        precision=0.9,
        recall=0.8,
        best_conf=0.4,
        conf=0.4,
        precision_at_conf=None,
        recall_at_conf=0.8,
        count_error=0.0,
        per_class={str(number): _class(count) for number, count in enumerate(instances)},
    )


@given(st.floats(0, 1))
def test_the_recommended_confidence_stays_within_its_bounds(best: float) -> None:
    conf = recommend_confidence(best)
    assert MIN_CONF <= conf <= MAX_CONF
    if MIN_CONF <= best <= MAX_CONF:
        assert conf == pytest.approx(best, abs=0.0005)


@pytest.mark.parametrize(
    ("ours", "instances", "warned"),
    [
        (0.5, (100_000,), False),
        (0.48, (100_000,), False),
        (0.47, (100_000,), True),
        (0.53, (100_000,), True),
        # One of ten objects, and one of six of each class.
        (0.4, (10,), False),
        (0.6, (6, 6, 0), False),
        # What is wrong in earnest is seen from few objects too.
        (0.1, (10,), True),
    ],
)
def test_a_model_that_changed_in_export_is_told(
    ours: float, instances: tuple[int, ...], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_difference(_evaluation(ours, *instances), {"mAP50": 0.5})
    assert bool(caplog.records) is warned


def test_more_objects_leave_less_to_chance() -> None:
    assert [round(map50_tolerance([count]), 3) for count in (10, 100, 10_000)] == [0.161, 0.065, 0.024]
    # The mean over classes varies less than each of them, and the rarest one dominates.
    assert map50_tolerance([100, 100]) == pytest.approx(map50_tolerance([200]))
    assert map50_tolerance([100]) < map50_tolerance([1, 199]) < map50_tolerance([1])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_objects_that_change_sides_by_chance_stay_within_it(instances: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    changed = [random.binomial(count, 0.05, 2000) for count in instances]
    signed = [random.binomial(flips, 0.5) * 2 - flips for flips in changed]
    differences = np.mean([flips / count for flips, count in zip(signed, instances, strict=True)], axis=0)
    # Two standard deviations leave out one in twenty; few objects have heavier tails than a normal distribution: up to
    # 0.07 in the long run (one class of 14). 2,000 draws scatter around that by 0.006, and hypothesis looks for the
    # worst seed.
    assert np.mean(np.abs(differences) > map50_tolerance(instances)) < 0.1


def test_names_of_the_run() -> None:
    assert headline(_evaluation(0.6)) == {"precision": 0.9, "recall": 0.8, "mAP50": 0.6, "mAP50-95": 0.3}
    final = final_metrics(_evaluation(0.6))
    assert final["test/mAP50-95"] == 0.3
    assert "test/precision_at_conf" not in final


def test_a_table_is_csv() -> None:
    assert as_csv([{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}]) == 'a,b\n1,"x, y"\n2,\n'
