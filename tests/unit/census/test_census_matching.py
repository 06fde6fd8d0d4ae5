import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from transect.census.sightings.matching import Matching, Sightings, _assign, matching_reach, unique_animals

WIDTH_M, HEIGHT_M = 96.0, 72.0


def sightings(
    xy: NDArray[np.float64], frame: list[int], species: list[int] | None = None, shared: float = 1.0, own: float = 0.3
) -> Sightings:
    count = len(frame)
    kinds = np.zeros(count, np.int64) if species is None else np.array(species, np.int64)
    return Sightings(
        xy=np.asarray(xy, np.float64).reshape(count, 2),
        species=kinds,
        frame=np.array(frame, np.int64),
        shared_sd=np.full(count, shared),
        own_sd=np.full(count, own),
        seconds=np.full(count, np.nan),
    )


# Two positions that differ by three standard deviations are of two animals.
NEAR = Matching(sigmas=3.0)


def test_nothing_seen_is_no_animal() -> None:
    assert len(unique_animals(sightings(np.empty((0, 2)), []), NEAR)) == 0


def test_two_boxes_of_one_photo_are_two_animals_however_close() -> None:
    assert unique_animals(sightings(np.array([[0, 0], [0.1, 0]]), [0, 0]), NEAR).tolist() == [0, 1]


def test_a_chain_of_photos_never_joins_two_boxes_of_one_photo() -> None:
    # Photo 1's box lies between the two of photo 0; photo 2's two boxes see both again.
    xy = np.array([[0, 0], [2, 0], [1, 0], [0.2, 0], [1.8, 0]])
    found = unique_animals(sightings(xy, [0, 0, 1, 2, 2]), NEAR)
    assert found.max() == 1
    assert found[0] != found[1]
    assert found[3] != found[4]


def test_species_are_never_joined() -> None:
    assert unique_animals(sightings(np.array([[0, 0], [0, 0]]), [0, 1], [0, 1]), NEAR).tolist() == [0, 1]


def test_tolerance_follows_from_the_errors() -> None:
    apart = np.array([[0, 0], [3, 0]])
    assert unique_animals(sightings(apart, [0, 1], shared=1.0), NEAR).tolist() == [0, 0]
    assert unique_animals(sightings(apart, [0, 1], shared=0.2), NEAR).tolist() == [0, 1]


def at_times(xy: list[list[float]], seconds: list[float]) -> Sightings:
    """A box a photo, each where the drone knows it to within centimetres."""
    seen = sightings(np.array(xy), list(range(len(xy))), shared=0.01, own=0.01)
    return replace(seen, seconds=np.array(seconds))


@pytest.mark.parametrize(
    ("apart", "seconds", "speed", "animals"),
    [(4.85, 3.0, 1.0, 1), (4.95, 3.0, 1.0, 2), (4.85, 2.9, 1.0, 2), (9.75, 3.0, 2.0, 1), (9.85, 3.0, 2.0, 2)],
)
def test_an_animal_walks_as_far_as_its_speed_allows(apart: float, seconds: float, speed: float, animals: int) -> None:
    # Four standard deviations of 1 m/s for three seconds, evenly from standing still to running: 4 sqrt(1/6) 3 m.
    seen = at_times([[0, 0], [0, apart]], [1000.0, 1000.0 + seconds])
    assert len(set(unique_animals(seen, Matching(speed_m_s=speed)).tolist())) == animals


def test_a_photo_long_after_shows_another_animal_and_one_without_a_time_may_show_the_same() -> None:
    here = [[0.0, 0.0], [0.0, 0.0]]
    assert unique_animals(at_times(here, [1000.0, 1020.0]), Matching()).tolist() == [0, 0]
    assert unique_animals(at_times(here, [1000.0, 1020.5]), Matching()).tolist() == [0, 1]
    assert unique_animals(at_times(here, [1020.5, 1000.0]), Matching()).tolist() == [0, 1]
    assert unique_animals(at_times(here, [1000.0, np.nan]), Matching()).tolist() == [0, 0]


