"""Search plans: whole image or tiles, resampled or not. Pure arithmetic."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transect.engine.types import DetectOptions
from transect.imagery import Tile, plan_tiles, resample

# "auto" cuts an image into tiles when its longer side is more than this many times the input.
AUTO_TILE_FACTOR = 1.5
DEFAULT_OVERLAP = 0.2


@dataclass(frozen=True)
class Scaling:
    """How an image is resampled: `source` of its pixels become `side`, which fill the input."""

    source: int
    side: int

    def resampled(self, view: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view of shape (H, W, 3) in pixels of the network."""
        height, width = (max(round(pixels * self.side / self.source), 1) for pixels in view.shape[:2])
        return resample(view, width, height)


@dataclass(frozen=True)
class SearchPlan:
    """How an image is searched: in `tiles` of its own pixels, which are resampled by `scaling` (None: not at all)."""

    tiles: list[Tile]
    scaling: Scaling | None


def plan_search(width: int, height: int, options: DetectOptions, image_size: int) -> SearchPlan:
    """The plan for an image of `width` x `height` pixels and a network with an input of `image_size`."""
    side, overlap = tile_side(width, height, options, image_size)
    tiles = [Tile(0, 0, width, height)] if side is None else plan_tiles(width, height, side, overlap)
    return SearchPlan(tiles, scaling_of(options, image_size))


def tile_side(width: int, height: int, options: DetectOptions, image_size: int) -> tuple[int | None, int]:
    """Side and overlap of tiles in the image's pixels; (None, 0) for an image that is searched whole."""
    scaling = scaling_of(options, image_size)
    whole = options.tile == "auto" and max(width, height) <= AUTO_TILE_FACTOR * image_size
    if options.tile == "off" or (whole and scaling is None):
        return None, 0
    side = options.tile if isinstance(options.tile, int) else image_size
    overlap = round(side * DEFAULT_OVERLAP) if options.overlap is None else options.overlap
    if scaling is None:
        return side, overlap
    return scaling.source, min(round(overlap * scaling.source / side), scaling.source - 1)


def scaling_of(options: DetectOptions, image_size: int) -> Scaling | None:
    """The resampling of `options`: tile sides are whole pixels before and after."""
    if options.scale is None:
        return None
    side = options.tile if isinstance(options.tile, int) else image_size
    return Scaling(round(side / options.scale), side)


def network_scale(width: int, height: int, options: DetectOptions, image_size: int) -> float:
    """Pixels of the network for each pixel of an image, along a side; see Detector.network_scale."""
    side, _ = tile_side(width, height, options, image_size)
    longest = max(width, height)
    if (scaling := scaling_of(options, image_size)) is not None:
        # A small image is padded, not stretched.
        return image_size / max(scaling.source, longest if side is None else 0)
    return image_size / (longest if side is None else min(side, longest))
