"""Appearance and detections of a survey and of the validation images, in the network's units. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray, IntArray
from transect.census.sightings.found import FrameDetections
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
    found: Sequence[FrameDetections], species: Sequence[str], of_class: Mapping[str, int], photos_per_group: int
) -> Pictures:
    """The photos of a survey that count; `photos_per_group` consecutive ones, of the same ground, make one picture."""
    mpx = np.array([one.width * one.height * one.scale**2 / 1e6 for one in found])
    groups = np.arange(len(found)) // max(photos_per_group, 1)
    rows: dict[str, list[tuple[int, float, float, int]]] = {name: [] for name in species}
    for group, one in zip(groups.tolist(), found, strict=True):
        sides = np.maximum(one.boxes[:, 2:] - one.boxes[:, :2], 0.1)
        sizes = np.sqrt(sides.prod(axis=1)) * one.scale
        for name, score, size in zip(one.classes, one.scores.tolist(), sizes.tolist(), strict=True):
            if name in of_class:
                rows[species[of_class[name]]].append((group, score, size, 1))
    appearance = [one.appearance.mean(axis=0) for one in found if len(one.appearance)]
    return Pictures(
        np.bincount(groups, mpx).astype(np.float64),
        np.array(appearance) if appearance else np.empty((0, 0)),
        {name: _validated(found) for name, found in rows.items()},
    )


def _validated(rows: Sequence[tuple[int, float, float, int]]) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Boxes(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3] > 0)
