"""Tiles of a training set, and how ground is divided."""

import numpy as np
import pytest
from shapely import box as rectangle

from transect.review.dataset.splits import ground_of, split_by_ground, without_shared_ground
from transect.review.dataset.tiles import Labelled, grid_windows, labels_in, window_around


def labelled(boxes: list[list[float]], open_boxes: list[list[float]] | None = None) -> Labelled:
    return Labelled(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        classes=np.arange(len(boxes)),
        open_boxes=np.array(open_boxes or [], np.float64).reshape(-1, 4),
    )


@pytest.mark.parametrize(("width", "height"), [(100, 80), (64, 64), (50, 300), (1000, 20)])
def test_the_grid_covers_every_pixel_and_nothing_else(width: int, height: int) -> None:
    seen = np.zeros((height, width), bool)
    for x, y, wide, high in grid_windows(width, height, 64):
        assert (wide, high) == (min(64, width), min(64, height))
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
        seen[y : y + high, x : x + wide] = True
    assert seen.all()


def test_a_window_around_a_box_stays_in_the_photo() -> None:
    assert window_around([0, 0, 10, 10], 200, 100, 64) == (0, 0, 64, 64)
    assert window_around([190, 90, 200, 100], 200, 100, 64) == (136, 36, 64, 64)
    assert window_around([95, 45, 105, 55], 200, 100, 64) == (68, 18, 64, 64)
    assert window_around([5, 5, 10, 10], 40, 30, 64) == (0, 0, 40, 30)


def test_labels_are_shares_of_the_window() -> None:
    rows = labels_in((10, 20, 100, 50), labelled([[20, 30, 40, 40], [500, 500, 510, 510]]))
    assert rows == [(0, 0.2, 0.3, 0.2, 0.2)]


def test_a_window_with_a_box_that_nobody_decided_is_no_training_image() -> None:
    one = labelled([[20, 30, 40, 40]], [[60, 30, 70, 40]])
    assert labels_in((0, 0, 100, 100), one) is None
    assert labels_in((0, 0, 50, 100), one) is not None


def test_an_animal_is_cut_at_the_edge_and_a_fragment_makes_a_window_unusable() -> None:
    assert labels_in((30, 0, 100, 100), labelled([[20, 20, 40, 40]])) == [(0, 0.05, 0.3, 0.1, 0.2)]
    assert labels_in((31, 0, 100, 100), labelled([[20, 20, 40, 40]])) is None
    assert labels_in((40, 0, 100, 100), labelled([[20, 20, 40, 40]])) == []


def test_transects_are_divided_and_blocks_where_there_are_few() -> None:
    transects = [("s", name) for name in "AABBCCDD"]
    assert ground_of(transects, [(0.0, 0.0)] * 8) == transects
    assert ground_of([("s", "A"), None], [(0.0, 0.0), (260.0, -1.0)]) == [(0, 0), (1, -1)]


@pytest.mark.parametrize("seed", range(20))
def test_validation_gets_whole_pieces_of_ground_and_training_the_richest(seed: int) -> None:
    ground = [name for name in "ABCDEF" for _ in range(5)]
    animals = [10 if name == "C" else number % 3 for number, name in enumerate(ground)]
    found = split_by_ground(seed, ground, animals)
    sides = {name: {split for one, split in zip(ground, found, strict=True) if one == name} for name in "ABCDEF"}
    assert all(len(one) == 1 for one in sides.values())
    assert sides["C"] == {"train"}
    assert {"val"} in sides.values()


def test_training_shows_no_ground_of_validation() -> None:
    shapes = {0: rectangle(0, 0, 10, 10), 1: rectangle(9, 0, 20, 10), 2: rectangle(30, 0, 40, 10)}
    assert without_shared_ground({0: "val", 1: "train", 2: "train"}, shapes) == {0: "val", 2: "train"}
