import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.synth.drawing.view import View

metres = st.floats(-3000, 3000)
views = st.builds(
    View,
    x=metres,
    y=metres,
    gsd=st.floats(0.005, 0.3),
    yaw_deg=st.floats(0, 360),
    width=st.integers(16, 2000),
    height=st.integers(16, 2000),
)


@given(views, metres, metres)
def test_ground_and_pixels_are_inverse(view: View, x: float, y: float) -> None:
    assert view.to_ground(*view.to_pixels(x, y)) == pytest.approx((x, y), abs=1e-6)


@given(views)
def test_the_matrix_gives_the_centres_of_pixels(view: View) -> None:
    first = view.matrix() @ np.array([0, 0, 1])
    assert tuple(first) == pytest.approx(view.to_ground(0.5, 0.5), abs=1e-6)
    last = view.matrix() @ np.array([view.width - 1, view.height - 1, 1])
    assert tuple(last) == pytest.approx(view.to_ground(view.width - 0.5, view.height - 0.5), abs=1e-6)


@given(views, st.integers(0, 100), st.integers(0, 100))
def test_a_part_shows_the_same_ground(view: View, left: int, top: int) -> None:
    part = view.part(left, top, 32, 20)
    assert part.to_ground(3, 4) == pytest.approx(view.to_ground(left + 3, top + 4), abs=1e-6)


def test_yaw_is_clockwise_from_north() -> None:
    east_up = View(x=0, y=0, gsd=1.0, yaw_deg=90.0, width=100, height=100)
    assert east_up.to_pixels(10, 0) == pytest.approx((50, 40))
    assert east_up.to_pixels(0, 10) == pytest.approx((40, 50))


def test_a_view_holds_its_own_ground_only() -> None:
    view = View(x=5, y=5, gsd=0.1, yaw_deg=30.0, width=100, height=80)
    assert view.contains(*view.to_ground(1, 1))
    assert not view.contains(*view.to_ground(-1, 1))
    assert not view.contains(*view.to_ground(1, 81))
