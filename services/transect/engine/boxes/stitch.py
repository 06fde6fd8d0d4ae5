"""Merge boxes of overlapping tiles to one box per object.

Two boxes of neighbouring tiles show the same object if they agree in the area that both tiles
cover: clipped to the overlap of the tiles, they are nearly equal. This is true for objects that are
whole in both, cut by one tile's edge, or cut by both because they are larger than the overlap. The
box of a sliver at a tile's edge is often inaccurate, so a cut box inside a whole one belongs to it
as well. A tile shows an object once: boxes of the same tile are never merged, which keeps close
neighbours apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transect.engine.boxes.overlaps import areas, intersections, pairs_among, ratio
from transect.engine.types import Boxes
from transect.imagery import Tile

# A box this near (pixels) to an inner edge of its tile counts as cut by it.
EDGE_PX = 2.0
# Agreement (intersection over union in the common area) that makes two boxes one object. Cut
# boxes need less: the missing part of an object shifts the visible sides of its box.
WHOLE_AGREEMENT = 0.4
CUT_AGREEMENT = 0.3
# Share of a cut box inside a whole one from which it counts as part of that object.
CONTAINED = 0.6


def stitch(parts: Sequence[Boxes], tiles: Sequence[Tile], width: int, height: int, scale: float = 1.0) -> Boxes:
    """Join the boxes found in each tile into one box an object, best score first.

    `parts[k]` are the boxes of `tiles[k]` in pixels of the image of `width` x `height`. Where an
    object is whole in some tile, its best whole box stays; where every tile cut it, the union of
    the pieces. Objects of different classes are never joined. `scale` is how many pixels were searched
    for each of the image's: tolerances are in those, since a network's errors scale with its own pixels.
    """
    truncated = any(part.truncated for part in parts)
    boxes = np.concatenate([part.xyxy for part in parts]).astype(np.float64) * scale
    scores = np.concatenate([part.scores for part in parts])
    class_ids = np.concatenate([part.class_ids for part in parts])
    tile_ids = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rectangles = np.array([(tile.x, tile.y, tile.right, tile.bottom) for tile in tiles], dtype=np.float64) * scale
    cut = _is_cut(boxes, rectangles[tile_ids], width * scale, height * scale)
    shared = np.flatnonzero(_seen_by_several(boxes, rectangles))
    first, second = _partners(boxes[shared], class_ids[shared], tile_ids[shared])
    links = _links(boxes, rectangles[tile_ids], cut, shared[first], shared[second])
    groups = _groups(links, tile_ids, cut)
    xyxy, scores, class_ids = _merge_groups(groups, boxes, scores, class_ids, cut)
    order = np.argsort(-scores, kind="stable")
    return Boxes((xyxy[order] / scale).astype(np.float32), scores[order], class_ids[order], truncated)


@dataclass(frozen=True)
class _Links:
    """Pairs of boxes that may be one object, strongest first; `part` marks a cut box in a whole one."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    part: NDArray[np.bool_]


def _is_cut(boxes: NDArray[np.float64], tile: NDArray[np.float64], width: float, height: float) -> NDArray[np.bool_]:
    """Whether a box touches an edge of its tile that is not an edge of the image."""
    at_start = (boxes[:, :2] <= tile[:, :2] + EDGE_PX) & (tile[:, :2] > 0)
    at_end = (boxes[:, 2:] >= tile[:, 2:] - EDGE_PX) & (tile[:, 2:] < (width, height))
    touches: NDArray[np.bool_] = np.any(at_start | at_end, axis=1)
    return touches


