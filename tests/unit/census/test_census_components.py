"""Components: joining animals part by part gives what joining all of them at once gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.arrays import IntArray
from transect.census.sightings.components import PlacedBoxes, chunks, components
from transect.census.sightings.matching import Matching, Sightings, matching_reach, unique_animals

MATCHING = Matching()


def flown(seed: int, photos: int, *, timeless: float = 0.1) -> Sightings:
    """Boxes of herds along a line, some photos without a time."""
    random = np.random.default_rng(seed)
    frame = np.sort(random.integers(0, photos, 6 * photos))
    seconds = np.where(random.random(photos) < timeless, np.nan, 2.0 * np.arange(photos))
    herd = random.integers(0, max(photos // 4, 1), len(frame))
    xy = np.column_stack([60.0 * frame, 0 * frame]) + random.normal(0, 8, (len(frame), 2)) + 40.0 * (herd[:, None] % 3)
    return Sightings(
        xy=xy,
        species=random.integers(0, 2, len(frame)),
        frame=frame.astype(np.int64),
        shared_sd=np.full(len(frame), 1.0),
        own_sd=np.full(len(frame), 0.3),
        seconds=seconds[frame],
    )


def in_parts(seen: Sightings, boxes: int) -> IntArray:
    """The animal of each box, joined in chunks of components, numbered in order of first sight."""
    reach = matching_reach(seen, MATCHING)
    placed = PlacedBoxes(xy=seen.xy, frame=seen.frame, seconds=seen.seconds)
    animal, count = np.empty(len(seen.frame), np.int64), 0
    for rows in chunks(components(placed, MATCHING, reach), boxes):
        part = Sightings(**{name: column[rows] for name, column in vars(seen).items()})
        animal[rows] = unique_animals(part, MATCHING, reach_m=reach) + count
        count = int(animal[rows].max()) + 1
    _, first, number = np.unique(animal, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number.reshape(-1)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([0.0, 0.1, 1.0]), st.integers(1, 50))
def test_animals_joined_in_parts_are_those_of_the_whole(seed: int, photos: int, timeless: float, boxes: int) -> None:
    seen = flown(seed, photos, timeless=timeless)
    assert in_parts(seen, boxes).tolist() == unique_animals(seen, MATCHING).tolist()


def test_photos_far_apart_in_place_or_time_are_components_of_their_own() -> None:
    xy = np.array([[0.0, 0], [1, 0], [500, 0], [0, 0]])
    placed = PlacedBoxes(xy=xy, frame=np.array([0, 1, 2, 3]), seconds=np.array([0.0, 5.0, 10.0, 500.0]))
    assert components(placed, MATCHING, 20.0).tolist() == [0, 0, 1, 2]


def test_a_photo_without_a_time_belongs_to_those_of_every_time() -> None:
    xy = np.zeros((3, 2))
    placed = PlacedBoxes(xy=xy, frame=np.array([0, 1, 2]), seconds=np.array([0.0, 500.0, np.nan]))
    assert components(placed, MATCHING, 20.0).tolist() == [0, 0, 0]


def test_all_boxes_of_a_photo_are_in_one_component() -> None:
    xy = np.array([[0.0, 0], [900, 0], [901, 0]])
    placed = PlacedBoxes(xy=xy, frame=np.array([0, 0, 1]), seconds=np.zeros(3))
    assert components(placed, MATCHING, 20.0).tolist() == [0, 0, 0]


def test_more_cells_than_numbers_are_one_component() -> None:
    xy = np.array([[0.0, 0], [1e12, 1e12]])
    placed = PlacedBoxes(xy=xy, frame=np.array([0, 1]), seconds=np.zeros(2))
    assert components(placed, MATCHING, 1e-3).tolist() == [0, 0]


@pytest.mark.parametrize(("least", "sizes"), [(1, [2, 1, 3]), (3, [3, 3]), (100, [6])])
def test_chunks_hold_whole_components(least: int, sizes: list[int]) -> None:
    component = np.array([0, 2, 0, 1, 2, 2])
    found = list(chunks(component, least))
    assert [len(rows) for rows in found] == sizes
    assert sorted(np.concatenate(found).tolist()) == list(range(6))


def test_nothing_has_no_component() -> None:
    nothing = PlacedBoxes(xy=np.empty((0, 2)), frame=np.empty(0, np.int64), seconds=np.empty(0))
    assert len(components(nothing, MATCHING, 1.0)) == 0
    assert list(chunks(np.empty(0, np.int64), 5)) == []
