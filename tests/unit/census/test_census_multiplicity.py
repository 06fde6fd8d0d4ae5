import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import box, union_all

from transect.census.sightings.multiplicity import FootprintIndex

SIDE = 100.0


def squares(middles: NDArray[np.float64], seconds: list[float] | None = None, window_s: float = 20.0) -> FootprintIndex:
    shapes = [box(x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2) for x, y in middles]
    times = np.zeros(len(middles)) if seconds is None else np.array(seconds, np.float64)
    return FootprintIndex(shapes, middles, times, window_s=window_s)


def at(ground: FootprintIndex, x: float, frame: int) -> tuple[int, int, bool]:
    visits = ground.at(np.array([[x, 0.0]]), np.array([frame]))
    return int(visits.count[0]), int(visits.nearest[0]), bool(visits.own_pass[0])


def row(*x: float) -> NDArray[np.float64]:
    return np.array([(one, 0.0) for one in x])


def test_a_place_is_looked_at_by_every_photo_that_shows_it() -> None:
    ground = squares(row(0, 60, 120))
    assert [at(ground, x, 0)[0] for x in (-40, 0, 20, 49)] == [1, 1, 2, 2]
    assert at(ground, 60, 1)[0] == 1
    assert [at(ground, x, 0)[1] for x in (20, 35)] == [0, 1]


def test_the_own_photo_shows_its_place_whatever_rounding_says() -> None:
    ground = squares(row(0, 500))
    assert at(ground, 50.0 + 1e-9, 0) == (1, 0, True)


def test_a_frame_without_a_footprint_shows_nothing() -> None:
    ground = FootprintIndex(
        [None, box(-50, -50, 50, 50)], np.array([[np.nan, np.nan], [0, 0]]), np.zeros(2), window_s=20
    )
    assert at(ground, 0, 1) == (1, 1, True)


def test_photos_of_one_flight_are_one_pass_however_long_it_lasts() -> None:
    ground = squares(row(0, 10, 20, 30), [0, 15, 30, 45])
    assert all(at(ground, 15, frame)[2] for frame in range(4))


def test_ground_flown_again_belongs_to_the_pass_whose_photo_is_nearest() -> None:
    ground = squares(row(0, 10, 60, 70), [0, 5, 900, 905])
    assert [at(ground, 20, frame)[2] for frame in (0, 1, 2, 3)] == [True, True, False, False]
    assert [at(ground, 45, frame)[2] for frame in (0, 1, 2, 3)] == [False, False, True, True]
    # Both passes show it, and each visit counts in its weight.
    assert at(ground, 30, 0)[0] == 4


def test_a_photo_without_a_time_is_of_every_pass() -> None:
    ground = squares(row(0, 60), [float("nan"), 900])
    assert at(ground, 45, 0)[2]
    assert at(ground, 45, 1)[2]


def test_nothing_asked_is_nothing_answered() -> None:
    assert len(squares(row(0)).at(np.empty((0, 2)), np.empty(0, np.int64)).count) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_one_over_the_looks_adds_up_to_the_ground_without_overlap(seed: int, photos: int) -> None:
    # The identity behind the one-look count: over all photos, each place weighs one in all.
    rng = np.random.default_rng(seed)
    middles = rng.uniform(0, 200, (photos, 2))
    ground = squares(middles)
    side = np.arange(-SIDE / 2 + 0.5, SIDE / 2, 1.0)
    cells = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    total = sum(
        (1 / ground.at(middle + cells, np.full(len(cells), photo)).count).sum() for photo, middle in enumerate(middles)
    )
    shapes = [box(x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2) for x, y in middles]
    assert total == pytest.approx(union_all(shapes).area, rel=0.01)