def _seen_by_several(boxes: NDArray[np.float64], tiles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a box extends into more than one tile; the others need no stitching."""
    count = np.ones(len(boxes), dtype=np.intp)
    for axis in (0, 1):
        spans = np.unique(tiles[:, [axis, axis + 2]], axis=0)
        meets = (boxes[:, axis, None] - EDGE_PX <= spans[:, 1]) & (boxes[:, axis + 2, None] + EDGE_PX >= spans[:, 0])
        count *= meets.sum(axis=1)
    return count > 1


def _partners(
    boxes: NDArray[np.float64], class_ids: NDArray[np.int64], tile_ids: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Index pairs of boxes of one class and different tiles that meet, give or take the edge tolerance."""
    if not len(boxes):
        empty = np.empty(0, dtype=np.intp)
        return empty, empty
    wide = boxes + np.array([-EDGE_PX, -EDGE_PX, EDGE_PX, EDGE_PX])
    span = float(wide.max() - wide.min()) + 1.0
    swept = wide + (class_ids * span)[:, None] * np.array([1.0, 0.0, 1.0, 0.0])
    found: list[NDArray[np.intp]] = []
    for rows, columns in pairs_among(swept):
        chosen = tile_ids[rows] != tile_ids[columns]
        found.append(np.stack([rows[chosen], columns[chosen]]))
    pairs = np.concatenate(found, axis=1) if found else np.empty((2, 0), dtype=np.intp)
    return pairs[0], pairs[1]


def _links(
    boxes: NDArray[np.float64],
    tile: NDArray[np.float64],
    cut: NDArray[np.bool_],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> _Links:
    agreement = _agreement(boxes[first], boxes[second], tile[first], tile[second])
    any_cut = cut[first] | cut[second]
    agrees = agreement >= np.where(any_cut, CUT_AGREEMENT, WHOLE_AGREEMENT)
    piece = np.where(cut[first], first, second)
    whole = np.where(cut[first], second, first)
    grown = boxes[whole] + np.array([-EDGE_PX, -EDGE_PX, EDGE_PX, EDGE_PX])
    share = ratio(intersections(boxes[piece], grown), areas(boxes[piece]))
    contained = (cut[first] != cut[second]) & (share >= CONTAINED) & ~agrees
    strength = np.where(agrees, 1.0 + agreement, share)
    chosen = np.flatnonzero(agrees | contained)
    chosen = chosen[np.argsort(-strength[chosen], kind="stable")]
    return _Links(first[chosen], second[chosen], contained[chosen])


def _agreement(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    first_tile: NDArray[np.float64],
    second_tile: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intersection over union of box pairs, clipped to the area that both tiles cover.

    Along an axis on which the tiles only touch there is nothing to compare; there the boxes agree,
    since both end at the common edge.
    """
    start = np.maximum(first_tile[:, :2], second_tile[:, :2])
    end = np.minimum(first_tile[:, 2:], second_tile[:, 2:])
    first_start, first_end = np.maximum(first[:, :2], start), np.minimum(first[:, 2:], end)
    second_start, second_end = np.maximum(second[:, :2], start), np.minimum(second[:, 2:], end)
    first_size = np.maximum(first_end - first_start, 0)
    second_size = np.maximum(second_end - second_start, 0)
    common = np.maximum(np.minimum(first_end, second_end) - np.maximum(first_start, second_start), 0)
    touching = end - start <= 2 * EDGE_PX
    for size in (first_size, second_size, common):
        size[touching] = 1.0
    shared = common.prod(axis=1)
    agreement = ratio(shared, first_size.prod(axis=1) + second_size.prod(axis=1) - shared)
    return np.where((end < start).any(axis=1), 0.0, agreement)


def _groups(links: _Links, tile_ids: NDArray[np.intp], cut: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The object of each box, as the index of one of its boxes.

    Links are processed by falling strength. Two groups join only if no tile shows both;
    a part may join although its tile shows another part of the same object, but not a whole one.
    """
    parent = np.arange(len(tile_ids)).tolist()
    tiles: dict[int, set[int]] = {}
    whole_tiles: dict[int, set[int]] = {}

    def root(box: int) -> int:
        while parent[box] != box:
            parent[box] = parent[parent[box]]
            box = parent[box]
        return box

    for first, second, part in zip(links.first.tolist(), links.second.tolist(), links.part.tolist(), strict=True):
        one, other = root(first), root(second)
        if one == other:
            continue
        for box in (one, other):
            tiles.setdefault(box, {int(tile_ids[box])})
            whole_tiles.setdefault(box, set() if cut[box] else {int(tile_ids[box])})
        if part:
            clash = whole_tiles[one] & tiles[other] or whole_tiles[other] & tiles[one]
        else:
            clash = tiles[one] & tiles[other]
        if not clash:
            parent[other] = one
            tiles[one] |= tiles.pop(other)
            whole_tiles[one] |= whole_tiles.pop(other)
    return np.array([root(box) for box in range(len(parent))], dtype=np.intp)


def _merge_groups(
    groups: NDArray[np.intp],
    boxes: NDArray[np.float64],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    cut: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    order = np.lexsort((-scores, cut, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    best = order[starts]
    xyxy = boxes[best]
    if len(starts):
        low = np.minimum.reduceat(boxes[order, :2], starts)
        high = np.maximum.reduceat(boxes[order, 2:], starts)
        pieces = cut[best]
        xyxy[pieces] = np.concatenate([low, high], axis=1)[pieces]
    return xyxy, scores[best], class_ids[best]
