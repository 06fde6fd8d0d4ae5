"""Divide photos into training and validation by ground, never by photo. Pure."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

from shapely import STRtree
from shapely.geometry.base import BaseGeometry

Split = Literal["train", "val"]
BLOCK_M = 250.0
_LEAST_TRANSECTS = 4
_VAL_SHARE = 0.2


def ground_of(transects: Sequence[tuple[str, str] | None], middles: Sequence[tuple[float, float]]) -> list[Hashable]:
    """The piece of ground of each photo: its transect, or a block of 250 m where there are few transects."""
    if len({one for one in transects if one is not None}) >= _LEAST_TRANSECTS and None not in transects:
        return list(transects)
    return [(int(x // BLOCK_M), int(y // BLOCK_M)) for x, y in middles]


def split_by_ground(seed: int, ground: Sequence[Hashable], animals: Sequence[int]) -> list[Split]:
    """The split of each photo: whole pieces of ground, in a random order, until validation has a fifth of the animals.

    Validation gets one piece at least, and training keeps one with animals. `animals` are those of each photo.
    """
    weight: dict[Hashable, int] = {}
    for piece, count in zip(ground, animals, strict=True):
        # A photo without an animal counts a little, so that empty ground is divided too.
        weight[piece] = weight.get(piece, 0) + 10 * count + 1
    order = sorted(weight, key=lambda piece: hashlib.sha256(f"split {seed} {piece}".encode()).digest())
    wanted, taken, val = _VAL_SHARE * sum(weight.values()), 0, set[Hashable]()
    richest = max(order, key=lambda piece: weight[piece], default=None)
    for piece in order:
        if taken >= wanted:
            break
        if piece != richest or len(order) == 1:
            val.add(piece)
            taken += weight[piece]
    return ["val" if piece in val else "train" for piece in ground]


def without_shared_ground(splits: Mapping[int, Split], footprints: Mapping[int, BaseGeometry]) -> dict[int, Split]:
    """The splits by photo, without photos of training that show ground of validation too."""
    val = [footprints[photo] for photo, split in splits.items() if split == "val"]
    tree = STRtree(val)
    return {
        photo: split
        for photo, split in splits.items()
        if split == "val" or len(tree.query(footprints[photo], predicate="intersects")) == 0
    }