def test_reach_is_that_of_the_largest_errors_and_the_longest_walk() -> None:
    seen = replace(at_times([[0, 0]] * 3, [100.0, 107.0, np.nan]), shared_sd=np.array([0.3, 0.1, 0.1]))
    placed, walked = 2 * (0.3**2 + 0.01**2), 7**2 / 6
    expected = (1 + 2**0.5) * 4 * (placed + walked) ** 0.5
    assert matching_reach(seen, Matching()) == pytest.approx(expected, rel=1e-6)
    # Not longer than the window, and none where no time is known.
    short = (1 + 2**0.5) * 4 * (placed + 2**2 / 6) ** 0.5
    assert matching_reach(seen, Matching(window_s=2.0)) == pytest.approx(short, rel=1e-6)
    timeless = replace(seen, seconds=np.full(3, np.nan))
    assert matching_reach(timeless, Matching()) == pytest.approx((1 + 2**0.5) * 4 * placed**0.5, rel=1e-6)


def test_of_two_ways_to_pair_the_one_with_the_least_squares_is_taken() -> None:
    # 1.0 and 2.9 m have a smaller sum of squares than 2.1 and 2.3 m, though not of cubes.
    animals, boxes = [[0.0, 0.0], [3.3, 0.0]], [[1.0, 0.0], [1.0439, 1.8222]]
    assert unique_animals(sightings(np.array(animals + boxes), [0, 0, 1, 1]), NEAR).tolist() == [0, 1, 0, 1]
    assert unique_animals(sightings(np.array(animals + boxes[::-1]), [0, 0, 1, 1]), NEAR).tolist() == [0, 1, 1, 0]
    # 2.0 and 2.0 m have a smaller one than 0.5 and 3.5 m, though not a smaller sum.
    row = np.array([[0.0, 0], [1.5, 0], [2.0, 0], [3.5, 0]])
    assert unique_animals(sightings(row, [0, 0, 1, 1]), NEAR).tolist() == [0, 1, 0, 1]


def test_as_many_as_possible_are_paired_though_some_then_lie_farther_apart() -> None:
    # The middle box lies on the second animal; were it that one, the first animal and the last box would be alone.
    row = np.array([[0.0, 0], [4.0, 0], [4.0, 0], [8.0, 0]])
    assert unique_animals(sightings(row, [0, 0, 1, 1]), NEAR).tolist() == [0, 1, 0, 1]


def test_a_common_shift_is_found_where_the_nearest_animal_is_the_wrong_one() -> None:
    # A row of animals 2 m apart; the second photo is recorded 2 m off and shows all but the first.
    row = np.stack([np.array([0.0, 2.3, 4.1, 6.6, 8.5, 11.2]), np.zeros(6)], axis=-1)
    seen_again = row[1:] + np.array([2.0, 0.3])
    found = unique_animals(sightings(np.concatenate([row, seen_again]), [0] * 6 + [1] * 5, shared=1.0, own=0.2), NEAR)
    assert found[6:].tolist() == [1, 2, 3, 4, 5]


def test_three_that_agree_on_a_shift_are_enough_to_tell_a_newcomer() -> None:
    known = np.array([[0.0, 0], [0, 100], [0, 200]])
    # The newcomer stands nearer to where the first animal was recorded than that animal's own box.
    again = np.concatenate([known + np.array([2.0, 0]), [[0.5, 0]]])
    found = unique_animals(sightings(np.concatenate([known, again]), [0] * 3 + [1] * 4), NEAR)
    assert found.tolist() == [0, 1, 2, 0, 1, 2, 3]


# Animals so far apart that none is taken for another; errors as `sightings` has them let two boxes of one lie 1.27 m
# apart once the common shift of their photos is out, and 4.43 m in all.
FAR_APART = np.array([[0.0, 0], [0, 100], [0, 200]])


def joined(*photos: NDArray[np.float64]) -> list[list[int]]:
    """The animals of each photo."""
    frame = np.repeat(np.arange(len(photos)), [len(photo) for photo in photos])
    found = unique_animals(sightings(np.concatenate(photos), frame.tolist()), NEAR)
    return [found[frame == number].tolist() for number in range(len(photos))]


