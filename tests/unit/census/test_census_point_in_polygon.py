import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box, points, union_all

from transect.census.ground.point_in_polygon import nearest_polygon


def squares(corners: list[tuple[float, float]], side: float = 10.0) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    return np.array([box(x, y, x + side, y + side) for x, y in corners], object)


def test_no_places_or_no_polygons() -> None:
    none, owner = np.array([], object), np.array([], np.int64)
    assert nearest_polygon(np.zeros((2, 2)), none, none, owner, 1.0).tolist() == [-1, -1]
    assert len(nearest_polygon(np.empty((0, 2)), squares([(0, 0)]), squares([(0, 0)]), np.array([0]), 1.0)) == 0


def test_a_place_on_a_common_border_is_in_the_first() -> None:
    shapes = squares([(0, 0), (10, 0)])
    assert nearest_polygon(np.array([[10.0, 5.0]]), shapes, shapes, np.array([0, 1]), 1.0).tolist() == [0]


def test_within_reach_the_nearest_else_none() -> None:
    shapes = squares([(0, 0), (14, 0)])
    places = np.array([[11.0, 5.0], [13.0, 5.0], [12.0, 5.0], [5.0, 12.5], [1e6, -1e6]])
    assert nearest_polygon(places, shapes, shapes, np.array([0, 1]), 2.0).tolist() == [0, 1, 0, -1, -1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 20.0]), st.floats(0.1, 500))
def test_cells_find_what_asking_every_polygon_finds(seed: int, reach: float, side: float) -> None:
    rng = np.random.default_rng(seed)
    parts = squares([(x, y) for x, y in rng.uniform(-300, 300, (12, 2)).tolist()], side)
    owner = np.sort(rng.integers(0, 4, 12))
    _, owner = np.unique(owner, return_inverse=True)
    polygons = np.array([union_all(parts[owner == one]) for one in range(owner.max() + 1)], object)
    places = rng.uniform(-400, 400, (150, 2))
    found = nearest_polygon(places, polygons, parts, owner, reach)
    apart = np.array([[polygon.distance(place) for polygon in polygons] for place in points(places)])
    assert found.tolist() == np.where(apart.min(axis=1) <= reach, apart.argmin(axis=1), -1).tolist()
