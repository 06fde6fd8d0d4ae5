"""What a review knows, against which decisions from outside are checked, and what an import gives."""

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from transect.errors import InputError
from transect.files import sha256_file
from transect.review.decisions.decision import Decision, Drawn, PhotoSearch, PixelBox
from transect.review.exchange.batch import HandedOut
from transect.review.exchange.terms import PHOTOS

# Any fixed value does; it keeps our identifiers apart from those of others.
_NAMESPACE = uuid.UUID("6f0c1c2e-5d0b-5c58-9a4e-2f7c9f8c1c11")
# Tools round to a hundredth of a pixel, and a hand ends at the last pixel's far side.
_BEYOND_PX = 1.0
KEY_LENGTH = 64
"""SHA-256 in hexadecimal digits."""
_Made = TypeVar("_Made", Decision, PhotoSearch)


@dataclass(frozen=True)
class KnownBox:
    """A box of the population; `species` is the reported species that the model predicted."""

    photo_sha256: str
    box: PixelBox
    species: str
    class_name: str


@dataclass(frozen=True)
class KnownPhoto:
    """A photo of the population: its name in the survey, and its size in pixels as it is seen.

    `path` is its file, if that is at hand: a photo that changed since the census is then noticed.
    """

    image: str
    width: int
    height: int
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class KnownItems:
    """The items of a review: boxes by key, photos by hash, the species that may be named, and each batch's record."""

    review_id: str
    species: tuple[str, ...]
    boxes: Mapping[str, KnownBox]
    photos: Mapping[str, KnownPhoto]
    batches: Mapping[int, HandedOut] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def _by_image(self) -> dict[str, str]:
        return {one.image: key for key, one in self.photos.items()}

    @cached_property
    def _by_copy(self) -> dict[str, str | None]:
        return _unique((name, key) for batch in self.batches.values() for key, name in batch.copies.items())

    @cached_property
    def _by_stem(self) -> dict[str, str | None]:
        """By the name without suffix, which datumaro drops."""
        names = (*((name, key) for name, key in self._by_copy.items() if key), *self._by_image.items())
        return _unique((_stem(name), key) for name, key in names)

    @cached_property
    def _unchanged(self) -> set[str]:
        """The photos that were found unchanged."""
        return set()

    @cached_property
    def _shown(self) -> dict[int, dict[str, tuple[str, ...]]]:
        found: dict[int, dict[str, tuple[str, ...]]] = {}
        for number, batch in self.batches.items():
            keys = {photo: dict.fromkeys(shown) for photo, shown in batch.shown.items()}
            for key in batch.boxes:
                if key in self.boxes:
                    keys.setdefault(self.boxes[key].photo_sha256, {})[key] = None
            found[number] = {photo: tuple(ones) for photo, ones in keys.items()}
        return found

    def shown(self, photo_sha256: str, batch: int) -> tuple[str, ...]:
        """The keys of the boxes that a batch showed in a photo, also those that it gave as crops."""
        return self._shown[batch].get(photo_sha256, ())

    def photo_named(self, name: str) -> str | None:
        """The hash of the photo with this name in the survey; None for none."""
        return self._by_image.get(name)

    def photo_copied(self, name: str) -> str | None:
        """The hash of the photo whose copy has this relative name, or a path that ends in `photos/` and this name.

        The base name alone is never enough: folders share them. A photo that was not copied is found by its own name.
        None for an unknown name, and for one that two photos had in different batches.
        """
        parts = name.replace("\\", "/").removeprefix("./").split("/")
        below = [parts, *(parts[index + 1 :] for index, part in enumerate(parts[:-1]) if part == PHOTOS)]
        names = ["/".join(one) for one in below]
        for named in (self._by_copy, self._by_image, self._by_stem):
            for one in names:
                if one in named:
                    return named[one]
        return None

    def check_unchanged(self, photo_sha256: str, where: str) -> None:
        """Raise InputError where the photo's file is at hand and has changed since the census."""
        photo = self.photos[photo_sha256]
        if photo.path is None or photo_sha256 in self._unchanged:
            return
        try:
            found = sha256_file(photo.path)
        except OSError:
            # Photos may lie on a disk that is elsewhere by now; what was decided holds for what was handed out.
            return
        if found != photo_sha256:
            raise InputError(
                f"{where} decides on {photo.image}, whose file {photo.path} has changed since the census; put "
                "the photo of the census back."
            )
        self._unchanged.add(photo_sha256)

    def unknown_photo(self, photo_sha256: str, name: str, where: str) -> InputError:
        """Why the photo with this hash, or else this name, cannot be taken."""
        here = self.photo_named(name) or self.photo_copied(name)
        if photo_sha256 and here:
            return InputError(
                f"{where}: {name} has changed: the file is of the photo {photo_sha256[:12]!r}, and the review stands "
                f"on {here[:12]!r}; export the review anew."
            )
        return InputError(
            f"{where}: {name or photo_sha256[:12]!r} is no photo of this review; it is of another census."
        )

    def species_named(self, name: str, where: str) -> str:
        """The species as the review writes it. Raises InputError for an unknown one."""
        folded = {one.casefold(): one for one in self.species}
        if name.casefold() not in folded:
            raise InputError(f"{where}: {name!r} is no species of the review; its species are {listed(self.species)}.")
        return folded[name.casefold()]

    def box_keyed(self, key: str, where: str) -> KnownBox:
        """The box with this key. Raises InputError for an unknown one."""
        if key not in self.boxes:
            raise InputError(f"{where}: the box {key[:12]!r} is none of this review{self.why_not(key)}.")
        return self.boxes[key]

    def why_not(self, key: str) -> str:
        """What an unknown key tells, as the end of a sentence."""
        if key in self.photos or key in self.boxes:
            return "'s boxes but a photo" if key in self.photos else "'s photos but a box"
        return (
            "; it is of another census, or its photo has changed since"
            if len(key) == KEY_LENGTH
            else "; it was cut off or changed"
        )

    def drawn_box(self, key: str) -> Drawn:
        """How a box was drawn: by chance where any batch says so."""
        drawn = [one.boxes[key] for one in self.batches.values() if key in one.boxes]
        return "sample" if "sample" in drawn else "choice"

    def inside(self, box: PixelBox, photo_sha256: str, where: str) -> PixelBox:
        """A box that a person drew, cut at the photo's edge. Raises InputError for one that is no box, or outside."""
        x1, y1, x2, y2 = box
        photo = self.photos[photo_sha256]
        if not all(map(math.isfinite, box)):
            raise InputError(f"{where}: the box {_corners(box)} has a corner that is not a finite number.")
        if x2 <= x1 or y2 <= y1:
            raise InputError(f"{where}: the box {_corners(box)} has no area; x2 must be above x1, and y2 above y1.")
        if min(x1, y1) < -_BEYOND_PX or x2 > photo.width + _BEYOND_PX or y2 > photo.height + _BEYOND_PX:
            raise InputError(
                f"{where}: the box {_corners(box)} reaches outside of {photo.image}, which has "
                f"{photo.width} x {photo.height} pixels."
            )
        return max(x1, 0.0), max(y1, 0.0), min(x2, float(photo.width)), min(y2, float(photo.height))


