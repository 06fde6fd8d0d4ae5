import numpy as np
import pytest
from pydantic import ValidationError

from transect.engine import (
    BackgroundCounts,
    Boxes,
    Truth,
    ValidationCounts,
    count_alarms,
    count_errors,
    evaluate_detections,
)

NAMES = ["zebra", "gnu"]


def test_counts_survive_json() -> None:
    counts = ValidationCounts(images=4, conf=0.25, iou=0.6, counts={"zebra": ((0, 2, 0, 1), (3, 1, 1, 0))})
    assert ValidationCounts.model_validate_json(counts.model_dump_json()) == counts


@pytest.mark.parametrize(
    "rows",
    [((4, 1, 0, 0),), ((1, 1, 0, 0), (1, 2, 0, 0)), ((2, 1, 0, 0), (1, 2, 0, 0)), ((0, -1, 0, 0),), ((0, 1, 0),)],
)
def test_impossible_counts_are_refused(rows: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValidationError):
        ValidationCounts.model_validate({"images": 4, "conf": 0.25, "iou": 0.6, "counts": {"zebra": rows}})


def boxes(*items: tuple[int, float]) -> Boxes:
    """Detections of 10 by 10 pixels: class and left edge, best first."""
    xyxy = np.array([[left, 0, left + 10, 10] for _, left in items], np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(items), dtype=np.float32)
    return Boxes(xyxy, scores, np.array([kind for kind, _ in items], np.int64), truncated=False)


def truth(*items: tuple[int, float]) -> Truth:
    labelled = boxes(*items)
    return Truth(labelled.xyxy, labelled.class_ids)


def test_errors_are_counted_by_image_and_class() -> None:
    operating = [boxes((0, 0), (0, 1), (1, 40)), boxes(), boxes((1, 0)), boxes()]
    truths = [truth((0, 0), (0, 100)), truth((1, 0), (1, 30)), truth((0, 0)), truth()]
    found = count_errors(operating, truths, NAMES, conf=0.25, iou=0.6)
    assert found.images == 4
    # A second box on one animal is wrong, and so is a box of the wrong class, which also misses its animal.
    assert found.counts == {"zebra": ((0, 1, 1, 1), (2, 0, 0, 1)), "gnu": ((0, 0, 1, 0), (1, 0, 0, 2), (2, 0, 1, 0))}


def test_false_positives_that_touch_an_animal_come_with_animals() -> None:
    # Beside the right box: a second one on the same animal, one of another class on it, and one far away.
    operating = [boxes((0, 0), (0, 1), (1, 2), (0, 40)), boxes((1, 5))]
    found = count_errors(operating, [truth((0, 0)), truth()], NAMES, conf=0.25, iou=0.6)
    assert found.counts == {"zebra": ((0, 1, 2, 0),), "gnu": ((0, 0, 1, 0), (1, 0, 1, 0))}
    assert found.beside == {"zebra": ((0, 1),), "gnu": ((0, 1),)}


def test_more_beside_animals_than_false_in_all_is_refused() -> None:
    counts = {"images": 4, "conf": 0.25, "iou": 0.6, "counts": {"zebra": ((1, 1, 2, 0),)}}
    ValidationCounts.model_validate({**counts, "beside": {"zebra": ((1, 2),)}})
    for rows in (((1, 3),), ((0, 1),), ((4, 1),)):
        with pytest.raises(ValidationError):
            ValidationCounts.model_validate({**counts, "beside": {"zebra": rows}})


def test_false_alarms_are_counted_by_picture_and_class() -> None:
    operating = [boxes(), boxes((0, 0), (1, 20), (0, 40)), boxes((1, 3))]
    found = count_alarms(operating, [0.1, 0.2, 0.4], NAMES, conf=0.25, iou=0.6)
    assert found == BackgroundCounts(
        conf=0.25, iou=0.6, mpx=(0.1, 0.2, 0.4), counts={"zebra": ((1, 2),), "gnu": ((1, 1), (2, 1))}
    )
    assert found.images == 3
    assert found.area_mpx == pytest.approx(0.7)
    assert found.alarms(["zebra", "gnu", "cow"]).tolist() == [0, 3, 1]
    assert BackgroundCounts.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    "bad", [{"mpx": ()}, {"mpx": (0.0,)}, {"counts": {"zebra": ((2, 1),)}}, {"counts": {"zebra": ((1, 1), (0, 1))}}]
)
def test_impossible_alarms_are_refused(bad: dict[str, object]) -> None:
    whole = {"conf": 0.25, "iou": 0.6, "mpx": (0.1, 0.1), "counts": {"zebra": ((0, 1), (1, 2))}}
    BackgroundCounts.model_validate(whole)
    with pytest.raises(ValidationError):
        BackgroundCounts.model_validate({**whole, **bad})


def test_sums_are_those_of_the_evaluation() -> None:
    generator = np.random.default_rng(3)
    pairs = [
        [
            [(int(k), float(x)) for k, x in zip(generator.integers(0, 2, n), generator.uniform(0, 60, n), strict=True)]
            for n in generator.integers(0, 6, 2)
        ]
        for _ in range(30)
    ]
    operating, truths = [boxes(*one) for one, _ in pairs], [truth(*other) for _, other in pairs]
    found = count_errors(operating, truths, NAMES, conf=0.25, iou=0.6)
    expected = evaluate_detections(operating, operating, truths, NAMES, 0.25)
    for name in NAMES:
        hits, wrong, missed = np.sum([row[1:] for row in found.counts[name]], axis=0)
        assert hits / (hits + wrong) == pytest.approx(expected.per_class[name].precision_at_conf)
        assert hits / (hits + missed) == pytest.approx(expected.per_class[name].recall_at_conf)
