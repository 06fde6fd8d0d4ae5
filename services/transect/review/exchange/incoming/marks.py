"""From the rectangles of a labelling tool to decisions.

Where a photo is finished: a box of the population that is still there is kept, one with another label is of another
species, one that is gone is rejected, and one that came is an animal that no box covered. A verdict that was set wins.
A photo that nobody finished decides nothing but what was set or relabelled: no annotation is not empty ground.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from transect.arrays import FloatArray
from transect.engine.boxes.overlaps import best_pairs, iou_matrix
from transect.errors import InputError
from transect.review.decisions.decision import (
    VERDICTS,
    AddedBox,
    Decision,
    PhotoSearch,
    PixelBox,
    Verdict,
)
from transect.review.exchange.batch import HandedPhoto
from transect.review.exchange.known import KnownItems, listed, with_uuid
from transect.review.exchange.terms import NOT_SET

# A box without its key is the census's where they agree so far; one with its key may have been redrawn more freely.
_SAME_BOX, _SAME_KEY = 0.5, 0.2


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A rectangle in a labelling tool; `where` names it in messages. An empty `verdict` was not set."""

    where: str
    label: str
    box: PixelBox
    box_key: str = ""
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class MarkedPhoto:
    """A photo as one person left it. `batch` is the one that the file names, None where it names none."""

    where: str
    photo_sha256: str
    reviewer: str
    done: bool
    marks: tuple[Mark, ...]
    batch: int | None = None
    at: datetime | None = None
    milliseconds: int | None = None
    note: str = ""


@dataclass(frozen=True, order=True)
class Remark:
    """Something that had to be interpreted: a thing, its plural, and what happened to it."""

    thing: str
    things: str
    what: str


@dataclass(frozen=True)
class Decided:
    """What one marked photo says, and how often something had to be interpreted, by sentence."""

    decisions: tuple[Decision, ...]
    search: PhotoSearch | None
    remarks: Mapping[Remark, int]


def decide(photo: MarkedPhoto, known: KnownItems) -> Decided:
    """The decisions of one photo. Raises InputError for a mark that means nothing in this review."""
    batch = _batch_of(photo, known)
    handed = None if batch is None else known.batches[batch].searches.get(photo.photo_sha256)
    blind = handed is not None and handed.blind
    shown = () if blind or batch is None else known.shown(photo.photo_sha256, batch)
    remarks: Counter[Remark] = Counter()
    owners = _owners(photo, known, shown, remarks)
    taken = set(owners.values())
    decisions = [
        one
        for key, number in owners.items()
        if (one := _decision(photo, known, key, photo.marks[number], remarks)) is not None
    ]
    if photo.done:
        decisions += [_made(photo, known, key, "reject") for key in shown if key not in owners]
    new = [mark for number, mark in enumerate(photo.marks) if number not in taken]
    added = tuple(_added(mark, photo, known, before=blind) for mark in new)
    if new and not (photo.done and handed is not None):
        why = "was not to be searched in full" if photo.done else "is not finished"
        remarks[Remark("new box", "new boxes", f"left out, because the photo {why}")] += len(new)
    search = _search(photo, known, handed, added) if photo.done and handed is not None else None
    if decisions and search is None and photo.milliseconds is not None:
        share = photo.milliseconds // len(decisions)
        decisions = [replace(one, milliseconds=share) for one in decisions]
    return Decided(tuple(decisions), search, remarks)


def _batch_of(photo: MarkedPhoto, known: KnownItems) -> int | None:
    """The batch that handed a photo out; None where none did."""
    if photo.batch is not None:
        if photo.batch not in known.batches:
            raise InputError(f"{photo.where} is of batch {photo.batch}, which this review has not handed out.")
        return photo.batch
    having = [
        number
        for number, one in sorted(known.batches.items())
        if photo.photo_sha256 in one.searches or known.shown(photo.photo_sha256, number)
    ]
    if len(having) > 1 and photo.done:
        raise InputError(
            f"{photo.where} was handed out in the batches {listed(tuple(map(str, having)))}, and the file does not say "
            "of which it is; name it with --batch."
        )
    return having[0] if having else None