@dataclass(frozen=True, kw_only=True)
class DecisionFile:
    """What a file says. `given` are the uuids that it brought itself; the others are of `decision_uuid`."""

    format: str
    decisions: tuple[Decision, ...]
    searches: tuple[PhotoSearch, ...]
    remarks: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()


def decision_uuid(review_id: str, made: Decision | PhotoSearch) -> str:
    """A uuid that follows from what was decided on what by whom, and from `supersedes`: a repeat has the same one.

    When, how long and how the item was drawn are left out, since a file that is delivered again may not know them.
    """
    if isinstance(made, Decision):
        parts = [made.box_key, made.reviewer, made.verdict, made.species]
    else:
        animals = [f"{one.species} {_corners(one.box)} {one.before_reveal}" for one in made.added]
        parts = [made.photo_sha256, made.reviewer, "blind" if made.blind else "open", *sorted(animals)]
    return str(uuid.uuid5(_NAMESPACE, "\n".join([review_id, *parts, made.note, made.supersedes])))


def with_uuid(review_id: str, made: _Made) -> _Made:
    """The same with the uuid of `decision_uuid`."""
    return replace(made, uuid=decision_uuid(review_id, made))


def listed(names: tuple[str, ...]) -> str:
    """Names with commas."""
    return ", ".join(names)


def _corners(box: PixelBox) -> str:
    return ", ".join(f"{value:g}" if not math.isfinite(value) else f"{round(value, 2):g}" for value in box)


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """The photo of each name; None where two share it."""
    found: dict[str, str | None] = {}
    for name, photo in pairs:
        found[name] = photo if found.get(name, photo) == photo else None
    return found


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)
