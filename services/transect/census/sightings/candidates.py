"""Candidates: boxes below the threshold of a census, kept for people to review. They count nowhere."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from transect.arrays import FloatArray
from transect.engine import Boxes, DetectOptions, Detector

# Of a model that finds boxes everywhere a photo would have thousands a tile, which nobody could review.
_MOST_A_PHOTO, _MOST_A_TILE = 300, 10


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The candidates of one photo: `boxes` (n, 4) xyxy in pixels, `scores` (n,), `classes` (n,) names.

    `truncated` is true where some are missing: a tile had more boxes than a search keeps, or the photo more candidates
    than most_candidates().
    """

    boxes: FloatArray = field(default_factory=lambda: np.empty((0, 4)))
    scores: FloatArray = field(default_factory=lambda: np.empty(0))
    classes: tuple[str, ...] = ()
    truncated: bool = False


NO_CANDIDATES = Candidates()


def least_candidate(detector: Detector, options: DetectOptions, review_conf: float | None) -> float | None:
    """The threshold of candidates; None where there can be none, since it is not below that of what counts."""
    conf, _ = detector.manifest.thresholds(options)
    return review_conf if review_conf is not None and review_conf < conf else None


def most_candidates(tiles: int) -> int:
    """How many candidates are kept of a photo that was searched in so many tiles: those with the best scores."""
    return max(_MOST_A_PHOTO, _MOST_A_TILE * tiles)


def below_threshold(boxes: Boxes, conf: float, most: int) -> Boxes:
    """Those of boxes that were decoded with a lower threshold which do not count: a box counts above `conf`.

    Of more than `most` the best are kept, and `truncated` is true.
    """
    low = np.flatnonzero(~(boxes.scores > conf))
    return replace(boxes.take(low[:most]), truncated=boxes.truncated or len(low) > most)


def records_of(boxes: Boxes, names: Sequence[str]) -> list[dict[str, Any]]:
    """Boxes by the Detection contract, which rounds: what is kept and what is new must not differ."""
    return [detection.to_json() for detection in boxes.named(names)]


def arrays_of(records: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """The boxes (n, 4), scores (n,) and names of classes of records_of()."""
    return (
        np.array([record["box"] for record in records], np.float64).reshape(-1, 4),
        np.array([record["score"] for record in records], np.float64),
        # One string a class, not one a box.
        tuple(sys.intern(str(record["class_name"])) for record in records),
    )


def candidates_of(record: Mapping[str, Any]) -> Candidates:
    """The candidates of a record that was kept of them."""
    boxes, scores, classes = arrays_of(record["detections"])
    return Candidates(boxes=boxes, scores=scores, classes=classes, truncated=bool(record["truncated"]))
