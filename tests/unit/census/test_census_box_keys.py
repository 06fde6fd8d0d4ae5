"""The key of a box: what it is the hash of, and how equal boxes are told apart."""

import hashlib

import numpy as np

from transect.census.sightings.box_keys import box_keys

PHOTO = "ab" * 32


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_key_is_of_photo_class_and_place_to_a_tenth_of_a_pixel() -> None:
    keys = box_keys([PHOTO, PHOTO], ["cow", "Gämse"], np.array([[1.04, 2.06, 30, 40.5], [1, 2, 3, 4]]))
    assert keys == [sha(f"{PHOTO} cow 1.0 2.1 30.0 40.5"), sha(f"{PHOTO} Gämse 1.0 2.0 3.0 4.0")]


def test_equal_boxes_are_numbered_in_their_order() -> None:
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [1.01, 2, 3, 4], [1, 2, 3, 4.04], [5, 6, 7, 8]])
    keys = box_keys([PHOTO] * 4 + ["cd" * 32], ["cow"] * 5, boxes)
    text = f"{PHOTO} cow 1.0 2.0 3.0 4.0"
    assert [keys[row] for row in (0, 2, 3)] == [sha(text), sha(f"{text} 2"), sha(f"{text} 3")]
    assert len(set(keys)) == 5


def test_no_boxes_have_no_keys() -> None:
    assert box_keys([], [], np.empty((0, 4))) == []
