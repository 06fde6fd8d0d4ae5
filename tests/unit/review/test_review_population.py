"""The random order, the bins and groups, and the sample that follows from what was decided."""

import numpy as np
import pytest

from transect.arrays import BoolArray, IntArray
from transect.review.population.design import Population, ReviewCells, Reviewed
from transect.review.population.order import Ranks, decided_prefix, in_order, next_in_order, random_ranks
from transect.review.population.strata import expected_groups, score_bins


def some_cells(seed: int, many: int = 200) -> tuple[IntArray, Ranks, BoolArray, BoolArray]:
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, 5, many)
    rank = rng.integers(0, 2**64, many, dtype=np.uint64)
    return cell, rank, rng.random(many) < 0.9, rng.random(many) < 0.1


def test_the_random_order_is_the_same_for_ever() -> None:
    """Another hash would shuffle every review that has begun."""
    ranks = random_ranks(7, ["a", "b", "ü"])
    assert ranks.tolist() == [14529029680006627982, 17103378322827380557, 87589827180848158]
    assert random_ranks(8, ["a"]).tolist() != ranks[:1].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_ends_before_the_first_gap(seed: int) -> None:
    cell, rank, decided, chosen = some_cells(seed)
    found = decided_prefix(cell, rank, decided=decided, chosen=chosen)
    for number in range(5):
        mine = [row for row in np.flatnonzero(cell == number)[np.argsort(rank[cell == number])] if not chosen[row]]
        sample = []
        for row in mine:
            if not decided[row]:
                break
            sample.append(row)
        assert sorted(sample) == np.flatnonzero(found & (cell == number)).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_next_items_follow_the_order_of_their_cell(seed: int) -> None:
    cell, rank, taken, _ = some_cells(seed)
    wanted = np.array([0, 1, 3, 50, 1000])
    found = next_in_order(cell, rank, taken=taken, wanted=wanted)
    expected = []
    for number in range(5):
        rows = np.flatnonzero((cell == number) & ~taken)
        expected += rows[np.argsort(rank[rows])][: wanted[number]].tolist()
    assert found.tolist() == expected
    assert np.array_equal(np.sort(in_order(cell, rank)), np.arange(len(cell)))


def test_nothing_has_no_sample_and_no_next_item() -> None:
    none = np.empty(0, np.int64)
    nothing = np.empty(0, bool)
    ranks = np.empty(0, np.uint64)
    assert len(decided_prefix(none, ranks, decided=nothing, chosen=nothing)) == 0
    assert len(next_in_order(none, ranks, taken=nothing, wanted=np.array([3]))) == 0


def test_every_box_is_in_one_bin_of_its_species_and_side_of_the_threshold() -> None:
    rng = np.random.default_rng(3)
    species, score = rng.integers(0, 2, 2000), rng.random(2000) * 0.95 + 0.05
    counted = score > 0.25
    bins, bin_of = score_bins(("zebra", "buffalo", "sheep"), species, score, counted)
    assert {one.species for one in bins} == {"zebra", "buffalo"}
    for row in range(2000):
        one = bins[bin_of[row]]
        assert (one.species, one.counted) == (("zebra", "buffalo")[species[row]], bool(counted[row]))
        assert one.low <= score[row] < one.high
    assert np.bincount(bin_of).min() >= 20
    assert sum(one.counted for one in bins if one.species == "zebra") == 4
    assert sum(not one.counted for one in bins if one.species == "zebra") == 3


def test_equal_scores_share_a_bin() -> None:
    score = np.array([0.5] * 300 + [0.9] * 3)
    bins, bin_of = score_bins(("zebra",), np.zeros(303, np.int64), score, np.ones(303, bool))
    assert len(bins) == 1
    assert set(bin_of.tolist()) == {0}
    assert score_bins(("zebra",), np.empty(0, np.int64), np.empty(0), np.empty(0, bool))[0] == ()


def test_photos_are_grouped_by_the_animals_to_expect() -> None:
    expected = np.array([0.0] * 30 + [0.5] * 20 + [5.0] * 12)
    groups, group_of = expected_groups(expected)
    assert [(one.low, one.high, one.nearly_empty) for one in groups] == [
        (0.0, 0.35, True),
        (0.35, 2.0, False),
        (2.0, float("inf"), False),
    ]
    assert group_of.tolist() == [0] * 30 + [1] * 20 + [2] * 12
    few, _ = expected_groups(np.array([0.0, 3.0]))
    assert len(few) == 1
    assert expected_groups(np.empty(0))[0] == ()


def population(boxes: int, seed: int = 0) -> Population:
    rng = np.random.default_rng(seed)
    score = rng.random(boxes)
    bins, bin_of = score_bins(("zebra",), np.zeros(boxes, np.int64), score, np.ones(boxes, bool))
    photo = rng.integers(0, 40, boxes)
    groups, group_of = expected_groups(np.bincount(photo, score, minlength=40).astype(np.float64))
    return Population(
        bins=bins,
        groups=groups,
        transects=4,
        bin=bin_of,
        weight=np.ones(boxes),
        box_photo=photo,
        box_transect=photo % 4,
        box_rank=rng.integers(0, 2**64, boxes, dtype=np.uint64),
        group=group_of,
        photo_transect=np.arange(40) % 4,
        photo_rank=rng.integers(0, 2**64, 40, dtype=np.uint64),
    )


def test_what_somebody_chose_counts_as_it_is_and_changes_nothing_else() -> None:
    """The boxes by choice are all false: pooled with the sample they would halve its share of animals."""
    whole = population(400)
    animal = np.ones(400, bool)
    lowest = np.zeros(400, bool)
    lowest[np.argsort(whole.box_rank)[:100]] = True
    animal[lowest] = False
    every = np.ones(40, bool)
    decided = lowest.copy()
    following = next_in_order(whole.bin, whole.box_rank, taken=lowest, wanted=np.full(len(whole.bins), 15))
    decided[following] = True
    cells = ReviewCells(
        whole,
        Reviewed(
            box_decided=decided,
            box_chosen=lowest,
            animal=animal,
            photo_searched=every,
            photo_chosen=np.zeros(40, bool),
        ),
    )
    flown = cells.flown("zebra", animal, np.zeros(40))
    assert flown.total == pytest.approx(300)
    assert sum(one.variance for one in flown.bins[1::2]) == 0


def test_a_box_that_was_decided_after_a_gap_waits() -> None:
    whole = population(100)
    order = np.argsort(whole.box_rank[whole.bin == 0])
    rows = np.flatnonzero(whole.bin == 0)[order]
    decided = np.zeros(100, bool)
    decided[rows[[0, 1, 3]]] = True
    reviewed = Reviewed(
        box_decided=decided,
        box_chosen=np.zeros(100, bool),
        animal=np.ones(100, bool),
        photo_searched=np.zeros(40, bool),
        photo_chosen=np.zeros(40, bool),
    )
    assert np.flatnonzero(reviewed.box_sample(whole)).tolist() == sorted(rows[[0, 1]].tolist())
