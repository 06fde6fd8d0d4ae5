"""Write a batch into a folder for a person, or for a labelling tool."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from transect.errors import ImageError, InputError
from transect.files import atomic_write, remove_partial, sha256_file
from transect.imagery import Rendering, open_raster
from transect.review.exchange.batch import BatchBox, BatchPhoto, HandedOut, ReviewBatch, copy_names, names_with_boxes
from transect.review.exchange.outgoing.coco import coco_json
from transect.review.exchange.outgoing.cvat import cvat_xml, labels_json
from transect.review.exchange.outgoing.instructions import instructions
from transect.review.exchange.outgoing.label_studio import labels_xml, tasks_json
from transect.review.exchange.outgoing.pages import hidden_remarks, tool_photos
from transect.review.exchange.outgoing.pictures import crop_jpeg, photo_copy, photo_with_boxes, whole
from transect.review.exchange.outgoing.table import decisions_csv
from transect.review.exchange.terms import PHOTOS

ExportFormat = Literal["files", "coco", "label-studio", "cvat", "csv"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
RECORD, TABLE = "batch.json", "decisions.csv"
_SCHEMA = 1


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the names of its files below the folder, and sentences on what was left out."""

    files: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """A photo of a batch, with what is to be cut from it; `number` of a box counts from 1 within the batch."""

    image: str
    path: Path
    photo_sha256: str
    rendering: Rendering
    boxes: tuple[tuple[int, BatchBox], ...]
    search: BatchPhoto | None


def export_batch(batch: ReviewBatch, folder: Path, kind: ExportFormat, *, max_pixels: int | None) -> Exported:
    """Write `batch` into `folder`, which must be empty or hold an earlier export of it; each photo is read once.

    Equal batches give equal bytes. Raises InputError where the folder holds something else or decisions that somebody
    filled in, and ImageError for a photo that is unreadable or has changed since the census.
    """
    record = _record(batch, kind)
    _check_folder(folder, batch, kind)
    folder.mkdir(parents=True, exist_ok=True)
    if folder.joinpath(RECORD).exists():
        remove_partial(folder)
    # First, so that an export that was killed is known for what it is.
    atomic_write(folder / RECORD, record)
    copies = copy_names([one.image for one in batch.items])
    written, sizes = [RECORD], dict[str, tuple[int, int]]()
    if kind != "csv":
        for name, content in _pictures(batch, kind, copies, max_pixels, sizes):
            atomic_write(folder / name, content)
            written.append(name)
    for name, text in _documents(batch, kind, copies, sizes).items():
        _check_not_filled_in(folder / name, text)
        atomic_write(folder / name, text)
        written.append(name)
    remarks = () if kind in ("files", "csv") else hidden_remarks(batch)
    return Exported(tuple(sorted(written)), tuple(remarks))


def crop_name(number: int, box_key: str) -> str:
    """The file of a crop below the folder; `number` counts from 1."""
    return f"crops/{number:04}_{box_key[:8]}.jpg"


def _record(batch: ReviewBatch, kind: ExportFormat) -> str:
    head = {"schema": _SCHEMA, "review": batch.review_id, "batch": batch.batch, "format": kind}
    return json.dumps(head | HandedOut.of(batch).as_json(), indent=1) + "\n"


def _check_folder(folder: Path, batch: ReviewBatch, kind: ExportFormat) -> None:
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return
        there = json.loads(folder.joinpath(RECORD).read_text(encoding="utf-8"))
        same = (there["review"], there["batch"], there["format"]) == (batch.review_id, batch.batch, kind)
    except NotADirectoryError as error:
        raise InputError(f"{folder} is a file; name a folder for the export.") from error
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise InputError(
            f"{folder} is not empty and holds no earlier export of batch {batch.batch} as {kind}; name a new folder."
        )


def _check_not_filled_in(path: Path, content: bytes) -> None:
    if path.name == TABLE and path.exists() and path.read_bytes() != content:
        raise InputError(
            f"{path} was changed since it was exported; import its decisions and move it away, or name a new folder."
        )


def _documents(
    batch: ReviewBatch, kind: ExportFormat, copies: Mapping[str, str], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, bytes]:
    if kind == "csv":
        return {TABLE: decisions_csv(batch, {})}
    readme = {"README.txt": instructions(batch, kind).encode()}
    if kind == "files":
        pictures = {one.box_key: crop_name(number, one.box_key) for number, one in enumerate(batch.boxes, start=1)}
        pictures |= {one.photo_sha256: f"{PHOTOS}/{copies[one.image]}" for one in batch.photos}
        return {TABLE: decisions_csv(batch, pictures), **readme}
    photos = tool_photos(batch, copies, sizes)
    if kind == "coco":
        return {"instances.json": coco_json(batch, photos).encode(), **readme}
    if kind == "cvat":
        return {
            "annotations.xml": cvat_xml(batch, photos).encode(),
            "labels.json": labels_json(batch).encode(),
            **readme,
        }
    return {
        "tasks.json": tasks_json(batch, photos).encode(),
        "labels.xml": labels_xml(batch.species).encode(),
        **readme,
    }


def _sources(batch: ReviewBatch) -> Iterator[_Source]:
    searches = {one.photo_sha256: one for one in batch.photos}
    boxes: dict[str, list[tuple[int, BatchBox]]] = {}
    for number, box in enumerate(batch.boxes, start=1):
        boxes.setdefault(box.photo_sha256, []).append((number, box))
    firsts: dict[str, BatchBox | BatchPhoto] = {one.photo_sha256: one for one in batch.items}
    for photo, first in sorted(firsts.items(), key=lambda item: (item[1].image, item[0])):
        mine = tuple(boxes.get(photo, ()))
        yield _Source(first.image, first.path, photo, first.rendering, mine, searches.get(photo))


def _pictures(
    batch: ReviewBatch,
    kind: ExportFormat,
    copies: Mapping[str, str],
    max_pixels: int | None,
    sizes: dict[str, tuple[int, int]],
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each picture; the size of each photo goes into `sizes`."""
    with_boxes = names_with_boxes(copies)
    for source in _sources(batch):
        _check_unchanged(source)
        with open_raster(source.path, name=source.image, max_pixels=max_pixels, rendering=source.rendering) as raster:
            sizes[source.photo_sha256] = (raster.width, raster.height)
            if kind == "files":
                for number, box in source.boxes:
                    yield crop_name(number, box.box_key), crop_jpeg(raster, box.box, box.gsd_m)
            if kind == "files" and source.search is None:
                continue
            pixels, copy = whole(raster, source.image), f"{PHOTOS}/{copies[source.image]}"
            yield copy, photo_copy(pixels, copy)
            if kind == "files" and source.search is not None and not source.search.blind:
                shown = [(one.box, batch.species.index(one.species)) for one in source.search.boxes]
                yield f"{PHOTOS}/{with_boxes[source.image]}", photo_with_boxes(pixels, shown)


def _check_unchanged(source: _Source) -> None:
    try:
        found = sha256_file(source.path)
    except OSError as error:
        raise ImageError(f"{source.path} cannot be read: {error.strerror or error}.") from error
    if found != source.photo_sha256:
        raise ImageError(
            f"{source.path} has changed since the census; put the photo of the census back, or count the survey anew."
        )
