"""The boxes that people added: which of them the model found, and what each weighs in a single look. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transect.arrays import BoolArray, FloatArray
from transect.census.saved.photos import SavedPhotos
from transect.census.sightings.observations import observe
from transect.engine.boxes.overlaps import best_pairs, iou_matrix

SAME_ANIMAL_IOU = 0.3
"""From this IoU on, a box that a person draws around an animal and one of the model are of the same animal. A hand
draws more loosely than a model, whose own boxes of one animal share half of their union."""


@dataclass(frozen=True)
class DrawnBox:
    """An animal that a person marked: the photo's row, the corners in pixels, and the species."""

    photo: int
    box: tuple[float, float, float, float]
    species: str


def covered(drawn: FloatArray, found: FloatArray, iou: float = SAME_ANIMAL_IOU) -> tuple[BoolArray, BoolArray]:
    """Which of the drawn boxes (n,) and of those that were found (m,) are of one animal, one to one, the best first."""
    hit, taken = np.zeros(len(drawn), bool), np.zeros(len(found), bool)
    for row, column in best_pairs(iou_matrix(drawn, found), iou):
        hit[row] = taken[column] = True
    return hit, taken


def single_look_weights(drawn: Sequence[DrawnBox], photos: SavedPhotos) -> FloatArray:
    """The weight of each drawn box (n,), as the census weights its own: 1 / looks, 0 where it does not count there."""
    if not drawn:
        return np.empty(0)
    names = tuple(dict.fromkeys(one.species for one in drawn))
    rows = np.array([one.photo for one in drawn], np.int64)
    order = np.argsort(rows, kind="stable")
    frames = photos.with_boxes(
        rows[order],
        np.array([drawn[number].box for number in order.tolist()], np.float64),
        [drawn[number].species for number in order.tolist()],
    )
    sizes = np.array([photos.sizes_m.get(name, np.nan) for name in names])
    numbers = {name: number for number, name in enumerate(names)}
    weights = np.empty(len(drawn))
    weights[order] = observe(frames, photos.views, numbers, photos.footprints, sizes).weight
    return weights
