import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.engine import COUNT_ERROR, MAP50_95, RECALL, Boxes, SearchedSplit, Truth, compare_splits
from transect.engine.evaluation.paired import _quantities, _tail

NAMES = ("sheep", "goat", "cow")
_Generator = np.random.Generator


def _truth(generator: _Generator) -> Truth:
    """Up to four objects of 10 x 10 pixels, far from one another, of the first two classes."""
    objects = int(generator.integers(0, 5))
    corners = np.column_stack([20 * np.arange(objects), np.zeros(objects)]).astype(np.float32)
    return Truth(np.column_stack([corners, corners + 10]), generator.integers(0, 2, objects))


def _found(generator: _Generator, truth: Truth) -> Boxes:
    """Each object found with some error, once or twice, and some boxes on empty ground; best first."""
    copies = np.repeat(np.arange(len(truth.class_ids)), generator.integers(0, 3, len(truth.class_ids)))
    right = truth.xyxy[copies] + generator.uniform(-3, 3, (len(copies), 4)).astype(np.float32)
    wrong = np.tile(np.array([0, 50, 10, 60], np.float32), (int(generator.integers(0, 3)), 1))
    class_ids = np.concatenate([truth.class_ids[copies], generator.integers(0, 3, len(wrong))])
    scores = generator.permutation(np.linspace(0.1, 0.9, len(class_ids)) + generator.uniform(0, 0.01))
    order = np.argsort(-scores)
    return Boxes(np.concatenate([right, wrong])[order], scores.astype(np.float32)[order], class_ids[order])


def _searched(generator: _Generator, truths: tuple[Truth, ...]) -> SearchedSplit:
    found = tuple(_found(generator, truth) for truth in truths)
    return SearchedSplit(names=NAMES, curve=found, operating=found, truths=truths, conf=0.1, iou=0.5)


def _repeated(searched: SearchedSplit, counts: list[int]) -> SearchedSplit:
    """The split with each image repeated by `counts`."""
    rows = np.repeat(np.arange(len(counts)), counts)
    found, truths = tuple(searched.curve[row] for row in rows), tuple(searched.truths[row] for row in rows)
    return SearchedSplit(names=NAMES, curve=found, operating=found, truths=truths, conf=0.1, iou=0.5)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=1, max_size=6))
