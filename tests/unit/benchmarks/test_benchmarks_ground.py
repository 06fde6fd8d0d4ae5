import numpy as np
import pytest
from benchmarks.ground import FLOWN, LINES, PHOTOS, RECALL, SECOND, Line, compare, fly, judge, photograph, suitable


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_false_alarms_make_the_precision_where_the_model_was_judged(line: Line) -> None:
    rng, photos = np.random.default_rng(1), 200_000
    seen = photograph(line.judged_animals, line, suitable(photos, rng), rng)
    right = seen.right.sum()
    assert right / seen.boxes.sum() == pytest.approx(line.precision, abs=0.02)
    assert right / seen.animals.sum() == pytest.approx(RECALL, abs=0.02)
    assert seen.second.sum() / right == pytest.approx(SECOND, rel=0.2)
    assert seen.animals.sum() / photos * FLOWN * PHOTOS == pytest.approx(line.judged_animals, rel=0.1)


def test_empty_ground_holds_alarms_alone() -> None:
    line = Line(500.0, 500.0, 0.6)
    known, empty = judge(line, np.random.default_rng(2))
    assert known.beside is not None
    assert empty.alarms(["animal"]).sum() / empty.images == pytest.approx(line.alarms, rel=0.25)
    sample, truth = fly(line, np.random.default_rng(3))
    assert len(sample.areas) == len(sample.searched_mpx) == FLOWN
    assert truth > sample.counts[0]


def test_a_sparse_survey_is_right_by_ground_and_wrong_by_precision() -> None:
    sparse = next(line for line in LINES if line.sparse and line.precision == 0.9)
    by_precision, by_ground = compare(sparse, 40, 1)
    assert by_precision.bias > 1
    assert by_precision.held < 0.3
    # Forty surveys of a CV near 0.4: a standard error of 6 to 7%.
    assert abs(by_ground.bias) < 0.2
    assert by_ground.held >= 0.85
