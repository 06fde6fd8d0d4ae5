import numpy as np
import pytest

from transect.engine import Boxes
from transect.training.packaging.score_calibration import match_scores, mean_shift


def boxes(*rows: tuple[float, float, float, int]) -> Boxes:
    """Squares of side 10 at (x, y) with a score and a class."""
    x, y, score, kind = (np.array(column) for column in zip(*rows, strict=True))
    xyxy = np.stack([x, y, x + 10, y + 10], axis=1).astype(np.float32)
    return Boxes(xyxy, score.astype(np.float32), kind.astype(np.int64))


def test_objects_are_matched_by_place_and_class() -> None:
    first = boxes((0, 0, 0.9, 0), (50, 0, 0.5, 1), (90, 0, 0.4, 0))
    second = boxes((50, 1, 0.45, 1), (0, 1, 0.8, 0), (90, 0, 0.4, 1), (20, 20, 0.7, 0))
    class_ids, one, other = match_scores(first, second)
    assert class_ids.tolist() == [0, 1]
    assert one.tolist() == pytest.approx([0.9, 0.5])
    assert other.tolist() == pytest.approx([0.8, 0.45])


def test_nothing_found_matches_nothing() -> None:
    none = Boxes(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
    assert all(len(column) == 0 for column in match_scores(none, boxes((0, 0, 0.5, 0))))


def lowered(scores: np.ndarray, by: np.ndarray) -> np.ndarray:
    odds = scores / (1 - scores) * np.exp(-by)
    return np.asarray(odds / (1 + odds))


def test_the_shift_of_each_class_is_found() -> None:
    rng = np.random.default_rng(0)
    class_ids = rng.integers(0, 2, 2000)
    wanted = rng.uniform(0.05, 0.95, 2000)
    truth = np.array([0.04, -0.1])
    given = lowered(wanted, truth[class_ids])
    assert mean_shift(class_ids, wanted, given, 2, 0.4) == pytest.approx(tuple(truth), abs=1e-6)


def test_noise_on_both_sides_is_not_taken_for_a_shift() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(-4, 3, 20_000)
    one, other = (1 / (1 + np.exp(-(truth + rng.normal(0, 0.3, 20_000)))) for _ in range(2))
    (shift,) = mean_shift(np.zeros(20_000, np.int64), one, other, 1, 0.4)
    assert abs(shift) < 0.03


def test_a_rare_class_takes_the_shift_of_all() -> None:
    class_ids = np.array([0] * 100 + [1] * 5)
    wanted = np.full(105, 0.5)
    found = mean_shift(class_ids, wanted, lowered(wanted, np.full(105, 0.2)), 2, 0.5)
    assert found == pytest.approx((0.2, 0.2))


def test_too_few_pairs_give_no_shift() -> None:
    half = np.full(10, 0.5)
    assert mean_shift(np.zeros(10, np.int64), half, half * 0.9, 1, 0.5) == ()
