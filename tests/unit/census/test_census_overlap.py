from pathlib import Path

import pytest
from shapely.geometry import box

from observation_builders import frame
from transect.census.ground.coverage import Coverage
from transect.census.ground.geometry import Grid
from transect.census.ground.overlap import measure_overlap

# On the middle of a zone the grid's metre is 0.9996 of the ground's.
EAST, NORTH, SCALE = 500_000.0, 9_830_000.0, 0.9996


def coverage(*shifts: tuple[float, float]) -> Coverage:
    """Photos of 100 m x 100 m, shifted so."""
    shown = {n: box(EAST + x, NORTH + y, EAST + x + 100, NORTH + y + 100) for n, (x, y) in enumerate(shifts)}
    whole = shown[0]
    for one in shown.values():
        whole = whole.union(one)
    return Coverage(shown, (), (), whole.area / SCALE**2 / 1e6, {})


def test_forward_and_side_overlap_are_told_apart() -> None:
    frames = [frame(Path(f"{n}.jpg"), transect=name) for n, name in enumerate(("A", "A", "B", "B"))]
    found = measure_overlap(frames, coverage((0, 0), (0, 40), (70, 0), (70, 40)), Grid(32736))
    assert found is not None
    assert found.forward == pytest.approx(0.6)
    assert found.across == pytest.approx(0.3)
    assert found.shared == pytest.approx(1 - 0.4 * 0.7)
    assert found.looks == pytest.approx(4 * 100 * 100 / (170 * 140), rel=1e-4)


def test_without_transects_there_is_no_forward_overlap_and_one_photo_has_none_at_all() -> None:
    frames = [frame(Path(f"{n}.jpg"), transect=None) for n in range(2)]
    found = measure_overlap(frames, coverage((0, 0), (50, 0)), Grid(32736))
    assert found is not None
    assert found.forward is None
    # Both are on no transect, so neither is on another one.
    assert found.across == 0
    assert found.shared == pytest.approx(0.5)
    assert measure_overlap(frames, coverage((0, 0)), Grid(32736)) is None