def test_one_that_moved_more_than_the_others_is_looked_for_from_where_the_shift_puts_it() -> None:
    four = np.concatenate([FAR_APART, [[0, 300]]])
    for farther, same in ((3.0, True), (4.4, True), (4.5, False), (5.0, False)):
        again = four + np.array([[2.0, 0]] * 3 + [[2.0 + farther, 0]])
        assert joined(four, again)[1] == [0, 1, 2, 3 if same else 4]


def test_of_two_shifts_that_explain_as_much_the_smaller_one_is_taken() -> None:
    row, again = np.array([[0.0, 0], [2, 0], [4, 0], [6, 0]]), np.array([[1.2, 0], [3.2, 0], [5.2, 0]])
    assert joined(row, again) == [[0, 1, 2, 3], [1, 2, 3]]


def test_of_equally_long_shifts_the_first_box_s_is_taken_on_any_processor() -> None:
    # Each animal but the first two is seen twice, 2 m to both sides; those two show shorter shifts, and only they.
    far = np.stack([np.zeros(42), 100.0 * np.arange(42)], axis=-1)
    aside = np.array([2.0, 0])
    again = np.concatenate([far[:2] + np.array([[0.0, 1.5], [1.5, 0.0]]), far[2:] + aside, far[2:] - aside])
    assert joined(far, again)[1] == [0, 1, *range(2, 42), *range(42, 82)]


def test_without_any_error_boxes_of_one_place_are_one_animal() -> None:
    four = np.concatenate([FAR_APART, [[0, 300]]])
    for places in (four, four[:1]):
        seen = sightings(np.concatenate([places] * 2), [0] * len(places) + [1] * len(places), shared=0.0, own=0.0)
        assert unique_animals(seen, NEAR).tolist() == [*range(len(places))] * 2


def test_the_photo_just_before_is_asked_first() -> None:
    # Too far apart to be the same, and the third photo lies in the middle.
    assert joined(FAR_APART, FAR_APART + np.array([5.0, 0]), FAR_APART + np.array([2.5, 0])) == [
        *([0, 1, 2], [3, 4, 5], [3, 4, 5]),
    ]


@pytest.mark.parametrize("between", [1, 3])
def test_an_earlier_photo_is_asked_too_whatever_the_one_between_showed(between: int) -> None:
    others = np.array([[0.0, 1000], [0, 1100], [0, 1200]])[:between]
    # As in the test of a newcomer, who stands where the first animal was recorded.
    last = np.concatenate([others, [[0.5, 0]], FAR_APART + np.array([2.0, 0])])
    found = joined(FAR_APART, others, last)
    assert found[2] == [*range(3, 3 + between), 3 + between, 0, 1, 2]


def test_a_box_of_the_first_animal_does_not_vouch_for_an_earlier_photo() -> None:
    # Of three animals that only the first photo shows, two are seen again, 2 m off; the third is not.
    unseen = np.array([[2.0, 0], [0, 300], [0, 400]])
    last = np.concatenate([FAR_APART, unseen[1:] - np.array([2.0, 0])])
    assert joined(np.concatenate([FAR_APART, unseen]), FAR_APART, last)[2] == [0, 1, 2, 4, 5]


def test_animals_are_numbered_photo_by_photo_in_the_order_of_their_boxes() -> None:
    xy = np.arange(400.0)[:, None] * np.array([50.0, 0])
    found = unique_animals(sightings(xy, [number % 2 for number in range(400)]), NEAR)
    assert found[::2].tolist() == list(range(200))
    assert found[1::2].tolist() == list(range(200, 400))


def test_a_box_that_shows_the_first_animal_is_not_asked_again() -> None:
    known = np.array([[0.0, 0], [0, 100], [0, 200], [2, 0]])
    # Within the whole tolerance of the fourth animal too, which is not on the second photo.
    found = unique_animals(sightings(np.concatenate([known, known[:3]]), [0] * 4 + [1] * 3), NEAR)
    assert found.tolist() == [0, 1, 2, 3, 0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(2, 6))
