"""Errors of a model by validation image, and its false alarms on ground without animals."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from transect.engine.metrics import Truth, match
from transect.engine.types import Boxes

_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class ValidationCounts(BaseModel):
    """Detections and labels of the validation split, matched one to one at box IoU `match_iou`.

    `conf` and `iou` are the thresholds at which the images were searched; other thresholds have other errors.
    `counts` has for each class rows of (image, true positives, false positives, false negatives), with images
    numbered from 0 to `images` - 1 in ascending order; an image without a row has none of the three.
    `beside` has for each class rows of (image, false positives whose box touches a labelled animal of any class):
    duplicate boxes, badly placed ones and animals of another class, whose number depends on animals and not on
    ground. None in packages from before it was stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(ge=1)
    conf: _Share
    iou: _Share
    match_iou: _Share = 0.5
    counts: dict[str, tuple[tuple[_Count, _Count, _Count, _Count], ...]]
    beside: dict[str, tuple[tuple[_Count, _Count], ...]] | None = None

    @model_validator(mode="after")
    def _rows_fit(self) -> "ValidationCounts":
        _check_images(self.counts, self.images)
        _check_images(self.beside or {}, self.images)
        for name, rows in (self.beside or {}).items():
            false = {row[0]: row[2] for row in self.counts.get(name, ())}
            if any(number > false.get(image, 0) for image, number in rows):
                raise ValueError(f"class {name} has more false positives beside animals than in all")
        return self


class BackgroundCounts(BaseModel):
    """False alarms on pictures without animals, where every detection is one.

    The pictures were searched as a census searches its photos, at the thresholds `conf` and `iou`. `mpx` is each
    image's searched area in megapixels of the network: width x height x scale^2. `counts` has for each class
    rows of (image, false alarms), with images numbered from 0 in ascending order; an image without a row had none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    conf: _Share
    iou: _Share
    mpx: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    counts: dict[str, tuple[tuple[_Count, _Count], ...]]

    @property
    def images(self) -> int:
        """Number of pictures searched."""
        return len(self.mpx)

    @property
    def area_mpx(self) -> float:
        """Total megapixels searched."""
        return sum(self.mpx)

    def alarms(self, classes: Sequence[str]) -> NDArray[np.float64]:
        """False alarms of `classes` together in each image, (images,)."""
        found = np.zeros(self.images)
        for name in classes:
            for image, number in self.counts.get(name, ()):
                found[image] += number
        return found

    @model_validator(mode="after")
    def _rows_fit(self) -> "BackgroundCounts":
        _check_images(self.counts, self.images)
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
    beside: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for image, (boxes, truth) in enumerate(zip(operating, truths, strict=True)):
        right = match(boxes, truth)[:, 0]
        near = np.bincount(boxes.class_ids[~right & _touching(boxes, truth)], minlength=classes)
        for number in np.flatnonzero(near).tolist():
            beside[names[number]].append((image, int(near[number])))
        found = np.bincount(boxes.class_ids[right], minlength=classes)
        called, labelled = (np.bincount(ids, minlength=classes) for ids in (boxes.class_ids, truth.class_ids))
        for number in np.flatnonzero(called + labelled).tolist():
            hits = int(found[number])
            rows[names[number]].append((image, hits, int(called[number]) - hits, int(labelled[number]) - hits))
    counts = {name: tuple(row) for name, row in rows.items()}
    touched = {name: tuple(row) for name, row in beside.items()}
    return ValidationCounts(images=len(truths), conf=conf, iou=iou, counts=counts, beside=touched)


def count_alarms(
    operating: Sequence[Boxes], mpx: Sequence[float], names: Sequence[str], *, conf: float, iou: float
) -> BackgroundCounts:
    """Count the false alarms of each class on pictures without animals; the first two are aligned, image by image.

    `operating` are the detections at the thresholds `conf` and `iou`, with class ids that index `names`.
    """
    rows: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for image, boxes in enumerate(operating):
        found = np.bincount(boxes.class_ids, minlength=len(names))
        for number in np.flatnonzero(found).tolist():
            rows[names[number]].append((image, int(found[number])))
    counts = {name: tuple(row) for name, row in rows.items()}
    return BackgroundCounts(conf=conf, iou=iou, mpx=tuple(mpx), counts=counts)


def _touching(boxes: Boxes, truth: Truth) -> NDArray[np.bool_]:
    """Whether each box touches a labelled one of any class, (n,)."""
    ours, theirs = boxes.xyxy[:, None, :], truth.xyxy[None, :, :]
    over = (ours[..., :2] <= theirs[..., 2:]) & (ours[..., 2:] >= theirs[..., :2])
    return np.asarray(np.any(np.all(over, axis=2), axis=1), bool)


def _check_images(counts: Mapping[str, Sequence[tuple[int, ...]]], images: int) -> None:
    """Raise ValueError unless the image numbers of each class are ascending and exist."""
    for name, rows in counts.items():
        numbers = [row[0] for row in rows]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise ValueError(f"the images of class {name} are not in ascending order")
        if numbers and numbers[-1] >= images:
            raise ValueError(f"class {name} names image {numbers[-1]}, and there are {images} images")
