"""What was found in one photo."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transect.census.sightings.candidates import NO_CANDIDATES, Candidates, arrays_of


@dataclass(frozen=True, kw_only=True)
class FrameDetections:
    """The detections in one photo: `boxes` (n, 4) xyxy in pixels, `scores` (n,), `classes` (n,) names.

    `failure` is the reason why the photo could not be searched; `sha256` is its content's, empty if it could not be
    read. `scale` is the network's pixels a pixel of the photo; `appearance` (tiles, k) are statistics of some tiles,
    without rows where the model package has none to compare them with. `candidates` count nowhere.
    """

    sha256: str
    width: int
    height: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: tuple[str, ...]
    tiles: int
    truncated: bool
    failure: str = ""
    reused: bool = False
    scale: float = 1.0
    appearance: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    candidates: Candidates = NO_CANDIDATES

    def of_candidates(self) -> "FrameDetections":
        """The photo with its candidates in place of what counts."""
        chosen = self.candidates
        return replace(self, boxes=chosen.boxes, scores=chosen.scores, classes=chosen.classes)


def detections_of(record: Mapping[str, Any], digest: str) -> FrameDetections:
    """The detections in a photo of this SHA-256 from a record that was kept of them."""
    boxes, scores, classes = arrays_of(record["detections"])
    return FrameDetections(
        sha256=digest,
        width=int(record["width"]),
        height=int(record["height"]),
        boxes=boxes,
        scores=scores,
        classes=classes,
        tiles=int(record["tiles"]),
        truncated=bool(record["truncated"]),
        scale=float(record["scale"]),
        appearance=np.array(record["look"], np.float64) if record["look"] else np.empty((0, 0)),
    )


def not_searched(reason: str, digest: str = "") -> FrameDetections:
    """A photo that could not be searched, with the reason."""
    return FrameDetections(
        sha256=digest,
        width=0,
        height=0,
        boxes=np.empty((0, 4)),
        scores=np.empty(0),
        classes=(),
        tiles=0,
        truncated=False,
        failure=reason,
    )