def test_well_separated_animals_are_counted_exactly(seed: int, animals: int, photos: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.permutation(400)[:animals, None] * [0, 20.0] + rng.uniform(-1, 1, (animals, 2))
    shown = rng.random((photos, animals)) < 0.7
    shown[0] = True
    photo, animal = np.nonzero(shown)
    xy = true[animal] + rng.normal(0, 0.2, (photos, 2))[photo]
    found = unique_animals(sightings(xy, photo.tolist(), shared=0.5), NEAR)
    assert found.max() + 1 == animals
    assert all(len(set(found[animal == one].tolist())) == 1 for one in range(animals))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_count_lies_between_the_fullest_photo_and_all_boxes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photo = np.sort(rng.integers(0, 5, 40))
    kinds = rng.integers(0, 3, 40)
    found = unique_animals(sightings(rng.uniform(0, 15, (40, 2)), photo.tolist(), kinds.tolist()), NEAR)
    assert sorted(set(found.tolist())) == list(range(found.max() + 1))
    for one in range(5):
        assert len(set(found[photo == one].tolist())) == int((photo == one).sum())
    for one in range(int(found.max()) + 1):
        assert len(set(kinds[found == one].tolist())) == 1


def herds(rng: np.random.Generator, length: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Herds of three species along a strip, animals at least 1.5 m apart."""
    places: list[NDArray[np.float64]] = []
    kinds: list[int] = []
    for _ in range(30):
        middle, kind = rng.uniform([-40, -60], [length + 40, 60]), int(rng.integers(3))
        herd: list[NDArray[np.float64]] = []
        for place in middle + rng.normal(0, 9, (1 + rng.poisson(9), 2)):
            if all(np.hypot(*(place - other)) > 1.5 for other in herd):
                herd.append(place)
        places += herd
        kinds += [kind] * len(herd)
    return np.array(places), np.array(kinds, np.int64)


def fly(seed: int, overlap: float, gps_m: float, yaw_deg: float) -> tuple[int, int]:
    """Animals truly photographed, and animals counted, on a strip of 20 photos with perfect detections."""
    rng = np.random.default_rng(seed)
    step = HEIGHT_M * (1 - overlap)
    true, kinds = herds(rng, 20 * step)
    seen: set[int] = set()
    xy, frames, species, distance = [], [], [], []
    for number in range(20):
        away = true - [number * step, 0.0]
        rows = np.flatnonzero((np.abs(away[:, 0]) < HEIGHT_M / 2) & (np.abs(away[:, 1]) < WIDTH_M / 2))
        seen |= set(rows.tolist())
        turn = np.radians(rng.normal(0, yaw_deg))
        turned = away[rows] @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        recorded = np.array([number * step, 0.0]) + rng.normal(0, gps_m, 2)
        xy.append(turned + recorded + rng.normal(0, 0.1, (len(rows), 2)))
        frames += [number] * len(rows)
        species += kinds[rows].tolist()
        distance += np.hypot(*away[rows].T).tolist()
    own = np.hypot(np.array(distance) * np.radians(yaw_deg), 0.2)
    placed = sightings(np.concatenate(xy), frames, species, shared=gps_m)
    found = unique_animals(
        Sightings(
            xy=placed.xy,
            species=placed.species,
            frame=placed.frame,
            shared_sd=placed.shared_sd,
            own_sd=own,
            seconds=placed.seconds,
        ),
        Matching(),
    )
    return len(seen), int(found.max()) + 1


@pytest.mark.parametrize(
    ("overlap", "gps_m", "yaw_deg", "median", "worst"), [(0.25, 0.5, 0.7, 0.005, 0.02), (0.6, 1.0, 2.0, 0.02, 0.05)]
)
def test_herds_on_overlapping_photos_are_counted_once(
    overlap: float, gps_m: float, yaw_deg: float, median: float, worst: float
) -> None:
    errors = []
    for seed in range(10):
        true, counted = fly(seed, overlap, gps_m, yaw_deg)
        errors.append(abs(counted - true) / true)
    assert float(np.median(errors)) <= median
    assert max(errors) <= worst


def test_a_shift_brings_together_what_lies_beyond_the_tolerance_wherever_the_grid_lies() -> None:
    # Three animals show a shift of 7.9 m, just within the tolerance of 8 m; the fourth, far off, moved 5.5 m more.
    known = np.array([[0, 0], [0, 100], [0, 200], [0, 300]], np.float64)
    again = known + np.array([[7.9, 0], [7.9, 0], [7.9, 0], [13.4, 0]])
    xy = np.concatenate([known, again])
    for offset in np.arange(0, 20, 0.5):
        seen = sightings(xy + np.array([offset, 0.0]), [0] * 4 + [1] * 4, shared=1.0, own=1.0)
        assert unique_animals(seen, Matching(sigmas=4.0)).tolist() == [0, 1, 2, 3] * 2


def test_animals_that_no_box_can_be_do_not_vouch_for_a_shift() -> None:
    # Three boxes beside one animal agree on a shift, but a shift takes three animals; two more stand out of reach.
    boxes, animal, others = [[1.0, 0], [1.3, 0], [1.6, 0]], [[0.0, 0]], [[9.0, 0], [10.0, 0]]
    alone = sightings(np.array(animal + boxes), [0] + [1] * 3, shared=1.0, own=0.4)
    assert unique_animals(alone, NEAR).tolist() == [0, 0, 1, 2]
    beside = sightings(np.array(animal + others + boxes), [0] * 3 + [1] * 3, shared=1.0, own=0.4)
    assert unique_animals(beside, NEAR).tolist() == [0, 1, 2, 0, 3, 4]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 100), st.floats(1, 8))
def test_the_animals_depend_neither_on_the_grid_nor_on_the_reach(seed: int, offset: float, farther: float) -> None:
    rng = np.random.default_rng(seed)
    photo = np.sort(rng.integers(0, 6, 60))
    # Multiples of 1/64 m, which an offset of such does not round.
    xy = np.round(rng.uniform(0, 40, (60, 2)) * 64) / 64
    matching = Matching(sigmas=2.0)
    seen = sightings(xy, photo.tolist(), shared=1.0, own=0.6)
    moved = sightings(xy + round(offset * 64) / 64, photo.tolist(), shared=1.0, own=0.6)
    found = unique_animals(seen, matching).tolist()
    assert unique_animals(moved, matching).tolist() == found
    assert unique_animals(seen, matching, reach_m=farther * matching_reach(seen, matching)).tolist() == found


def test_a_reach_that_would_miss_animals_is_refused() -> None:
    seen = sightings(np.zeros((2, 2)), [0, 1])
    with pytest.raises(ValueError, match=r"a reach of 1 m misses animals"):
        unique_animals(seen, NEAR, reach_m=1)
    assert matching_reach(sightings(np.empty((0, 2)), []), NEAR) == 0.0


def _best_by_trying(distance: NDArray[np.float64], possible: NDArray[np.bool_]) -> tuple[int, float]:
    """Most pairs, and the least sum of squared distances with so many, of all ways to pair rows with columns."""
    best = (0, 0.0)
    for number in range(1, min(distance.shape) + 1):
        sums = [
            sum(distance[row, column] ** 2 for row, column in zip(rows, columns, strict=True))
            for rows in itertools.combinations(range(distance.shape[0]), number)
            for columns in itertools.permutations(range(distance.shape[1]), number)
            if all(possible[row, column] for row, column in zip(rows, columns, strict=True))
        ]
        best = (number, min(sums)) if sums else best
    return best


@pytest.mark.parametrize("metres", [0.01, 1.0, 1000.0])
def test_pairs_are_as_many_and_as_near_as_any_way_to_pair_gives(metres: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        shape = tuple(rng.integers(1, 5, 2))
        distance, possible = metres * rng.random(shape), rng.random(shape) < 0.4
        rows, columns = _assign(distance, possible)
        assert possible[rows, columns].all()
        assert len({*rows.tolist()}) == len({*columns.tolist()}) == len(rows)
        number, least = _best_by_trying(distance, possible)
        assert (len(rows), (distance[rows, columns] ** 2).sum()) == (number, pytest.approx(least))
