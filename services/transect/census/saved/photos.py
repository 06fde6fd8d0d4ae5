"""Read a finished census' photos.parquet: what puts a box that people add on the ground, as the census would have."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shapely import from_wkb
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.ground.geometry import GroundView
from transect.census.ground.view_records import view_from_json
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.multiplicity import FootprintIndex
from transect.errors import InputError
from transect.imagery import Rendering

PHOTOS_FILE = "photos.parquet"
_COLUMNS = (
    *("image", "photo_sha256", "width", "height", "transect", "stratum", "gsd_m"),
    *("scale", "view", "footprint", "x", "y", "seconds", "truncated", "bands", "depth"),
)


@dataclass(frozen=True, kw_only=True)
class SavedPhotos:
    """The photos of a census that were searched and are no duplicates, one row each, in the order of its frames.

    `size` (n, 2) is width and height in pixels; `views` and `footprints` are those of the census (None and empty
    without a position), whose frame numbers are the rows here. `gsd_m` (n,) is the ground sample distance in the
    middle of the picture, NaN without a position; `scale` (n,) the network's pixels a pixel of the photo. `truncated`
    (n,) is true where a tile had more boxes than a search keeps. `rendering` is how samples are shown. `shapes` are the
    footprints as polygons. `sizes_m` is by species the typical box diagonal in metres, NaN without a placed box. `epsg`
    is the grid of the positions.
    """

    image: tuple[str, ...]
    sha256: tuple[str, ...]
    size: IntArray
    transect: tuple[str | None, ...]
    stratum: tuple[str | None, ...]
    gsd_m: FloatArray
    scale: FloatArray
    truncated: BoolArray
    rendering: tuple[Rendering, ...]
    views: Sequence[GroundView | None]
    shapes: Sequence[BaseGeometry | None]
    footprints: FootprintIndex
    sizes_m: Mapping[str, float]
    epsg: int

    def __len__(self) -> int:
        return len(self.image)

    def with_boxes(self, photo: IntArray, boxes: FloatArray, classes: Sequence[str]) -> list[FrameDetections]:
        """For observe(), each photo with its own of boxes (n, 4), whose photos (n,) are rows here and ascend.

        Usage::

            photos = read_photos(folder)
            found = photos.with_boxes(photo, boxes, classes)
            on_ground = observe(found, photos.views, species_of, photos.footprints, sizes)

        The rows of `on_ground` are those of `boxes` whose classes are in `species_of`; scores are 1. Raises ValueError
        for photos that do not ascend.
        """
        if (np.diff(photo) < 0).any():
            raise ValueError("the photos of boxes do not ascend")
        ends = np.searchsorted(photo, np.arange(len(self) + 1))
        return [
            FrameDetections(
                sha256=digest,
                width=width,
                height=height,
                boxes=boxes[first:end],
                scores=np.ones(end - first),
                classes=tuple(classes[first:end]),
                tiles=0,
                truncated=False,
            )
            for digest, (width, height), (first, end) in zip(
                self.sha256, self.size.tolist(), pairwise(ends.tolist()), strict=True
            )
        ]


def read_photos(folder: Path) -> SavedPhotos:
    """Read photos.parquet of a result folder.

    Raises InputError, naming the file, where it is missing, as in results of earlier versions, or is none.
    """
    path = folder / PHOTOS_FILE
    try:
        table = pq.read_table(path)
        return _photos(table)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {PHOTOS_FILE}, which a census writes since it keeps candidates; run the census again."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (pa.ArrowException, GEOSException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not what a census writes; run the census again.") from error


def _photos(table: pa.Table) -> SavedPhotos:
    about = table.schema.metadata
    columns: dict[str, Any] = {name: table[name] for name in _COLUMNS}
    text = {name: tuple(columns[name].to_pylist()) for name in ("image", "photo_sha256", "transect", "stratum", "view")}
    shapes = from_wkb(np.array(columns["footprint"].to_pylist(), object)).tolist()
    shown = zip(columns["bands"].to_pylist(), columns["depth"].to_pylist(), strict=True)
    number = {name: _floats(columns[name]) for name in ("gsd_m", "scale", "x", "y", "seconds")}
    return SavedPhotos(
        image=text["image"],
        sha256=text["photo_sha256"],
        size=np.stack([columns[name].to_numpy() for name in ("width", "height")], axis=-1).astype(np.int64),
        transect=text["transect"],
        stratum=text["stratum"],
        gsd_m=number["gsd_m"],
        scale=number["scale"],
        truncated=columns["truncated"].to_numpy(),
        rendering=tuple(Rendering(None if bands is None else tuple(bands), depth) for bands, depth in shown),
        views=tuple(None if view is None else view_from_json(view) for view in text["view"]),
        shapes=shapes,
        footprints=FootprintIndex(
            shapes,
            np.stack([number["x"], number["y"]], axis=-1),
            number["seconds"],
            window_s=float(about[b"time_window_s"]),
        ),
        sizes_m={
            name: math.nan if size is None else float(size) for name, size in json.loads(about[b"sizes_m"]).items()
        },
        epsg=int(about[b"crs"].removeprefix(b"EPSG:")),
    )


def _floats(column: pa.ChunkedArray) -> FloatArray:
    """The numbers of a column; NaN for null."""
    return np.asarray(column.to_numpy(), np.float64)
