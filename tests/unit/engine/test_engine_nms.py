"""Suppression agrees with the field's reference, and nothing is capped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from transect.engine.boxes import overlaps
from transect.engine.boxes.nms import nms
from transect.engine.boxes.overlaps import best_pairs, candidate_pairs, iou_matrix, ious, pairs_among


def random_boxes(rng: np.random.Generator, count: int, span: float, largest: float) -> NDArray[np.float32]:
    start = rng.random((count, 2)) * span
    return np.concatenate([start, start + rng.random((count, 2)) * largest + 1], axis=1).astype(np.float32)


def reference(boxes: NDArray[np.float32], scores: NDArray[np.float32], ids: NDArray[np.int64], iou: float) -> list[int]:
    # Here, since they take seconds to import, in every process that only collects this file too.
    import torch
    import torchvision

    # In doubles, as ours: in single precision the reference itself errs where an overlap is all but the limit.
    doubles = torch.tensor(boxes).double(), torch.tensor(scores).double()
    kept = torchvision.ops.batched_nms(*doubles, torch.tensor(ids), iou)
    return list(kept.tolist())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 400),
    span=st.sampled_from([5.0, 60.0, 640.0]),
    classes=st.integers(1, 4),
    iou=st.sampled_from([0.0317, 0.3171, 0.5003, 0.7019]),
)
def test_agrees_with_torchvision(seed: int, count: int, span: float, classes: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count, span, 40)
    scores = rng.permutation(np.linspace(0.01, 0.99, count)).astype(np.float32)
    ids = rng.integers(0, classes, count)
    assert nms(boxes, scores, ids, iou).tolist() == reference(boxes, scores, ids, iou)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), animals=st.integers(1, 90), iou=st.sampled_from([0.3171, 0.5003, 0.7019]))
def test_crowds_of_candidates_agree_with_torchvision(seed: int, animals: int, iou: float) -> None:
    """As a head gives them: some twenty boxes an animal, each a little off, more than one round of suppression."""
    rng = np.random.default_rng(seed)
    animal = np.repeat(random_boxes(rng, animals, 640, 40), 20, axis=0)
    boxes = animal + rng.normal(0, 2, animal.shape).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = rng.permutation(np.linspace(0.01, 0.99, len(boxes))).astype(np.float32)
    ids = np.repeat(rng.integers(0, 3, animals), 20)
    assert nms(boxes, scores, ids, iou).tolist() == reference(boxes, scores, ids, iou)


@pytest.mark.parametrize("span", [1.0, 640.0])
def test_thirty_thousand_candidates_are_all_considered(span: float) -> None:
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 30_000, span, 30)
    scores = rng.permutation(np.linspace(0.01, 0.99, 30_000)).astype(np.float32)
    ids = rng.integers(0, 3, 30_000)
    kept = nms(boxes, scores, ids, 0.5003)
    assert kept.tolist() == reference(boxes, scores, ids, 0.5003)


def test_distinct_boxes_all_stay() -> None:
    rows, columns = np.divmod(np.arange(30_000), 200)
    corner = np.stack([columns * 20, rows * 20], axis=1)
    boxes = np.concatenate([corner, corner + 16], axis=1).astype(np.float32)
    kept = nms(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int64), 0.5)
    assert len(kept) == len(boxes)


@pytest.mark.parametrize("corner", [0.0, -5.0, -10.0, -1000.0])
def test_classes_never_meet_wherever_the_boxes_lie(corner: float) -> None:
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32) + np.float32(corner), (4, 1))
    assert nms(boxes, np.linspace(0.9, 0.6, 4).astype(np.float32), np.array([0, 1, 2, 1]), 0.5).tolist() == [0, 1, 2]


def test_boxes_at_both_ends_of_the_image_are_of_their_own_class() -> None:
    boxes = np.array([[99, 50, 100, 51], [0, 50, 1, 51]], np.float32)
    assert nms(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1]), 0.5).tolist() == [0, 1]


def test_an_overlap_of_just_the_limit_is_allowed() -> None:
    # More than one round, so that some are compared with those of the round before.
    corner = np.stack([np.arange(200) * 20, np.zeros(200)], axis=1)
    whole, half = (np.concatenate([corner, corner + np.array([10, height])], axis=1) for height in (10, 5))
    boxes = np.concatenate([whole, half]).astype(np.float32)
    scores = np.repeat([0.9, 0.8], 200).astype(np.float32)
    assert len(nms(boxes, scores, np.zeros(400, np.int64), 0.5)) == 400
    assert len(nms(boxes, scores, np.zeros(400, np.int64), 0.499)) == 200
    for limit, kept in ((0.5, [0, 1]), (0.499, [0])):
        assert nms(boxes[[0, 200]], scores[[0, 200]], np.zeros(2, np.int64), limit).tolist() == kept


def test_of_many_equal_scores_the_first_of_each_place_stays_and_they_keep_their_order() -> None:
    boxes = np.array([[20 * (k % 300), 0, 20 * (k % 300) + 10, 10] for k in range(600)], np.float32)
    kept = nms(boxes, np.full(600, 0.5, np.float32), np.zeros(600, np.int64), 0.5)
    assert kept.tolist() == list(range(300))


def test_nothing_found_selects_nothing() -> None:
    none = np.empty((0, 4), np.float32)
    kept = nms(none, np.empty(0, np.float32), np.empty(0, np.int64), 0.5)
    assert none[kept].shape == (0, 4)


def test_of_equal_scores_the_first_stays() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    assert nms(boxes, np.full(3, 0.5, np.float32), np.zeros(3, np.int64), 0.5).tolist() == [0]


def test_a_few_scores_that_many_share_keep_their_order_too() -> None:
    # A sort that is not stable leaves equal values alone where there are no others.
    boxes = np.array([[20 * k, 0, 20 * k + 10, 10] for k in range(100)], np.float32)
    kept = nms(boxes, np.tile([0.5, 0.9], 50).astype(np.float32), np.zeros(100, np.int64), 0.5)
    assert kept.tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


def test_the_best_pairs_are_taken_first_and_each_index_once() -> None:
    overlap = np.array([[0.6, 0.7, 0.0], [0.5, 0.8, 0.3], [0.2, 0.75, 0.29]])
    assert list(best_pairs(overlap, 0.3)) == [(1, 1), (0, 0)]
    # Just so much is enough, and wide and tall matrices have as many pairs as their shorter side.
    assert list(best_pairs(overlap, 0.29)) == [(1, 1), (0, 0), (2, 2)]
    assert list(best_pairs(overlap[:2], 0.0)) == [(1, 1), (0, 0)]
    assert list(best_pairs(overlap[:, :2], 0.0)) == [(1, 1), (0, 0)]


def test_of_pairs_that_overlap_alike_the_first_is_taken() -> None:
    # Blocks of two rows and two columns, of which every second one overlaps better.
    better = np.kron(np.diag(np.tile([0.5, 0.9], 20)), np.ones((2, 2)))
    pairs = [(number, number) for number in range(80)]
    assert list(best_pairs(better, 0.1)) == sorted(pairs, key=lambda pair: (-better[pair], pair))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 60),
    m=st.integers(0, 60),
    block=st.sampled_from([1, 7, 1000]),
    whole=st.booleans(),
    corner=st.sampled_from([(0, 0), (0, 1000), (1000, 0), (-1000, -50)]),
)
def test_the_sweep_misses_no_pair_and_repeats_none(
    seed: int, n: int, m: int, block: int, whole: bool, corner: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    first, second = (random_boxes(rng, count, 100, 30) + np.array(corner * 2, np.float32) for count in (n, m))
    if whole:
        # On whole pixels many boxes touch without an overlap.
        first, second = np.round(first), np.round(second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "_BLOCK", block)
        pairs = [(int(i), int(j)) for a, b in candidate_pairs(first, second) for i, j in zip(a, b, strict=True)]
        among = [(int(i), int(j)) for a, b in pairs_among(first) for i, j in zip(a, b, strict=True)]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {(i, j) for i in range(n) for j in range(m) if meet(first[i], second[j])}
    assert len(among) == len(set(among))
    assert set(among) == {(i, j) for i in range(n) for j in range(i + 1, n) if meet(first[i], first[j])}


def meet(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two boxes share ground, an edge or a corner."""
    return bool((one[:2] <= other[2:]).all() and (other[:2] <= one[2:]).all())


def test_iou_of_known_boxes() -> None:
    one = np.array([[0, 0, 10, 10]], np.float64)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [5, 5, 5, 5]], np.float64)
    assert iou_matrix(one, others)[0] == pytest.approx([1, 1 / 3, 0, 0])
    assert ious(others[3:], others[3:]) == pytest.approx([0])
    tiny = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25]], np.float64)
    assert iou_matrix(tiny, tiny) == pytest.approx(np.array([[1, 0.5], [0.5, 1]]))
    thin = np.array([[0, 0, 0.5, 10], [0, 0, 10, 0.5], [10, 10, 0, 0]], np.float64)
    assert iou_matrix(thin, one)[:, 0] == pytest.approx([0.05, 0.05, 0])
