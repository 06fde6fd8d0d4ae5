"""Options are checked where they are made; results follow the Detection contract."""

import json
from typing import Any

import pytest

from transect.engine import Detection, DetectOptions, ImageResult, ModelRef
from transect.errors import InputError


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"conf": -0.1}, "conf"),
        ({"conf": float("nan")}, "conf"),
        ({"iou": 1.1}, "iou"),
        ({"tile": 32}, "tile"),
        ({"tile": "on"}, "tile"),
        ({"overlap": -1}, "overlap"),
        ({"tile": 640, "overlap": 640}, "overlap"),
        ({"max_det": 0}, "max_det"),
    ],
)
def test_impossible_options_are_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=name):
        DetectOptions(**values)


def test_a_result_is_the_contract() -> None:
    detection = Detection((1.23456, 2, 3, 4), 0.123456789, 1, "goat")
    result = ImageResult(
        image="a.jpg",
        width=100,
        height=50,
        detections=(detection,),
        model=ModelRef("detector", "3", "abc", "bf16"),
        tiles=2,
    )
    assert json.loads(json.dumps(result.to_json())) == {
        "image": "a.jpg",
        "width": 100,
        "height": 50,
        "detections": [{"box": [1.23, 2, 3, 4], "score": 0.12346, "class_id": 1, "class_name": "goat"}],
        "model": {"name": "detector", "version": "3", "run_id": "abc", "precision": "bf16"},
        "tiles": 2,
        "truncated": False,
        "failure": None,
        "remarks": [],
    }


def test_a_failure_is_not_an_empty_result() -> None:
    failed = ImageResult.failed("a.jpg", ModelRef("detector"), "a.jpg is truncated.")
    assert failed.to_json()["failure"] == "a.jpg is truncated."
    assert failed.tiles == 0
