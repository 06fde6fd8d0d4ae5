import pytest
from pydantic import ValidationError

from transect.engine import ValidationCounts


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
