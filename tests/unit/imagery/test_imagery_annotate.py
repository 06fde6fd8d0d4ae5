"""Drawn boxes are where the detections are, and the picture itself is left alone."""

import numpy as np
import pytest

from transect.engine import Detection
from transect.imagery import PALETTE, annotate


def test_a_box_is_drawn_in_its_class_colour() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = annotate(image, [Detection((50, 60, 120, 140), 0.9, 1, "goat")], line=1)
    assert not image.any()
    assert drawn.shape == image.shape
    assert tuple(drawn[100, 50]) == PALETTE[1]
    assert tuple(drawn[140, 80]) == PALETTE[1]
    assert not drawn[100, 80].any()


@pytest.mark.parametrize(
    "box", [(0, 0, 5, 5), (295, 195, 300, 200), (0, 0, 300, 200), (-10, -10, 400, 400), (9, 9, 9, 9)]
)
def test_labels_stay_inside(box: tuple[float, float, float, float]) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    labelled = annotate(image, [Detection(box, 0.5, 0, "oryx \u00e9")])
    bare = annotate(image, [Detection(box, 0.5, 0, "oryx \u00e9")], labels=False)
    assert (labelled != bare).any()
    assert labelled.shape == image.shape


def test_no_detection_changes_nothing() -> None:
    image = np.full((20, 30, 3), 7, np.uint8)
    assert np.array_equal(annotate(image, []), image)
