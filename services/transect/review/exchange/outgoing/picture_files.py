"""The pictures of an export, photo by photo: what each format holds, and which of it a killed export left."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from transect.files import atomic_write
from transect.imagery import Raster, Rendering, open_raster
from transect.progress import progress
from transect.review.exchange.batch import BatchBox, BatchPhoto, ReviewBatch, copy_names, names_with_boxes
from transect.review.exchange.outgoing.formats import ExportFormat
from transect.review.exchange.outgoing.pictures import crop_jpeg, photo_copy, photo_with_boxes, whole
from transect.review.exchange.outgoing.unchanged import require_unchanged
from transect.review.exchange.terms import PHOTOS


@dataclass(frozen=True)
class _Source:
    """A photo of a batch, with the crops to cut from it by their file."""

    image: str
    path: Path
    photo_sha256: str
    rendering: Rendering
    crops: tuple[tuple[str, BatchBox], ...]
    search: BatchPhoto | None


class PictureFiles:
    """The pictures of a batch in a folder. `sizes` has the size of each photo that `write` copied, by its hash."""

    def __init__(self, batch: ReviewBatch, kind: ExportFormat, folder: Path, max_pixels: int | None) -> None:
        self.sizes: dict[str, tuple[int, int]] = {}
        self.copies = copy_names([one.image for one in batch.items])
        self._batch, self._kind, self._folder, self._max_pixels = batch, kind, folder, max_pixels
        self._with_boxes = names_with_boxes(self.copies)

    @cached_property
    def looked_at(self) -> dict[str, str]:
        """The file that a person looks at for each key of a box and hash of a photo; empty without pictures."""
        if self._kind != "files":
            return {}
        pictures = {one.box_key: _crop_name(number, one) for number, one in enumerate(self._batch.boxes, start=1)}
        return pictures | {one.photo_sha256: f"{PHOTOS}/{self.copies[one.image]}" for one in self._batch.photos}

    def write(self, *, keep: bool) -> list[str]:
        """Write all pictures, and return their names; with `keep` those that are there already stay."""
        if self._kind == "csv":
            return []
        names: list[str] = []
        sources = list(self._sources())
        with progress("Exporting", len(sources), "photos") as advance:
            for source in sources:
                wanted = self._names(source)
                missing = [name for name in wanted if not (keep and self._folder.joinpath(name).exists())]
                require_unchanged(source.path, source.photo_sha256, str(source.path))
                if missing:
                    self._write(source, missing)
                elif self._kind != "files":
                    # The copy has the size of the photo; to decode that again would take longer.
                    with Image.open(self._folder / wanted[0]) as copy:
                        self.sizes[source.photo_sha256] = copy.size
                names += wanted
                advance(resumed=not missing)
        return names

    def _sources(self) -> Iterator[_Source]:
        searches = {one.photo_sha256: one for one in self._batch.photos}
        crops: dict[str, list[tuple[str, BatchBox]]] = {}
        for number, box in enumerate(self._batch.boxes, start=1):
            crops.setdefault(box.photo_sha256, []).append((_crop_name(number, box), box))
        firsts: dict[str, BatchBox | BatchPhoto] = {one.photo_sha256: one for one in self._batch.items}
        for photo, first in sorted(firsts.items(), key=lambda item: (item[1].image, item[0])):
            mine = tuple(crops.get(photo, ())) if self._kind == "files" else ()
            yield _Source(first.image, first.path, photo, first.rendering, mine, searches.get(photo))

    def _names(self, source: _Source) -> list[str]:
        """The files of a photo: the crops from it, its copy, and the copy with boxes."""
        copy, names = f"{PHOTOS}/{self.copies[source.image]}", [name for name, _ in source.crops]
        if self._kind != "files":
            return [copy]
        if source.search is not None:
            names.append(copy)
            if not source.search.blind:
                names.append(f"{PHOTOS}/{self._with_boxes[source.image]}")
        return names

    def _write(self, source: _Source, missing: list[str]) -> None:
        with open_raster(
            source.path, name=source.image, max_pixels=self._max_pixels, rendering=source.rendering
        ) as raster:
            self.sizes[source.photo_sha256] = (raster.width, raster.height)
            for name, content in self._contents(source, raster, frozenset(missing)):
                atomic_write(self._folder / name, content)

    def _contents(self, source: _Source, raster: Raster, missing: frozenset[str]) -> Iterator[tuple[str, bytes]]:
        for name, box in source.crops:
            if name in missing:
                yield name, crop_jpeg(raster, box.box, box.gsd_m)
        copy, with_boxes = f"{PHOTOS}/{self.copies[source.image]}", f"{PHOTOS}/{self._with_boxes[source.image]}"
        if not missing & {copy, with_boxes}:
            return
        pixels = whole(raster, source.image)
        if copy in missing:
            yield copy, photo_copy(pixels, copy)
        if with_boxes in missing and source.search is not None:
            shown = [(one.box, self._batch.species.index(one.species)) for one in source.search.boxes]
            yield with_boxes, photo_with_boxes(pixels, shown)


def _crop_name(number: int, box: BatchBox) -> str:
    return f"crops/{number:04}_{box.box_key[:8]}.jpg"
