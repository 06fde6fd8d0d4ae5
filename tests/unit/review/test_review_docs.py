"""The example in the documentation of the estimator gives the numbers that stand below it."""

import json
import re
from pathlib import Path

import pytest

from transect.review.estimator.cells_file import estimate_cells

PAGE = Path(__file__).parents[3] / "docs" / "review-estimator.md"


def test_the_example_gives_what_the_page_says(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert found is not None
    (tmp_path / "cells.json").write_text(json.dumps(json.loads(found[1])), encoding="utf-8")
    record = estimate_cells(tmp_path / "cells.json")
    said = [float(one) for one in re.findall(r"\d+\.\d+", text.split("This file gives")[1].split("No floor")[0])]
    low, high = record["limits"]
    log_low, log_high = record["lognormal"]
    expected = [
        *(record["total"], record["se"], low, high, record["precision"], record["recall"], record["lambda"]),
        *(record["estimate"], log_low, log_high),
    ]
    assert said == [pytest.approx(one, rel=5e-4) for one in expected]
