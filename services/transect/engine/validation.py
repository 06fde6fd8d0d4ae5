"""What a model got right and wrong on each validation image: the ground on which its counts can be corrected."""

from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
