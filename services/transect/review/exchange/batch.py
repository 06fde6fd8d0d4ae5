"""A batch: the boxes to decide and the photos to search that one export hands out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from transect.imagery import AS_STORED, Rendering
from transect.review.decisions.decision import Drawn, PixelBox


@dataclass(frozen=True, kw_only=True)
class BatchBox:
    """A box to decide. `image` is the photo's name in the survey, with `/` between folders; `path` is its file.

    `species` is the reported species that the model predicted, `class_name` the model's class. `box` is in pixels of
    the photo as it is seen; `gsd_m` is the size of a pixel on the ground. `suggestion` is what an earlier review says.
    """

    box_key: str
    photo_sha256: str
    image: str
    path: Path
    box: PixelBox
    species: str
    class_name: str
    gsd_m: float | None
    drawn: Drawn
    rendering: Rendering = AS_STORED
    suggestion: str = ""


@dataclass(frozen=True)
class ShownBox:
    """A box of the population in a photo that is searched."""

    box_key: str
    box: PixelBox
    species: str


@dataclass(frozen=True, kw_only=True)
class BatchPhoto:
    """A photo to search in full. `boxes` are all boxes of the population in it; `blind` hides them from the reader."""

    photo_sha256: str
    image: str
    path: Path
    width: int
    height: int
    gsd_m: float | None
    blind: bool
    drawn: Drawn
    boxes: tuple[ShownBox, ...] = ()
    rendering: Rendering = AS_STORED


@dataclass(frozen=True, kw_only=True)
class ReviewBatch:
    """What is handed out at once. `species` are the names that a reviewer may give; `batch` counts from 1."""

    review_id: str
    batch: int
    survey_name: str
    species: tuple[str, ...]
    boxes: Sequence[BatchBox] = ()
    photos: Sequence[BatchPhoto] = ()

    @property
    def items(self) -> tuple[BatchBox | BatchPhoto, ...]:
        """Boxes, then photos."""
        return (*self.boxes, *self.photos)


@dataclass(frozen=True)
class HandedPhoto:
    """How a photo was handed out to be searched."""

    blind: bool
    drawn: Drawn


@dataclass(frozen=True, kw_only=True)
class HandedOut:
    """The record of a batch, for the import of what comes back.

    `boxes` says how each box was drawn, by its key; `searches` the same of each photo, by its hash; `shown` lists the
    boxes that a photo which is searched with its boxes shows, by its hash; `copies` is the name of each photo's copy
    below `photos/`, by its hash.
    """

    boxes: Mapping[str, Drawn] = field(default_factory=lambda: MappingProxyType({}))
    searches: Mapping[str, HandedPhoto] = field(default_factory=lambda: MappingProxyType({}))
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    copies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, batch: ReviewBatch) -> Self:
        """The record of `batch`."""
        copies = copy_names([one.image for one in batch.items])
        return cls(
            boxes={one.box_key: one.drawn for one in batch.boxes},
            searches={one.photo_sha256: HandedPhoto(one.blind, one.drawn) for one in batch.photos},
            shown={one.photo_sha256: tuple(box.box_key for box in one.boxes) for one in batch.photos if not one.blind},
            copies={one.photo_sha256: copies[one.image] for one in batch.items},
        )

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values; `from_json` is the inverse."""
        return {
            "boxes": dict(self.boxes),
            "searches": {key: {"blind": one.blind, "drawn": one.drawn} for key, one in self.searches.items()},
            "shown": {key: list(keys) for key, keys in self.shown.items()},
            "copies": dict(self.copies),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The record that `as_json` wrote."""
        return cls(
            boxes=dict(value["boxes"]),
            searches={key: HandedPhoto(one["blind"], one["drawn"]) for key, one in value["searches"].items()},
            shown={key: tuple(keys) for key, keys in value["shown"].items()},
            copies=dict(value["copies"]),
        )


def copy_names(images: Sequence[str]) -> dict[str, str]:
    """The name of each photo's copy for people: PNG stays PNG, all else becomes JPEG, and no two share a name."""
    kept = (".jpg", ".jpeg", ".png")
    wanted = {one: one if one.lower().endswith(kept) else f"{one}.jpg" for one in sorted(set(images))}
    return _apart(wanted, set())


def names_with_boxes(copies: Mapping[str, str]) -> dict[str, str]:
    """The name of the picture with boxes that goes with each copy of `copy_names`: `NAME_boxes.jpg`."""
    taken = {name.casefold() for name in copies.values()}
    return _apart({image: f"{name.rpartition('.')[0]}_boxes.jpg" for image, name in copies.items()}, taken)


def _apart(wanted: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    """Each wanted name, numbered where it is taken: two names that differ by case are one file on many systems."""
    names: dict[str, str] = {}
    for key, name in wanted.items():
        stem, _, suffix = name.rpartition(".")
        free = name
        for number in count(2):
            if free.casefold() not in taken:
                break
            free = f"{stem} ({number}).{suffix}"
        taken.add(free.casefold())
        names[key] = free
    return names
