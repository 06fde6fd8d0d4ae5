"""Estimate from a review, and write its files beside the census."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transect.census.outputs.result_folder import explain_write_errors
from transect.files import locked, private_files, remove_partial
from transect.registry import CensusRun
from transect.review.outcome.files import COCO, COUNTS, DECISIONS, ESTIMATE, write_coco, write_decisions, write_numbers
from transect.review.outcome.record import review_record
from transect.review.outcome.report import REPORT, write_report
from transect.review.outcome.tracked import review_run
from transect.review.session import ReviewSession
from transect.review.verdicts.truth import truth_of


@dataclass(frozen=True)
class ReviewResult:
    """The numbers of a review (estimate.json as values) and its folder, which holds the files."""

    folder: Path
    record: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @property
    def report(self) -> Path:
        """The report to read."""
        return self.folder / REPORT

    def as_run(self, log: Literal["full", "summary"] = "full") -> CensusRun:
        """The review as its run in MLflow; a `summary` has no file with a position or a picture."""
        files = (ESTIMATE, COUNTS) if log == "summary" else (ESTIMATE, COUNTS, DECISIONS, COCO, REPORT)
        return review_run(self.record, self.manifest, [self.folder / name for name in files], log)


def estimate_review(session: ReviewSession, *, survey: Path | None, max_pixels: int | None) -> ReviewResult:
    """Write estimate.json, counts.csv, decisions.csv, coco.json and report.html into the review's folder.

    Equal decisions give equal bytes, in whichever order they came. `survey` is where the photos are, for the pictures
    of the report. Raises InputError where the folder cannot be written.
    """
    folder, manifest = session.folder, session.items.manifest
    with private_files(), explain_write_errors(folder), locked(folder / ".lock"):
        remove_partial(folder)
        answers = session.answers()
        truth = truth_of(session.items, answers)
        record = review_record(truth)
        write_decisions(folder, truth, answers)
        write_coco(folder, truth)
        photos_at = survey or (None if manifest.survey.folder is None else Path(manifest.survey.folder))
        write_report(folder, truth, record, survey=photos_at, max_pixels=max_pixels)
        # Last, since other programs read it for the numbers.
        write_numbers(folder, record)
    return ReviewResult(folder, record, manifest.model_dump(mode="json"))
