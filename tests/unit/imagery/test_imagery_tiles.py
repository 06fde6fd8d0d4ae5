"""Tiles cover everything, overlap enough, and stay inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.errors import InputError
from transect.imagery import Tile, count_tiles, plan_tiles


@settings(deadline=None)  # a busy machine is no failure
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    tile=st.integers(64, 800),
    share=st.floats(0, 0.9),
)
def test_tiles_cover_and_overlap(width: int, height: int, tile: int, share: float) -> None:
    overlap = int(tile * share)
    tiles = plan_tiles(width, height, tile, overlap)
    assert all(t.width == min(tile, width) and t.height == min(tile, height) for t in tiles)
    assert all(t.x >= 0 and t.y >= 0 and t.right <= width and t.bottom <= height for t in tiles)
    for starts, length in ((sorted({t.x for t in tiles}), width), (sorted({t.y for t in tiles}), height)):
        side = min(tile, length)
        assert starts[0] == 0
        assert starts[-1] + side == length
        assert (np.diff(starts) <= side - overlap).all()
    assert len(tiles) == len({(t.x, t.y) for t in tiles}) == len({t.x for t in tiles}) * len({t.y for t in tiles})
    assert count_tiles(width, height, tile, overlap) == len(tiles)


def test_the_last_tile_moves_inward() -> None:
    assert plan_tiles(1000, 500, 640, 128) == [Tile(0, 0, 640, 500), Tile(360, 0, 640, 500)]


def test_an_image_of_one_tile() -> None:
    assert plan_tiles(640, 640, 640, 128) == [Tile(0, 0, 640, 640)]


@pytest.mark.parametrize(("tile", "overlap"), [(640, 640), (640, -1), (64, 100)])
def test_impossible_overlaps_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(InputError, match="overlap"):
        plan_tiles(1000, 1000, tile, overlap)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be tiled"):
        plan_tiles(0, 10, 640, 0)
