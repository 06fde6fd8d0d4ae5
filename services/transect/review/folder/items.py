"""The frozen population of a review: its boxes and photos, as files and as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.ground.coverage import Coverage
from transect.census.saved.photos import SavedPhotos, read_photos
from transect.census.saved.units import read_units
from transect.errors import InputError
from transect.files import atomic_path
from transect.review.folder.manifest import ReviewManifest, read_manifest
from transect.review.population.design import Population
from transect.review.population.order import Ranks

BOXES_FILE = "boxes.parquet"
PLACES_FILE = "photo_places.parquet"


@dataclass(frozen=True, eq=False, kw_only=True)
class Boxes:
    """The boxes (n,) of the population, which show an animal's place in a photo with a position.

    `photo` is a row of the photos, `species` a number of the reported ones, `box` (n, 4) xyxy in pixels, `counted`
    whether the census counts it, `looks` the photos that show its place, and `unit` the sampling unit (-1: none).
    """

    key: pa.ChunkedArray
    photo: IntArray
    species: IntArray
    class_name: pa.ChunkedArray
    score: FloatArray
    box: FloatArray
    counted: BoolArray
    looks: IntArray
    unit: IntArray
    bin: IntArray
    rank: Ranks

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def weight(self) -> FloatArray:
        """The weight of each box in a single look."""
        return 1.0 / self.looks

    def rows_of(self, keys: list[str]) -> IntArray:
        """The row of each key, -1 for a key that is of no box here."""
        found = pc.index_in(pa.array(keys, pa.string()), value_set=self.key.combine_chunks())
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)

    def in_photos(self, photos: Iterable[int]) -> dict[int, IntArray]:
        """The rows of the boxes in each of these photos, in ascending order."""
        wanted = list(photos)
        order, of = self._by_photo
        ends = np.searchsorted(of, np.array([wanted, wanted], np.int64) + np.array([[0], [1]]))
        return {photo: order[low:high] for photo, low, high in zip(wanted, *ends.tolist(), strict=True)}

    @cached_property
    def _by_photo(self) -> tuple[IntArray, IntArray]:
        """The rows (n,) photo by photo, and the photo of each."""
        order = np.argsort(self.photo, kind="stable").astype(np.int64)
        return order, self.photo[order]


@dataclass(frozen=True, eq=False, kw_only=True)
class Places:
    """Where the photos (P,) stand in the design: `unit` (-1: none), `group` (-1: not in the population) and `rank`."""

    unit: IntArray
    group: IntArray
    rank: Ranks


@dataclass(frozen=True, eq=False, kw_only=True)
class ReviewItems:
    """A review's manifest, photos, sampling units and boxes; `places` are of the photos."""

    folder: Path
    manifest: ReviewManifest
    photos: SavedPhotos
    coverage: Coverage
    boxes: Boxes
    places: Places

    @cached_property
    def searchable(self) -> IntArray:
        """The rows of the photos that are in the population (P,): those with a position."""
        return np.flatnonzero(self.places.group >= 0).astype(np.int64)

    @cached_property
    def number(self) -> IntArray:
        """The number in the population of each photo (photos,), -1 for one that is not in it."""
        number = np.full(len(self.photos), -1, np.int64)
        number[self.searchable] = np.arange(len(self.searchable))
        return number

    @cached_property
    def number_of(self) -> dict[str, int]:
        """The number in the population of each photo in it, by hash."""
        return {self.photos.sha256[row]: at for at, row in enumerate(self.searchable.tolist())}

    @cached_property
    def population(self) -> Population:
        """The population as the estimator takes it; its photos are those of `searchable`."""
        boxes, places, rows = self.boxes, self.places, self.searchable
        outside = len(self.coverage.units)
        anything = bool((boxes.unit < 0).any() or (places.unit[rows] < 0).any())
        return Population(
            bins=self.manifest.score_bins,
            groups=self.manifest.expected_groups,
            transects=outside + 1 if anything or outside == 0 else outside,
            bin=boxes.bin,
            weight=boxes.weight,
            box_photo=self.number[boxes.photo],
            box_transect=np.where(boxes.unit < 0, outside, boxes.unit),
            box_rank=boxes.rank,
            group=places.group[rows],
            photo_transect=np.where(places.unit[rows] < 0, outside, places.unit[rows]),
            photo_rank=places.rank[rows],
        )


def write_boxes(folder: Path, boxes: Boxes, names: tuple[str, ...]) -> None:
    """Write boxes.parquet; `names` are the reported species."""
    columns = {
        "box_key": boxes.key,
        "photo": pa.array(boxes.photo),
        "species": pa.array(names, pa.string()).take(pa.array(boxes.species)),
        "class_name": boxes.class_name,
        "score": pa.array(boxes.score),
        **{name: pa.array(boxes.box[:, at]) for at, name in enumerate(("x1", "y1", "x2", "y2"))},
        "counts": pa.array(boxes.counted),
        "looks": pa.array(boxes.looks),
        "unit": pa.array(boxes.unit),
        "bin": pa.array(boxes.bin),
        "rank": pa.array(boxes.rank),
    }
    with atomic_path(folder / BOXES_FILE) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def write_places(folder: Path, places: Places) -> None:
    """Write photo_places.parquet, row by row with photos.parquet."""
    table = pa.table({"unit": places.unit, "group": places.group, "rank": places.rank})
    with atomic_path(folder / PLACES_FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_items(folder: Path) -> ReviewItems:
    """The items of a review's folder. Raises InputError, naming the file, where one is missing or is none."""
    manifest = read_manifest(folder)
    photos = read_photos(folder)
    coverage = read_units(folder, photos)
    found = _table(folder / BOXES_FILE)
    try:
        boxes = _boxes(found, manifest.species)
        there = _table(folder / PLACES_FILE)
        places = Places(unit=there["unit"].to_numpy(), group=there["group"].to_numpy(), rank=there["rank"].to_numpy())
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder} has files that `transect review start` did not write: {error}.") from error
    return ReviewItems(folder=folder, manifest=manifest, photos=photos, coverage=coverage, boxes=boxes, places=places)


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; put back the file as it was.") from error


def _boxes(table: pa.Table, names: tuple[str, ...]) -> Boxes:
    columns: dict[str, Any] = {name: table[name] for name in table.column_names}
    species = pc.index_in(columns["species"], value_set=pa.array(names, pa.string()))
    return Boxes(
        key=columns["box_key"],
        photo=columns["photo"].to_numpy(),
        species=species.to_numpy().astype(np.int64),
        class_name=columns["class_name"],
        score=columns["score"].to_numpy(),
        box=np.stack([columns[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=-1),
        counted=columns["counts"].to_numpy(),
        looks=columns["looks"].to_numpy(),
        unit=columns["unit"].to_numpy(),
        bin=columns["bin"].to_numpy(),
        rank=columns["rank"].to_numpy(),
    )
