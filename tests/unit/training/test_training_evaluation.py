import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.engine import Evaluation
from transect.training.evaluation import MAX_CONF, MIN_CONF, recommend_confidence, warn_of_difference
from transect.training.record import as_csv, final_metrics, headline


def _evaluation(map50: float) -> Evaluation:
    return Evaluation(
        images=1,
        instances=1,
        map50=map50,
        map50_95=map50 / 2,
        precision=0.9,
        recall=0.8,
        best_conf=0.4,
        conf=0.4,
        precision_at_conf=None,
        recall_at_conf=0.8,
        count_error=0.0,
        per_class={},
    )


@given(st.floats(0, 1))
def test_the_recommended_confidence_stays_within_its_bounds(best: float) -> None:
    conf = recommend_confidence(best)
    assert MIN_CONF <= conf <= MAX_CONF
    if MIN_CONF <= best <= MAX_CONF:
        assert conf == pytest.approx(best, abs=0.0005)


@pytest.mark.parametrize(("ours", "warned"), [(0.5, False), (0.485, False), (0.45, True), (0.55, True)])
def test_a_model_that_changed_in_export_is_told(ours: float, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_difference(_evaluation(ours), {"mAP50": 0.5})
    assert bool(caplog.records) is warned


def test_names_of_the_run() -> None:
    assert headline(_evaluation(0.6)) == {"precision": 0.9, "recall": 0.8, "mAP50": 0.6, "mAP50-95": 0.3}
    final = final_metrics(_evaluation(0.6))
    assert final["test/mAP50-95"] == 0.3
    assert "test/precision_at_conf" not in final


def test_a_table_is_csv() -> None:
    assert as_csv([{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}]) == 'a,b\n1,"x, y"\n2,\n'