@settings(deadline=None)
def test_a_weighted_split_measures_as_one_with_repeated_images(seed: int, counts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    searched = _searched(generator, tuple(_truth(generator) for _ in counts))
    expected = _repeated(searched, counts).evaluation()
    found = _quantities(searched, np.array([counts], np.float64))
    for k, name in enumerate(NAMES):
        of_class = expected.per_class[name]
        for quantity, value in (
            (MAP50_95, of_class.map50_95),
            (RECALL, of_class.recall_at_conf),
            (COUNT_ERROR, of_class.count_error),
        ):
            assert found[quantity][0, k] == pytest.approx(np.nan if value is None else value, nan_ok=True)
    if expected.instances:
        assert found[MAP50_95][0, -1] == pytest.approx(expected.map50_95)
        assert found[RECALL][0, -1] == pytest.approx(expected.recall_at_conf)
        assert found[COUNT_ERROR][0, -1] == pytest.approx(expected.count_error)


def test_a_model_gains_nothing_over_itself() -> None:
    generator = np.random.default_rng(3)
    searched = _searched(generator, tuple(_truth(generator) for _ in range(20)))
    compared = compare_splits(searched, searched, draws=50)
    assert set(compared.classes) == {"sheep", "goat"}
    for gains in (compared.overall, *compared.classes.values()):
        assert {(gain.gain, gain.low, gain.high) for gain in gains.values()} == {(0.0, 0.0, 0.0)}


def test_limits_hold_the_gain_and_turn_with_the_models() -> None:
    generator = np.random.default_rng(5)
    truths = tuple(_truth(generator) for _ in range(30))
    one, other = _searched(generator, truths), _searched(generator, truths)
    forth, back = compare_splits(one, other, draws=200), compare_splits(other, one, draws=200)
    wide = compare_splits(one, other, confidence=0.99, draws=200)
    for quantity, gain in forth.overall.items():
        assert gain.low < gain.gain < gain.high
        assert back.overall[quantity].gain == -gain.gain
        assert (back.overall[quantity].low, back.overall[quantity].high) == pytest.approx((-gain.high, -gain.low))
        assert wide.overall[quantity].low <= gain.low
        assert wide.overall[quantity].high >= gain.high


def test_limits_hold_the_true_gain_as_often_as_they_say() -> None:
    """One model finds an object with probability 0.8, the other with 0.7, over and over on new images."""
    generator = np.random.default_rng(11)
    box = np.array([[0, 0, 10, 10]], np.float32)
    truths = tuple(Truth(box, np.array([0])) for _ in range(60))

    def search(recall: float) -> SearchedSplit:
        hits = generator.uniform(size=len(truths)) < recall
        found = tuple(
            Boxes(box[: int(hit)], np.ones(int(hit), np.float32), np.zeros(int(hit), np.int64)) for hit in hits
        )
        return SearchedSplit(names=("sheep",), curve=found, operating=found, truths=truths, conf=0.5, iou=0.5)

    held = 0
    for _ in range(100):
        gain = compare_splits(search(0.8), search(0.7), draws=100).overall[RECALL]
        held += gain.low <= 0.1 <= gain.high
    assert 88 <= held <= 99


def _found_of(found: int) -> tuple[Boxes, Truth]:
    """An image with ten objects, of which the first `found` are found."""
    boxes = np.array([[20 * place, 0, 20 * place + 10, 10] for place in range(10)], np.float32)
    of_class = np.zeros(10, np.int64)
    return Boxes(boxes[:found], np.ones(found, np.float32), of_class[:found]), Truth(boxes, of_class)


def test_the_limits_of_few_images_lie_further_out() -> None:
    # Phi(-t sqrt(n / (n - 1))), with Student's t from tables: 2.571 for 5 degrees of freedom, 2.262 for 9.
    assert _tail(6, 0.95) == pytest.approx(0.00243, rel=0.02)
    assert _tail(10, 0.95) == pytest.approx(0.00855, rel=0.02)
    assert _tail(10_000, 0.95) == pytest.approx(0.025, rel=0.001)


def test_one_image_has_no_limits() -> None:
    (boxes, truth), (fewer, _) = _found_of(9), _found_of(2)
    splits = [
        SearchedSplit(names=("sheep",), curve=(found,), operating=(found,), truths=(truth,), conf=0.5, iou=0.5)
        for found in (boxes, fewer)
    ]
    gain = compare_splits(*splits).overall[RECALL]
    assert gain.gain == pytest.approx(0.7)
    assert np.isnan([gain.low, gain.high]).all()


def test_detections_of_a_class_without_labels_are_counted() -> None:
    box, truth = _found_of(10)
    other = Boxes(box.xyxy, box.scores, np.array([0] * 6 + [2] * 4))
    compared = compare_splits(
        SearchedSplit(names=NAMES, curve=(other,), operating=(other,), truths=(truth,), conf=0.5, iou=0.5),
        SearchedSplit(names=NAMES, curve=(box,), operating=(box,), truths=(truth,), conf=0.5, iou=0.5),
        draws=10,
    )
    assert compared.unlabelled == {"goat": (0, 0), "cow": (4, 0)}


def test_an_undercount_and_an_overcount_are_as_bad() -> None:
    box = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    truths = (Truth(box, np.array([0, 0])),)

    def search(boxes: int) -> SearchedSplit:
        rows = np.arange(boxes) % 2
        found = (Boxes(box[rows], np.linspace(0.9, 0.8, boxes).astype(np.float32), np.zeros(boxes, np.int64)),)
        return SearchedSplit(names=("sheep",), curve=found, operating=found, truths=truths, conf=0.5, iou=0.5)

    gain = compare_splits(search(1), search(3)).overall[COUNT_ERROR]
    assert (gain.candidate, gain.reference, gain.gain) == (-0.5, 0.5, 0.0)
    assert compare_splits(search(2), search(3)).overall[COUNT_ERROR].gain == 0.5


def test_images_without_an_object_say_nothing() -> None:
    searched = SearchedSplit(names=NAMES, curve=(), operating=(), truths=(), conf=0.5, iou=0.5)
    compared = compare_splits(searched, searched)
    assert (compared.images, compared.overall, compared.classes) == (0, {}, {})


def test_searches_of_different_splits_are_not_compared() -> None:
    generator = np.random.default_rng(1)
    one = _searched(generator, (_truth(generator),))
    with pytest.raises(ValueError, match="different splits"):
        compare_splits(one, SearchedSplit(names=NAMES, curve=(), operating=(), truths=(), conf=0.5, iou=0.5))
