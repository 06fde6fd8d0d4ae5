"""Write a batch into a folder for a person, or for a labelling tool."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transect.errors import InputError
from transect.files import atomic_write, remove_partial
from transect.review.exchange.batch import HandedOut, ReviewBatch
from transect.review.exchange.outgoing.coco import coco_json
from transect.review.exchange.outgoing.cvat import cvat_xml, labels_json
from transect.review.exchange.outgoing.formats import EXPORT_FORMATS, ExportFormat
from transect.review.exchange.outgoing.instructions import instructions
from transect.review.exchange.outgoing.label_studio import labels_xml, tasks_json
from transect.review.exchange.outgoing.pages import hidden_remarks, tool_photos
from transect.review.exchange.outgoing.picture_files import PictureFiles
from transect.review.exchange.outgoing.table import decisions_csv

__all__ = ["EXPORT_FORMATS", "RECORD", "TABLE", "UNFINISHED", "ExportFormat", "Exported", "export_batch"]

RECORD, UNFINISHED, TABLE = "batch.json", "unfinished.json", "decisions.csv"
_SCHEMA = 1


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the names of its files below the folder, and sentences on what was left out."""

    files: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def export_batch(batch: ReviewBatch, folder: Path, kind: ExportFormat, *, max_pixels: int | None) -> Exported:
    """Write `batch` into `folder`, which must be empty or hold an earlier export of it; each photo is read once.

    Equal batches give equal bytes. A whole folder has batch.json. Until then unfinished.json is in its place, and
    another call goes on where a killed one ended. One process at a time may write to a folder.

    Raises InputError where the folder holds something else or decisions that somebody filled in, or cannot be written,
    and ImageError for a photo that is unreadable or has changed since the census.
    """
    record = _record(batch, kind)
    with _explained(folder):
        resumed = _is_unfinished(folder, record, f"batch {batch.batch} as {kind}")
        files = PictureFiles(batch, kind, folder, max_pixels)
        if kind in ("files", "csv"):
            _check_not_filled_in(folder / TABLE, decisions_csv(batch, files.looked_at))
        folder.mkdir(parents=True, exist_ok=True)
        for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            remove_partial(inner)
        whole = folder.joinpath(RECORD).exists()
        if not whole:
            atomic_write(folder / UNFINISHED, record)
        written = [RECORD, *files.write(keep=resumed)]
        for name, content in _documents(batch, kind, files).items():
            atomic_write(folder / name, content)
            written.append(name)
        if not whole:
            folder.joinpath(UNFINISHED).replace(folder / RECORD)
    remarks = () if kind in ("files", "csv") else hidden_remarks(batch)
    return Exported(tuple(sorted(written)), tuple(remarks))


def _record(batch: ReviewBatch, kind: ExportFormat) -> str:
    head = {"schema": _SCHEMA, "review": batch.review_id, "batch": batch.batch, "format": kind}
    return json.dumps(head | HandedOut.of(batch).as_json(), indent=1) + "\n"


def _is_unfinished(folder: Path, record: str, what: str) -> bool:
    """Whether a killed export of the same batch left the folder. Raises InputError where something else is there."""
    try:
        # An export that was killed at its first file left a part of that alone.
        names = {path.name for path in folder.iterdir() if not path.match(f".{Path(UNFINISHED).stem}.*.part.json")}
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        raise InputError(f"{folder} is a file; name a folder for the export.") from error
    if not names:
        return False
    for name in (RECORD, UNFINISHED):
        if name in names and folder.joinpath(name).read_bytes() == record.encode():
            return name == UNFINISHED
    raise InputError(f"{folder} is not empty and holds no earlier export of {what}; name a new folder.")


def _check_not_filled_in(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() != content:
        raise InputError(
            f"{path} was changed since it was exported; import its decisions and move it away, or name a new folder."
        )


def _documents(batch: ReviewBatch, kind: ExportFormat, files: PictureFiles) -> dict[str, bytes]:
    if kind == "csv":
        return {TABLE: decisions_csv(batch, files.looked_at)}
    readme = {"README.txt": instructions(batch, kind).encode()}
    if kind == "files":
        return {TABLE: decisions_csv(batch, files.looked_at), **readme}
    photos = tool_photos(batch, files.copies, files.sizes)
    if kind == "coco":
        return {"instances.json": coco_json(batch, photos).encode(), **readme}
    if kind == "cvat":
        labels = {"labels.json": labels_json(batch).encode()}
        return {"annotations.xml": cvat_xml(batch, photos).encode(), **labels, **readme}
    labels = {"labels.xml": labels_xml(batch.species).encode()}
    return {"tasks.json": tasks_json(batch, photos).encode(), **labels, **readme}


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise InputError(
            f"The export cannot be written to {folder}{place}: {error.strerror or error}. Mend that and run the same "
            "command again, which goes on from there, or name another folder."
        ) from error
