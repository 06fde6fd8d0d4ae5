"""The letterbox is the one that models are validated with, and boxes find their way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.imagery import letterbox


@pytest.mark.parametrize(
    "shape",
    [(640, 640), (480, 640), (641, 480), (37, 211), (1080, 1920), (100, 100), (1, 300), (333, 1), (639, 640)],
)
@pytest.mark.parametrize("size", [320, 640])
def test_pixels_equal_those_of_ultralytics(shape: tuple[int, int], size: int) -> None:
    theirs = pytest.importorskip("ultralytics.data.augment")
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    expected = theirs.LetterBox(size, auto=False, center=True)(image=image.copy())
    assert np.array_equal(letterbox(image, size)[0], expected)
    used = np.full((size, size, 3), 7, np.uint8)
    assert np.array_equal(letterbox(image, size, into=used)[0], expected)
    assert shape == (size, size) or np.array_equal(used, expected)


@settings(deadline=None)
@given(width=st.integers(1, 900), height=st.integers(1, 900), seed=st.integers(0, 1000))
def test_boxes_round_trip(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.sort(rng.random((20, 2, 2)), axis=1) * [width, height]
    boxes = points.reshape(20, 4).astype(np.float32)
    square, transform = letterbox(np.zeros((height, width, 3), np.uint8), 640)
    assert square.shape == (640, 640, 3)
    inside = transform.to_input(boxes)
    assert inside.min() >= -1e-3
    assert inside.max() <= 640 + 1e-3
    assert np.allclose(transform.to_image(inside), boxes, atol=2e-3 * max(1, width / 640, height / 640))


def test_boxes_are_clipped_to_the_image() -> None:
    _, transform = letterbox(np.zeros((100, 200, 3), np.uint8), 640)
    assert transform.to_image(np.array([[-50, -50, 900, 900]], np.float32)).tolist() == [[0, 0, 200, 100]]


def test_no_boxes() -> None:
    _, transform = letterbox(np.zeros((100, 200, 3), np.uint8), 640)
    assert transform.to_image(np.empty((0, 4), np.float32)).shape == (0, 4)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(letterbox(image, 64)[0], image)
