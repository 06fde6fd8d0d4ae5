"""Decode each picture of a training set before a training, so that no damaged one fails it hours later."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from transect.datasets.dataset import Split
from transect.datasets.images import count_pictures, first_few
from transect.errors import DatasetError, ImageError
from transect.imagery import open_raster

# Each holds a picture.
_READERS = min(8, os.cpu_count() or 1)


def check_pixels(split: Split, name: str, advance: Callable[[], None]) -> list[str]:
    """Decode every picture of the split `name` as a training does; calls `advance` after each.

    Returns the distinct remarks on reading, with the number of pictures. Raises DatasetError with the number of
    undecodable pictures and the first few.
    """
    broken: list[str] = []
    remarked: dict[str, list[Path]] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for path, result in zip(split.images, pool.map(_remarks, split.images), strict=True):
            advance()
            if isinstance(result, ImageError):
                broken.append(str(result))
                continue
            for remark in result:
                remarked.setdefault(remark, []).append(path)
    if broken:
        raise DatasetError(
            f"The {name} split has {count_pictures(len(broken))} that cannot be used: {first_few(broken)} Replace what "
            "is named or take it out of the set."
        )
    return [f"{name}: {count_pictures(len(paths))} such as {paths[0]}: {remark}" for remark, paths in remarked.items()]


def _remarks(path: Path) -> tuple[str, ...] | ImageError:
    """The remarks on reading a picture, or the error if it cannot be read."""
    try:
        with open_raster(path, max_pixels=None) as raster:
            raster.read(0, 0, raster.width, raster.height)
            return raster.remarks
    except ImageError as error:
        return error
