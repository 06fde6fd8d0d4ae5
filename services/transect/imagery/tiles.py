"""Cut a large image into overlapping tiles."""

from dataclasses import dataclass

from transect.errors import InputError


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image in pixels: left, top, width and height."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column outside."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row outside."""
        return self.y + self.height


def plan_tiles(width: int, height: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles of side `tile` that cover an image of `width` x `height` pixels, row by row.

    Neighbours overlap by `overlap` pixels; the last tile of a row or column moves inward so that it
    stays inside, and overlaps more. A side that is shorter than a tile gives one tile of that side.

    Raises InputError unless 0 <= overlap < tile and the image has pixels.
    """
    if not 0 <= overlap < tile:
        raise InputError(
            f"Tiles of {tile} pixels cannot overlap by {overlap}: the overlap must be 0 or more and smaller."
        )
    if width < 1 or height < 1:
        raise InputError(f"An image of {width} x {height} pixels cannot be tiled.")
    return [
        Tile(x, y, min(tile, width), min(tile, height))
        for y in _starts(height, tile, overlap)
        for x in _starts(width, tile, overlap)
    ]


def count_tiles(width: int, height: int, tile: int, overlap: int) -> int:
    """The number of tiles of plan_tiles, without making them."""
    return _count(width, tile, overlap) * _count(height, tile, overlap)


def _count(length: int, tile: int, overlap: int) -> int:
    return 1 if length <= tile else 1 + -(-(length - tile) // (tile - overlap))


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    last = length - tile
    return [*range(0, last, tile - overlap), last]
