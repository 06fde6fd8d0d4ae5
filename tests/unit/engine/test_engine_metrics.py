"""Average precision agrees with the field's; counts at the working threshold are plain arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.engine import Boxes, Truth, evaluate_detections
from transect.engine.metrics import average_precision, match

NAMES = ("sheep", "goat", "cow")


def boxes(rows: list[tuple[float, float, float, float, float, int]]) -> Boxes:
    values = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(values[:, :4].astype(np.float32), values[:, 4].astype(np.float32), values[:, 5].astype(np.int64))


def truth(rows: list[tuple[float, float, float, float, int]]) -> Truth:
    values = np.array(rows, np.float64).reshape(-1, 5)
    return Truth(values[:, :4].astype(np.float32), values[:, 4].astype(np.int64))


def test_perfect_detections_score_one() -> None:
    images = [truth([(0, 0, 10, 10, 0), (20, 20, 40, 40, 1)]), truth([(5, 5, 25, 30, 2)])]
    found = [Boxes(t.xyxy, np.full(len(t.class_ids), 0.9, np.float32), t.class_ids) for t in images]
    result = evaluate_detections(found, found, images, NAMES, 0.5)
    assert result.map50 == pytest.approx(1.0, abs=0.006)
    assert result.map50_95 == pytest.approx(1.0, abs=0.006)
    assert (result.images, result.instances, result.count_error) == (2, 3, 0)
    assert (result.precision_at_conf, result.recall_at_conf) == (1, 1)


def test_counts_at_the_working_threshold() -> None:
    images = [truth([(0, 0, 10, 10, 0), (20, 20, 30, 30, 0), (50, 50, 60, 60, 1)])]
    found = [boxes([(0, 0, 10, 10, 0.9, 0), (80, 80, 90, 90, 0.8, 0), (82, 80, 92, 90, 0.7, 2)])]
    result = evaluate_detections(found, found, images, NAMES, 0.5)
    sheep, goat, cow = (result.per_class[name] for name in NAMES)
    assert (sheep.precision_at_conf, sheep.recall_at_conf, sheep.count_error) == (0.5, 0.5, 0)
    assert (goat.precision_at_conf, goat.recall_at_conf, goat.count_error) == (None, 0, -1)
    assert (cow.instances, cow.detections, cow.map50, cow.count_error) == (0, 1, None, None)
    assert result.precision_at_conf == pytest.approx(1 / 3)
    assert "mAP50" not in cow.metrics()
    assert result.map50 == pytest.approx((sheep.map50 or 0) / 2)


def test_an_object_is_matched_once() -> None:
    found = boxes([(0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0)])
    assert match(found, truth([(0, 0, 10, 10, 0)])).all(axis=1).tolist() == [True, False]


def test_a_class_must_fit() -> None:
    assert not match(boxes([(0, 0, 10, 10, 0.9, 1)]), truth([(0, 0, 10, 10, 0)])).any()


def test_nothing_found_and_nothing_there() -> None:
    nothing = [boxes([])]
    assert evaluate_detections(nothing, nothing, [truth([])], NAMES, 0.5).map50 == 0
    missed = evaluate_detections(nothing, nothing, [truth([(0, 0, 9, 9, 0)])], NAMES, 0.5)
    assert (missed.map50, missed.recall, missed.recall_at_conf, missed.count_error) == (0, 0, 0, -1)
    assert evaluate_detections([], [], [], NAMES, 0.5).images == 0


def test_average_precision_of_a_known_curve() -> None:
    # One of two objects is found, first: precision 1 below recall 0.5, 0 from there (49 of 100 steps, and a half).
    assert average_precision(np.array([0.5]), np.array([1.0])) == pytest.approx(0.495)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 30))
def test_agrees_with_ultralytics(seed: int, images: int) -> None:
    theirs = pytest.importorskip("ultralytics.utils.metrics")
    rng = np.random.default_rng(seed)
    found, labels = [], []
    for _ in range(images):
        count = int(rng.integers(0, 8))
        start = rng.random((count, 2)) * 200
        label = Truth(
            np.concatenate([start, start + rng.random((count, 2)) * 30 + 8], axis=1).astype(np.float32),
            rng.integers(0, 3, count),
        )
        seen = rng.random(count) < 0.8
        near = label.xyxy[seen] + rng.normal(0, 2, (int(seen.sum()), 4)).astype(np.float32)
        noise = rng.random((3, 2)) * 200
        xyxy = np.concatenate([near, np.concatenate([noise, noise + 20], axis=1)]).astype(np.float32)
        ids = np.concatenate([label.class_ids[seen], rng.integers(0, 3, 3)])
        scores = rng.random(len(ids)).astype(np.float32)
        order = np.argsort(-scores)
        found.append(Boxes(xyxy[order], scores[order], ids[order]))
        labels.append(label)
    ours = evaluate_detections(found, found, labels, NAMES, 0.0)
    if not ours.instances:
        return
    _, _, precision, recall, _, ap, present, *_ = theirs.ap_per_class(
        np.concatenate([match(f, t) for f, t in zip(found, labels, strict=True)]),
        np.concatenate([f.scores for f in found]),
        np.concatenate([f.class_ids for f in found]),
        np.concatenate([t.class_ids for t in labels]),
    )
    assert ours.map50 == pytest.approx(ap[:, 0].mean(), abs=1e-9)
    assert ours.map50_95 == pytest.approx(ap.mean(), abs=1e-9)
    assert ours.precision == pytest.approx(precision.mean(), abs=1e-9)
    assert ours.recall == pytest.approx(recall.mean(), abs=1e-9)
    for row, k in enumerate(present):
        assert ours.per_class[NAMES[k]].map50 == pytest.approx(ap[row, 0], abs=1e-9)
