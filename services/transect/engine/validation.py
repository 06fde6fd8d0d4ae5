"""What a model got right and wrong on each validation image: the ground on which its counts can be corrected."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from transect.engine.metrics import Truth, match
from transect.engine.types import Boxes

_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class ValidationCounts(BaseModel):
    """Detections and labels of the validation split, matched one to one at box IoU `match_iou`.

    `conf` and `iou` are the thresholds at which the images were searched; other thresholds have other errors.
    `counts` has for each class rows of (image, true positives, false positives, false negatives), with images
    numbered from 0 to `images` - 1 in ascending order; an image without a row has none of the three.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(ge=1)
    conf: _Share
    iou: _Share
    match_iou: _Share = 0.5
    counts: dict[str, tuple[tuple[_Count, _Count, _Count, _Count], ...]]

    @field_validator("counts")
    @classmethod
    def _images_ascend(
        cls, counts: dict[str, tuple[tuple[int, int, int, int], ...]]
    ) -> dict[str, tuple[tuple[int, int, int, int], ...]]:
        for name, rows in counts.items():
            numbers = [row[0] for row in rows]
            if any(later <= earlier for earlier, later in pairwise(numbers)):
                raise ValueError(f"the images of class {name} are not in ascending order")
        return counts

    @model_validator(mode="after")
    def _images_exist(self) -> "ValidationCounts":
        for name, rows in self.counts.items():
            if rows and rows[-1][0] >= self.images:
                raise ValueError(f"class {name} names image {rows[-1][0]}, and there are {self.images} images")
        return self


def count_errors(
    operating: Sequence[Boxes], truths: Sequence[Truth], names: Sequence[str], *, conf: float, iou: float
) -> ValidationCounts:
    """Count each class on each image; the two sequences are aligned, image by image.

    `operating` are the detections at the thresholds `conf` and `iou`, best first, with class ids that index `names`,
    as `evaluate_detections` takes them; they are matched to the labels at box IoU 0.5.
    """
    classes = len(names)
    rows: dict[str, list[tuple[int, int, int, int]]] = {name: [] for name in names}
    for image, (boxes, truth) in enumerate(zip(operating, truths, strict=True)):
        right = match(boxes, truth)[:, 0]
        found = np.bincount(boxes.class_ids[right], minlength=classes)
        called, labelled = (np.bincount(ids, minlength=classes) for ids in (boxes.class_ids, truth.class_ids))
        for number in np.flatnonzero(called + labelled).tolist():
            hits = int(found[number])
            rows[names[number]].append((image, hits, int(called[number]) - hits, int(labelled[number]) - hits))
    counts = {name: tuple(row) for name, row in rows.items()}
    return ValidationCounts(images=len(truths), conf=conf, iou=iou, counts=counts)
