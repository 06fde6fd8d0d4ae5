"""Appearance and detections of a survey and of the validation images, in the network's units. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.sightings.survey_detections import SurveyDetections
from transect.engine import ValidationProfile


@dataclass(frozen=True)
class Boxes:
    """Detections of one species: the picture of each, its score, its size in the network's pixels, and whether it is
    right (validation only)."""

    picture: IntArray
    score: FloatArray
    size: FloatArray
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Pictures:
    """A group of pictures: each one's area in the network's megapixels, and the `appearance` (n, k) where measured.

    `training` (m, k) is the appearance of training images, which vary as these do about a mean of their own.
    """

    mpx: FloatArray
    appearance: FloatArray
    boxes: Mapping[str, Boxes]
    training: FloatArray | None = None


def of_validation(profile: ValidationProfile, species: Sequence[str], of_class: Mapping[str, int]) -> Pictures:
    """The validation images; a species' classes, which `of_class` numbers, are taken together."""
    rows: dict[str, list[tuple[int, float, float, int]]] = {name: [] for name in species}
    for name, number in of_class.items():
        rows[species[number]] += profile.detections.get(name, ())
    appearance = profile.mean_appearance_by_image()
    return Pictures(
        np.array(profile.mpx),
        appearance,
        {name: _validated(found) for name, found in rows.items()},
        np.array(profile.training_looks, np.float64).reshape(-1, appearance.shape[1]),
    )


def of_survey(
    found: SurveyDetections,
    usable: BoolArray,
    species: Sequence[str],
    of_class: Mapping[str, int],
    photos_per_group: int,
) -> Pictures:
    """The photos of a survey that count; `photos_per_group` consecutive ones, of the same ground, make one picture."""
    counted, scale = found.counted.only(usable).of_classes(of_class), found.scale
    mpx = counted.size[:, 0] * counted.size[:, 1] * scale**2 / 1e6
    # The number of each photo among those that count.
    group = (np.cumsum(usable) - 1) // max(photos_per_group, 1)
    sides = np.maximum(counted.box[:, 2:] - counted.box[:, :2], 0.1)
    sizes = np.sqrt(sides.prod(axis=1)) * np.repeat(scale, counted.counts)
    picture = np.repeat(group, counted.counts)
    species_of_code = np.array([of_class.get(name, -1) for name in counted.class_names], np.int64)
    kind = species_of_code[counted.class_code]
    seen = found.appearance[usable]
    appearance = seen[~np.isnan(seen).any(axis=1)]
    return Pictures(
        np.bincount(group[usable], mpx[usable]).astype(np.float64),
        appearance if appearance.size else np.empty((0, 0)),
        {
            name: Boxes(picture[mine], counted.score[mine], sizes[mine], np.ones(int(mine.sum()), bool))
            for name, mine in ((name, kind == number) for number, name in enumerate(species))
        },
    )


def _validated(rows: Sequence[tuple[int, float, float, int]]) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Boxes(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3] > 0)
