"""Validation profile: appearance of a model's validation images, and size and score of the detections in them."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from transect.arrays import FloatArray
from transect.engine.profile.appearance import STATISTICS
from transect.errors import PackageError

PROFILE_FILE = "validation_profile.json"

_Share = Annotated[float, Field(ge=0, le=1)]
_Image = Annotated[int, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureSpace(_Value):
    """The directions in which the features of the validation images differ most (principal components).

    Features (d,) become `components` (k, d) times (features - `mean`) / `scale`.
    """

    mean: tuple[float, ...]
    scale: tuple[_Positive, ...]
    components: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _sizes_agree(self) -> "FeatureSpace":
        sizes = {len(self.mean), len(self.scale), *(len(row) for row in self.components)}
        if len(sizes) > 1:
            raise ValueError("mean, scale and components differ in length")
        return self

    def project(self, features: FloatArray) -> FloatArray:
        """Features (n, d) as (n, k)."""
        scaled = (features - np.array(self.mean)) / np.array(self.scale)
        projected: FloatArray = scaled @ np.array(self.components).reshape(-1, len(self.mean)).T
        return projected


class ValidationProfile(_Value):
    """The validation split as the network saw it, searched at the thresholds `conf` and `iou`.

    `mpx` is each image's area in the network's megapixels. `looks` has a row for each sampled tile: the image's
    number, then `statistics` and the projections on `space`; `training_looks` has a row without a number for each of
    some training images, which show the variation between such images. `detections` has for each class rows of
    (image, score, size, right): size is the root of the box's area in the network's pixels, right is 1 or 0.
    """

    conf: _Share
    iou: _Share
    mpx: tuple[_Positive, ...] = Field(min_length=1)
    statistics: tuple[str, ...] = STATISTICS
    looks: tuple[tuple[float, ...], ...]
    training_looks: tuple[tuple[float, ...], ...] = ()
    space: FeatureSpace | None
    detections: dict[str, tuple[tuple[_Image, _Share, _Positive, Annotated[int, Field(ge=0, le=1)]], ...]]

    @model_validator(mode="after")
    def _rows_are_whole(self) -> "ValidationProfile":
        width = 1 + len(self.statistics) + (0 if self.space is None else len(self.space.components))
        if any(len(row) != width for row in self.looks):
            raise ValueError(f"a row of looks does not have {width} numbers")
        if any(len(row) != width - 1 for row in self.training_looks):
            raise ValueError(f"a row of training_looks does not have {width - 1} numbers")
        images = [int(row[0]) for row in self.looks]
        images += [row[0] for rows in self.detections.values() for row in rows]
        if images and not 0 <= min(images) <= max(images) < len(self.mpx):
            raise ValueError(f"an image number is not among the {len(self.mpx)}")
        return self

    def mean_appearance_by_image(self) -> FloatArray:
        """The mean appearance of each image that has one, (n, statistics + projections)."""
        rows = np.array(self.looks, np.float64).reshape(len(self.looks), -1)
        numbers, place = np.unique(rows[:, 0], return_inverse=True)
        sums = np.zeros((len(numbers), rows.shape[1] - 1))
        np.add.at(sums, place, rows[:, 1:])
        means: FloatArray = sums / np.bincount(place)[:, None]
        return means


def write_profile(folder: Path, profile: ValidationProfile) -> Path:
    """Write the profile into a package's folder; returns its path."""
    target = folder / PROFILE_FILE
    target.write_text(profile.model_dump_json() + "\n", encoding="utf-8")
    return target


def read_profile(folder: Path) -> ValidationProfile:
    """The profile of a package. Raises PackageError when it cannot be read."""
    path = folder / PROFILE_FILE
    try:
        return ValidationProfile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PackageError(f"{path} cannot be read ({error.strerror}); fetch or build the package again.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise PackageError(f"{path} is not usable: {where}: {first['msg'].removeprefix('Value error, ')}.") from error
    except ValueError as error:
        raise PackageError(f"{path} is not valid JSON; fetch or build the package again.") from error
