"""A file of a labelling tool on its way in: whose it is, and how its photos and numbers are found."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from transect.errors import InputError
from transect.review.decisions.decision import PixelBox
from transect.review.exchange.incoming.marks import Mark, MarkedPhoto
from transect.review.exchange.known import KnownItems


@dataclass(frozen=True, kw_only=True)
class Source:
    """`reviewer`, `batch` and `all_done` are what the user said of the file as a whole; None where nothing."""

    path: Path
    known: KnownItems
    reviewer: str | None = None
    batch: int | None = None
    all_done: bool = False

    def named_reviewer(self) -> str:
        """The reviewer that the user named. Raises InputError for none."""
        if not self.reviewer:
            raise InputError(f"{self.path} does not say who reviewed; name the person with --reviewer.")
        return self.reviewer

    def photo(self, photo_sha256: str, name: str, where: str) -> str:
        """The hash of the photo, by the hash in the file or else by its name. Raises InputError for an unknown one."""
        if photo_sha256 in self.known.photos:
            return photo_sha256
        found = self.known.photo_copied(name)
        if found is None or photo_sha256:
            raise self.known.unknown_photo(photo_sha256, name, where)
        return found

    def check_size(self, photo_sha256: str, width: object, height: object, where: str) -> None:
        """Raise InputError where a file's size of a photo is another one: its pixels mean other places."""
        photo = self.known.photos[photo_sha256]
        for there, here in ((width, photo.width), (height, photo.height)):
            if there not in (None, "", 0) and as_number(there, where) != here:
                raise InputError(
                    f"{where}: {photo.image} has {photo.width} x {photo.height} pixels, and {width} x {height} in the "
                    "file; review the photos of the export."
                )


def as_number(value: object, where: str) -> float:
    """A finite number. Raises InputError for anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: {value!r} is not a finite number.")
    return number


def batch_in(values: Iterable[object]) -> int | None:
    """The number of the batch that all of `values` name; None where they name several, or none."""
    found = {str(value).removesuffix(".0") for value in values if value not in (None, "")}
    text = found.pop() if len(found) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() else None


def envelope(
    corner: tuple[float, float], size: tuple[float, float], turn: float, pivot: tuple[float, float]
) -> PixelBox:
    """The upright box around a rectangle that is turned by `turn` degrees clockwise about `pivot`."""
    (x, y), (width, height) = corner, size
    if not turn:
        return x, y, x + width, y + height
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    corners = [(x, y), (x + width, y), (x, y + height), (x + width, y + height)]
    turned = [
        (
            pivot[0] + (a - pivot[0]) * cosine - (b - pivot[1]) * sine,
            pivot[1] + (a - pivot[0]) * sine + (b - pivot[1]) * cosine,
        )
        for a, b in corners
    ]
    return (
        min(a for a, _ in turned),
        min(b for _, b in turned),
        max(a for a, _ in turned),
        max(b for _, b in turned),
    )


@dataclass(frozen=True, kw_only=True)
class ToolImage:
    """One image of a COCO or CVAT file, with its marks.

    `photo_sha256` is the image's own hash, `hashes` those of its boxes, which a box that was copied from another photo
    brings along.
    """

    where: str
    name: str
    photo_sha256: str
    hashes: Sequence[str]
    width: object
    height: object
    done: bool
    marks: tuple[Mark, ...]
    batches: Sequence[object] = ()


def marked_photos(source: Source, images: Sequence[ToolImage], named: Sequence[object]) -> list[MarkedPhoto]:
    """The images as photos of the review, by one reviewer. `named` are the batches that the file itself names.

    Raises InputError for an image of another census, and one that is there twice.
    """
    reviewer = source.named_reviewer()
    whole = source.batch if source.batch is not None else batch_in(named or (b for one in images for b in one.batches))
    photos = []
    for image in images:
        own, most = image.photo_sha256, Counter(one for one in image.hashes if one).most_common(1)
        if not own and most and source.known.photo_copied(image.name) is None:
            own = most[0][0]
        photo = source.photo(own, image.name, image.where)
        source.check_size(photo, image.width, image.height, image.where)
        photos.append(
            MarkedPhoto(
                where=image.where,
                photo_sha256=photo,
                reviewer=reviewer,
                done=image.done or source.all_done,
                marks=image.marks,
                batch=whole if whole is not None else batch_in(image.batches),
            )
        )
    return photos


def text_of(value: Any) -> str:
    """An attribute as text; empty for none."""
    return "" if value is None else str(value).strip()


def file_shown(shown: str) -> str:
    """The path in an address of Label Studio's local storage; any other name as it is."""
    return unquote(shown.partition("?d=")[2]) or shown
