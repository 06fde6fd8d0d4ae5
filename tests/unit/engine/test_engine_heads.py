"""Raw outputs of both kinds of head to boxes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from transect.engine.boxes.heads import check_output, decode, shift_scores
from transect.engine.types import Boxes
from transect.errors import PackageError


def anchor_free(*rows: list[float]) -> NDArray[np.float32]:
    """Rows of x, y, w, h and a score for each class."""
    return np.array(rows, np.float32).T[None]


def read(output: NDArray[np.float32], head: str = "anchor-free", **options: object) -> Boxes:
    defaults = {"conf": 0.25, "iou": 0.5, "class_ids": None, "max_det": 100, "multi_label": False}
    return decode(output, head, **(defaults | options))  # type: ignore[arg-type]  # a plain dict of options


def test_centre_and_size_become_corners() -> None:
    boxes = read(anchor_free([50, 40, 20, 10, 0.1, 0.9]))
    assert boxes.xyxy.tolist() == [[40, 35, 60, 45]]
    assert boxes.class_ids.tolist() == [1]
    assert boxes.scores.tolist() == pytest.approx([0.9])


def test_scores_must_exceed_the_threshold() -> None:
    assert len(read(anchor_free([50, 40, 20, 10, 0.25, 0]))) == 0
    assert len(read(anchor_free([50, 40, 20, 10, 0.26, 0]))) == 1


def test_multi_label_gives_a_box_a_class() -> None:
    output = anchor_free([50, 40, 20, 10, 0.6, 0.9])
    assert read(output).class_ids.tolist() == [1]
    assert read(output, multi_label=True).class_ids.tolist() == [1, 0]


def test_suppression_is_within_a_class() -> None:
    output = anchor_free([50, 40, 20, 10, 0.9, 0], [51, 40, 20, 10, 0.8, 0], [50, 40, 20, 10, 0, 0.7])
    assert read(output).class_ids.tolist() == [0, 1]


def test_an_end_to_end_head_needs_no_suppression() -> None:
    rows = [[0, 0, 10, 10, 0.5, 1], [0, 0, 10, 10, 0.9, 1], [5, 5, 9, 9, 0.1, 0]]
    boxes = read(np.array([rows], np.float32), "end-to-end")
    assert boxes.scores.tolist() == pytest.approx([0.9, 0.5])
    assert boxes.class_ids.tolist() == [1, 1]
    assert not boxes.truncated


def test_a_full_end_to_end_head_is_truncated() -> None:
    rows = np.tile(np.array([0, 0, 10, 10, 0.9, 0], np.float32), (300, 1))[None]
    assert read(rows, "end-to-end", max_det=1000).truncated
    assert read(rows, "end-to-end", max_det=1000, class_ids=np.array([1])).truncated


SHIFT = np.array([0.5, -0.5], np.float32)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_shift_equals_one_in_the_raw_scores(multi_label: bool) -> None:
    rng = np.random.default_rng(0)
    raw = anchor_free(*([50 + 100 * k, 40, 20, 10, *rng.uniform(0, 1, 2)] for k in range(200)))
    moved = raw.copy()
    moved[0, 4:] = shift_scores(raw[0, 4:], SHIFT[:, None])
    expected, found = (
        read(output, conf=0.4, max_det=1000, multi_label=multi_label, score_shift=shift)
        for output, shift in ((moved, None), (raw, SHIFT))
    )
    assert 100 < len(expected) < 350
    assert found.xyxy.tolist() == expected.xyxy.tolist()
    assert found.scores == pytest.approx(expected.scores, abs=1e-6)
    assert found.class_ids.tolist() == expected.class_ids.tolist()


def test_the_class_is_chosen_after_the_shift() -> None:
    output = anchor_free([50, 40, 20, 10, 0.5, 0.55])
    assert read(output).class_ids.tolist() == [1]
    assert read(output, score_shift=SHIFT).class_ids.tolist() == [0]


def test_an_end_to_end_head_is_shifted_too() -> None:
    output = np.array([[[0, 0, 5, 5, 0.35, 0], [9, 9, 20, 20, 0.45, 1]]], np.float32)
    boxes = read(output, "end-to-end", conf=0.4, score_shift=SHIFT)
    assert boxes.class_ids.tolist() == [0]
    assert boxes.scores.tolist() == pytest.approx([1 / (1 + (0.65 / 0.35) * np.exp(-0.5))], abs=1e-6)


def test_certainty_stays_certainty() -> None:
    ends = np.array([0, 1], np.float32)
    assert shift_scores(ends, np.array([3, -3], np.float32)).tolist() == [0, 1]


def test_classes_are_filtered() -> None:
    output = anchor_free([50, 40, 20, 10, 0.9, 0], [90, 40, 20, 10, 0, 0.7])
    assert read(output, class_ids=np.array([1])).class_ids.tolist() == [1]


def test_max_det_keeps_the_best() -> None:
    output = anchor_free(*[[50 * k, 40, 20, 10, 0.3 + 0.05 * k, 0] for k in range(6)])
    boxes = read(output, max_det=2)
    assert boxes.scores.tolist() == pytest.approx([0.55, 0.5])
    assert boxes.truncated


@pytest.mark.parametrize(
    ("shape", "head", "classes", "fits"),
    [
        ((1, 7, 84), "anchor-free", 3, True),
        ((1, 7, 84), "anchor-free", 2, False),
        ((1, 84, 7), "anchor-free", 3, False),
        ((2, 7, 84), "anchor-free", 3, False),
        ((1, 7, 0), "anchor-free", 3, False),
        ((7, 84), "anchor-free", 3, False),
        ((1, 300, 6), "end-to-end", 3, True),
        ((1, 6, 300), "end-to-end", 2, False),
    ],
)
def test_shapes_are_checked(shape: tuple[int, ...], head: str, classes: int, fits: bool) -> None:
    output = np.zeros(shape, np.float32)
    if fits:
        check_output(output, head, classes)
        return
    with pytest.raises(PackageError, match="shape"):
        check_output(output, head, classes)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    output = np.zeros((1, 7, 84), np.float32)
    output[0, 5, 3] = value
    with pytest.raises(PackageError, match="not finite"):
        check_output(output, "anchor-free", 3)
