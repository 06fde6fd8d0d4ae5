"""An object that several tiles saw is one box; two objects are two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from transect.engine import Boxes
from transect.engine.boxes.stitch import stitch
from transect.imagery import Tile, plan_tiles

SIDE = 640


def look(
    objects: NDArray[np.float64],
    class_ids: NDArray[np.int64],
    tiles: list[Tile],
    *,
    jitter: float = 0.0,
    least_visible: float = 0.1,
    rng: np.random.Generator | None = None,
) -> list[Boxes]:
    """What a detector would report in each tile: the visible part of each object, give or take `jitter` pixels."""
    rng = rng or np.random.default_rng(0)
    parts = []
    full = (objects[:, 2:] - objects[:, :2]).prod(axis=1)
    for tile in tiles:
        edge = np.array([tile.x, tile.y, tile.right, tile.bottom], dtype=np.float64)
        start, end = np.maximum(objects[:, :2], edge[:2]), np.minimum(objects[:, 2:], edge[2:])
        visible = np.maximum(end - start, 0).prod(axis=1)
        seen = np.flatnonzero(visible >= least_visible * full)
        boxes = np.concatenate([start, end], axis=1)[seen]
        boxes = boxes + rng.uniform(-jitter, jitter, boxes.shape)
        boxes = np.clip(boxes, np.tile(edge[:2], 2), np.tile(edge[2:], 2))
        scores = (0.3 + 0.6 * visible[seen] / full[seen]).astype(np.float32)
        parts.append(Boxes(boxes.astype(np.float32), scores, class_ids[seen]))
    return parts


def assert_one_to_one(result: Boxes, objects: NDArray[np.float64], tolerance: float) -> None:
    assert len(result) == len(objects)
    found = result.xyxy[np.lexsort(result.xyxy.T.round(0))]
    for truth in objects:
        assert np.abs(found - truth).max(axis=1).min() <= tolerance


@settings(max_examples=300, deadline=None)
@given(
    x=st.floats(0, 1700),
    y=st.floats(0, 1200),
    width=st.floats(8, 250),
    height=st.floats(8, 250),
    overlap=st.sampled_from([64, 128, 200]),
    jitter=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_one_object_gives_one_box(
    x: float, y: float, width: float, height: float, overlap: int, jitter: float, seed: int
) -> None:
    objects = np.array([[x, y, min(x + width, 1900.0), min(y + height, 1400.0)]])
    tiles = plan_tiles(1900, 1400, SIDE, overlap)
    parts = look(objects, np.zeros(1, np.int64), tiles, jitter=jitter, rng=np.random.default_rng(seed))
    assert_one_to_one(stitch(parts, tiles, 1900, 1400), objects, 2 * jitter + 2.1)


@settings(max_examples=200, deadline=None)
@given(
    x=st.floats(300, 900),
    y=st.floats(300, 900),
    size=st.floats(12, 100),
    gap=st.floats(0, 10),
    along=st.sampled_from([0, 1]),
    seed=st.integers(0, 1000),
)
def test_two_adjacent_objects_stay_two(x: float, y: float, size: float, gap: float, along: int, seed: int) -> None:
    step = np.array([size + gap, 0]) if along == 0 else np.array([0, size + gap])
    first = np.array([x, y, x + size, y + size])
    objects = np.stack([first, first + np.tile(step, 2)])
    tiles = plan_tiles(1200, 1200, SIDE, 128)
    parts = look(objects, np.zeros(2, np.int64), tiles, jitter=0.5, rng=np.random.default_rng(seed))
    assert_one_to_one(stitch(parts, tiles, 1200, 1200), objects, 3.1)


@pytest.mark.parametrize("offset", range(0, 60, 5))
def test_a_calf_inside_its_mothers_box_stays(offset: int) -> None:
    mother = np.array([560.0, 300, 680, 380])
    calf = np.array([560.0 + offset, 330, 600 + offset, 360])
    objects = np.stack([mother, calf])
    tiles = plan_tiles(1152, 640, SIDE, 128)
    assert_one_to_one(stitch(look(objects, np.zeros(2, np.int64), tiles), tiles, 1152, 640), objects, 2.1)


def test_different_classes_never_join() -> None:
    objects = np.array([[560.0, 300, 600, 340], [560, 300, 600, 340]])
    tiles = plan_tiles(1152, 640, SIDE, 128)
    result = stitch(look(objects, np.array([0, 1]), tiles), tiles, 1152, 640)
    assert sorted(result.class_ids.tolist()) == [0, 1]


def test_tiles_that_only_touch_still_join_halves() -> None:
    objects = np.array([[600.0, 300, 700, 340], [630, 360, 645, 380]])
    tiles = plan_tiles(1280, 640, SIDE, 0)
    assert_one_to_one(stitch(look(objects, np.zeros(2, np.int64), tiles), tiles, 1280, 640), objects, 2.1)


def test_a_badly_drawn_sliver_belongs_to_the_whole() -> None:
    tiles = plan_tiles(1152, 640, SIDE, 128)
    left = Boxes(np.array([[630, 312, 640, 330]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64))
    right = Boxes(
        np.array([[628, 300, 700, 350]], np.float32),
        np.array([0.6], np.float32),
        np.zeros(1, np.int64),
    )
    result = stitch([left, right], tiles, 1152, 640)
    assert result.xyxy.tolist() == [[628, 300, 700, 350]]
    assert result.scores.tolist() == pytest.approx([0.6])


def test_a_herd_of_five_thousand_is_counted_exactly() -> None:
    rng = np.random.default_rng(5)
    cells = rng.choice(200 * 150, 5000, replace=False)
    corner = np.stack([cells % 200, cells // 200], axis=1) * 30.0 + rng.uniform(0, 6, (5000, 2))
    objects = np.concatenate([corner, corner + rng.uniform(10, 22, (5000, 2))], axis=1)
    tiles = plan_tiles(6000, 4500, SIDE, 128)
    class_ids = rng.integers(0, 3, 5000)
    result = stitch(look(objects, class_ids, tiles, jitter=1.0, rng=rng), tiles, 6000, 4500)
    assert len(result) == 5000
    assert np.bincount(result.class_ids).tolist() == np.bincount(class_ids).tolist()
    assert (np.diff(result.scores) <= 0).all()


def test_no_boxes_at_all() -> None:
    empty = Boxes(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
    tiles = plan_tiles(1280, 640, SIDE, 0)
    result = stitch([empty, empty], tiles, 1280, 640)
    assert len(result) == 0
    assert result.xyxy.shape == (0, 4)


def test_truncation_of_one_tile_marks_the_whole() -> None:
    full = Boxes(np.array([[1, 1, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), truncated=True)
    empty = Boxes(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
    assert stitch([full, empty], plan_tiles(1280, 640, SIDE, 0), 1280, 640).truncated
