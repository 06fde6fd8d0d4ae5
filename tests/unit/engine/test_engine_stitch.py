"""An object that several tiles saw is one box; two objects are two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from transect.engine import Boxes
from transect.engine.boxes import overlaps
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


def one_tile(*boxes: tuple[float, float, float, float], score: float = 0.5, kind: int = 0) -> Boxes:
    count = len(boxes)
    xyxy = np.array(boxes, np.float32).reshape(count, 4)
    return Boxes(xyxy, np.full(count, score, np.float32), np.full(count, kind, np.int64))


def turned(boxes: Boxes, *, axes: bool) -> Boxes:
    return Boxes(boxes.xyxy[:, [1, 0, 3, 2]], boxes.scores, boxes.class_ids) if axes else boxes


# Two tiles side by side that share the columns 512 to 640, or the rows.
LONG, SHORT = 1152, 640


def stitch_pair(one: Boxes, other: Boxes, *, down: bool = False, scale: float = 1.0) -> Boxes:
    """The stitched boxes of the two tiles, which lie one above the other with `down`: x and y change places."""
    size = (SHORT, LONG) if down else (LONG, SHORT)
    tiles = plan_tiles(*size, SIDE, 128)
    parts = [turned(one, axes=down), turned(other, axes=down)]
    return turned(stitch(parts, tiles, *size, *([] if scale == 1 else [scale])), axes=down)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(("gap", "scale", "cut"), [(2, 1, True), (2.25, 1, False), (4, 0.5, True), (1.25, 2, False)])
def test_what_ends_within_two_searched_pixels_of_an_inner_edge_goes_on_beyond(
    down: bool, gap: float, scale: float, cut: bool
) -> None:
    # Wider than what the tiles share. A box that is cut is a piece, and one that is not is the whole animal.
    left, right = one_tile((500, 300, 640 - gap, 340)), one_tile((512 + gap, 300, 660, 340), score=0.9)
    result = stitch_pair(left, right, down=down, scale=scale)
    assert result.xyxy.tolist() == [[500 if cut else 512 + gap, 300, 660, 340]]


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_an_animal_at_the_edge_of_the_image_is_whole(down: bool, scale: float) -> None:
    left, right = one_tile((0, 0, 600, 40)), one_tile((512, 0, 600, 40), score=0.9)
    result = stitch_pair(left, right, down=down, scale=scale)
    assert result.xyxy.tolist() == [[0, 0, 600, 40]]
    assert result.scores.tolist() == [0.5]
    left, right = one_tile((550, 600, 640, 640), score=0.9), one_tile((550, 600, LONG, 640))
    result = stitch_pair(left, right, down=down, scale=scale)
    assert result.xyxy.tolist() == [[550, 600, LONG, 640]]
    assert result.scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("right", "animals"),
    [
        # Beside (520, 300, 620, 400): whole boxes are of one animal from an intersection over union of 0.4,
        ((520, 300, 620, 340), 1),
        ((520, 300, 620, 339), 2),
        # cut ones from 0.3.
        ((512, 355, 612, 450), 1),
        ((512, 356, 612, 451), 2),
    ],
)
@pytest.mark.parametrize("down", [False, True])
def test_how_much_two_boxes_of_one_animal_agree(
    right: tuple[float, float, float, float], animals: int, down: bool
) -> None:
    left = (512, 300, 612, 400) if right[0] == 512 else (520, 300, 620, 400)
    assert len(stitch_pair(one_tile(left), one_tile(right), down=down)) == animals


@pytest.mark.parametrize(
    ("piece", "animals"),
    [
        # Three fifths of a piece must lie in the whole box, give or take two pixels, on whichever side it sticks out.
        ((635, 296, 640, 301), 1),
        ((635, 295.5, 640, 300.5), 2),
        ((635, 349, 640, 354), 1),
        ((635, 349.5, 640, 354.5), 2),
        ((630, 320, 640, 325), 1),
        ((629.5, 320, 640, 325), 2),
    ],
)
@pytest.mark.parametrize("down", [False, True])
def test_a_piece_that_mostly_lies_in_a_whole_box_is_of_that_animal(
    piece: tuple[float, float, float, float], animals: int, down: bool
) -> None:
    whole = one_tile((636, 300, 700, 350))
    assert len(stitch_pair(one_tile(piece, score=0.9), whole, down=down)) == animals


def test_what_one_tile_saw_of_one_class_is_not_what_another_saw_of_another() -> None:
    place = (560.0, 300.0, 600.0, 340.0)
    result = stitch_pair(one_tile(place, kind=1), one_tile(place, kind=2, score=0.9))
    assert result.class_ids.tolist() == [2, 1]


def test_boxes_are_in_order_of_score_and_keep_that_of_the_tiles_where_it_is_one() -> None:
    places = [(10.0 * k, 10.0, 10.0 * k + 6, 20.0) for k in range(45)]
    left = Boxes(np.array(places, np.float32), np.tile([0.3, 0.6, 0.9], 15).astype(np.float32), np.zeros(45, np.int64))
    right = one_tile((700, 300, 720, 320), score=0.7)
    result = stitch_pair(left, right)
    assert result.scores.tolist() == pytest.approx([0.9] * 15 + [0.7] + [0.6] * 15 + [0.3] * 15)
    assert result.xyxy[:15, 0].tolist() == [10.0 * k for k in range(2, 45, 3)]
    assert [str(each.dtype) for each in (result.xyxy, result.scores, result.class_ids)] == [
        "float32",
        "float32",
        "int64",
    ]


@pytest.mark.parametrize("down", [False, True])
def test_a_box_that_fits_two_of_one_tile_is_the_one_it_fits_best(down: bool) -> None:
    left = one_tile((520, 300, 620, 350), (520, 300, 620, 400))
    result = stitch_pair(left, one_tile((520, 300, 620, 398), score=0.9), down=down)
    # The larger one is the animal that the other tile saw, with a better score; the smaller one is its calf.
    assert result.xyxy.tolist() == [[520, 300, 620, 398], [520, 300, 620, 350]]


@pytest.mark.parametrize("down", [False, True])
def test_pieces_of_one_tile_join_the_whole_animal_unless_their_tile_saw_it_whole(down: bool) -> None:
    pieces = [(620.0, 310.0, 640.0, 330.0), (620.0, 370.0, 640.0, 390.0)]
    whole = one_tile((560, 300, 700, 400), score=0.7)
    assert stitch_pair(one_tile(*pieces, score=0.9), whole, down=down).xyxy.tolist() == [[560, 300, 700, 400]]
    beside = stitch_pair(one_tile((560, 302, 636, 400), *pieces), whole, down=down)
    # The whole animal has the best score of the two that saw it so.
    assert beside.xyxy.tolist() == [[560, 300, 700, 400], *map(list, pieces)]


@pytest.mark.parametrize("down", [False, True])
def test_two_pieces_thinner_than_a_pixel_are_one_animal(down: bool) -> None:
    pieces = one_tile((500, 300, 640, 300.25)), one_tile((512, 300, 660, 300.25))
    assert stitch_pair(*pieces, down=down).xyxy.tolist() == [[500, 300, 660, 300.25]]


@pytest.mark.parametrize(
    ("overlap", "ends", "starts", "animals"),
    [
        # Tiles that touch: halves may end two pixels before the edge and begin two pixels after it.
        (0, 638, 642, 1),
        (0, 637.75, 642, 2),
        # So narrow a strip is shared that nothing can be compared in it,
        (4, 638, 638, 1),
        # and one wide enough to see that the boxes hardly agree.
        (5, 638, 637, 2),
    ],
)
@pytest.mark.parametrize("down", [False, True])
def test_halves_meet_at_the_edge_of_their_tiles(
    overlap: int, ends: float, starts: float, animals: int, down: bool
) -> None:
    size = (2 * SIDE - overlap, SIDE)
    tiles = plan_tiles(*(size[::-1] if down else size), SIDE, overlap)
    halves = [one_tile((600, 300, ends, 340)), one_tile((starts, 300, 700, 340))]
    result = stitch([turned(half, axes=down) for half in halves], tiles, *(size[::-1] if down else size))
    assert len(result) == animals
    if animals == 1:
        assert turned(result, axes=down).xyxy.tolist() == [[600, 300, 700, 340]]


@pytest.mark.parametrize("down", [False, True])
def test_tiles_that_share_no_ground_say_nothing_of_each_other(down: bool) -> None:
    size = (1282, SIDE)
    tiles = plan_tiles(*(size[::-1] if down else size), SIDE, 319)
    assert len(tiles) == 3
    # The first tile ends two pixels before the third begins; the second one missed both animals, and saw another.
    parts = [
        one_tile((600, 300, 640, 340), (400, 100, 440, 140)),
        one_tile((400, 100, 440, 140)),
        one_tile((642, 300, 700, 340)),
    ]
    result = stitch([turned(part, axes=down) for part in parts], tiles, *(size[::-1] if down else size))
    assert sorted(turned(result, axes=down).xyxy[:, 0].tolist()) == [400, 600, 642]


def test_pairs_are_found_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "_BLOCK", 1)
    herd = [(516.0 + 12 * k, 300.0, 526.0 + 12 * k, 320.0) for k in range(10)]
    assert sorted(stitch_pair(one_tile(*herd), one_tile(*herd)).xyxy.tolist()) == list(map(list, herd))