def _owners(photo: MarkedPhoto, known: KnownItems, shown: Sequence[str], remarks: Counter[Remark]) -> dict[str, int]:
    """The number of the mark that stands for each box of the population.

    By key, and of several marks with one key (a copy has the key of its original) by the best agreement; then, for
    marks whose key a tool dropped, by agreement with the boxes that were shown.
    """
    keyed: dict[str, list[int]] = {}
    for number, mark in enumerate(photo.marks):
        if mark.box_key and known.box_keyed(mark.box_key, mark.where).photo_sha256 == photo.photo_sha256:
            keyed.setdefault(mark.box_key, []).append(number)
    owners: dict[str, int] = {}
    for key, numbers in keyed.items():
        overlaps = _overlaps([known.boxes[key].box], [photo.marks[number].box for number in numbers])[0]
        if overlaps.max() >= _SAME_KEY:
            owners[key] = numbers[int(overlaps.argmax())]
    copies = sum(map(len, keyed.values())) - len(owners)
    if copies:
        remarks[Remark("box", "boxes", "with the key of another one, as copies have, taken as new")] += copies
    free = [number for number, mark in enumerate(photo.marks) if number not in set(owners.values())]
    open_keys = [key for key in shown if key not in owners]
    for key, number in _matched(open_keys, free, photo, known):
        owners[key] = number
        remarks[Remark("box", "boxes", "back without the key, found by photo and place")] += 1
    return owners


def _matched(
    keys: Sequence[str], numbers: Sequence[int], photo: MarkedPhoto, known: KnownItems
) -> Iterator[tuple[str, int]]:
    """Yield boxes and marks that agree, the best agreement first, each once."""
    if not keys or not numbers:
        return
    overlaps = _overlaps([known.boxes[key].box for key in keys], [photo.marks[number].box for number in numbers])
    for row, column in best_pairs(overlaps, _SAME_BOX):
        yield keys[row], numbers[column]


def _overlaps(first: Sequence[PixelBox], second: Sequence[PixelBox]) -> FloatArray:
    return np.array(iou_matrix(np.array(first, np.float64), np.array(second, np.float64)), np.float64)


def _decision(photo: MarkedPhoto, known: KnownItems, key: str, mark: Mark, remarks: Counter[Remark]) -> Decision | None:
    """What a mark says about the box that it stands for; None for nothing."""
    species = known.species_named(mark.label, mark.where)
    another = species != known.boxes[key].species
    verdict = set_verdict(mark.verdict, mark.where)
    if verdict == "species" and not another:
        raise InputError(
            f"{mark.where} has the verdict species and the label {species} as before; give the other label."
        )
    if verdict == "keep" and another:
        remarks[Remark("box", "boxes", "with the verdict keep and another label, taken by the label")] += 1
        verdict = "species"
    if verdict is None and another:
        verdict = "species"
    if verdict is None:
        if not photo.done:
            return None
        verdict = "keep"
    return _made(photo, known, key, verdict, species=species if verdict == "species" else "", note=mark.note)


def set_verdict(text: str, where: str) -> Verdict | None:
    """A verdict that was written or chosen; None for none. Raises InputError for an unknown one."""
    name = text.strip().casefold()
    if name in ("", NOT_SET):
        return None
    for verdict in VERDICTS:
        if name == verdict:
            return verdict
    raise InputError(f"{where}: {text!r} is no verdict; the verdicts are {listed(VERDICTS)}.")


def _made(
    photo: MarkedPhoto, known: KnownItems, key: str, verdict: Verdict, *, species: str = "", note: str = ""
) -> Decision:
    decision = Decision(
        uuid="",
        photo_sha256=photo.photo_sha256,
        box_key=key,
        verdict=verdict,
        reviewer=photo.reviewer,
        drawn=known.drawn_box(key),
        species=species,
        decided_at=photo.at,
        note=note,
    )
    return with_uuid(known.review_id, decision)


def _added(mark: Mark, photo: MarkedPhoto, known: KnownItems, *, before: bool) -> AddedBox:
    verdict = set_verdict(mark.verdict, mark.where)
    if verdict not in (None, "keep", "species"):
        raise InputError(
            f"{mark.where} is a new box with the verdict {verdict}; delete it, or set its verdict to `{NOT_SET}`."
        )
    box = known.inside(mark.box, photo.photo_sha256, mark.where)
    return AddedBox(box=box, species=known.species_named(mark.label, mark.where), before_reveal=before)


def _search(photo: MarkedPhoto, known: KnownItems, handed: HandedPhoto, added: tuple[AddedBox, ...]) -> PhotoSearch:
    search = PhotoSearch(
        uuid="",
        photo_sha256=photo.photo_sha256,
        reviewer=photo.reviewer,
        drawn=handed.drawn,
        blind=handed.blind,
        added=tuple(sorted(added, key=lambda one: (one.box, one.species))),
        done_at=photo.at,
        milliseconds=photo.milliseconds,
        note=photo.note,
    )
    return with_uuid(known.review_id, search)
