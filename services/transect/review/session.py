"""One review at work: its population, its decisions, and the batches that were handed out."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from transect.arrays import IntArray
from transect.errors import InputError
from transect.files import atomic_write_json, locked, private_files
from transect.review.decisions.connection import database_url
from transect.review.decisions.decision import Decision, Drawn, PhotoSearch
from transect.review.decisions.store import DecisionStore, open_store
from transect.review.exchange.batch import BatchBox, BatchPhoto, HandedOut, ReviewBatch, ShownBox
from transect.review.exchange.known import DecisionFile, KnownBox, KnownItems, KnownPhoto, decision_uuid
from transect.review.folder.items import ReviewItems, read_items
from transect.review.verdicts.current import standing
from transect.review.verdicts.truth import Answers, Truth, truth_of
from transect.settings import Settings

_BATCHES = "batches"


@dataclass(frozen=True)
class Taken:
    """What an import changed: new decisions and searches, those known already, and those that replace earlier ones."""

    new: int
    known: int
    replaced: int
    outdated: int


class ReviewSession:
    """A review that is open. Made by `open_review`."""

    def __init__(self, items: ReviewItems, store: DecisionStore) -> None:
        self.items, self.store = items, store

    @property
    def folder(self) -> Path:
        """The review's folder."""
        return self.items.folder

    @property
    def id(self) -> str:
        """The review's id in the database."""
        return self.items.manifest.id

    def answers(self) -> Answers:
        """All that people said so far."""
        return Answers(
            decisions=self.store.decisions(self.id),
            searches=self.store.searches(self.id),
            drawn_boxes=self.store.drawn(self.id, "box"),
            drawn_photos=self.store.drawn(self.id, "photo"),
        )

    def truth(self) -> Truth:
        """What is known of the population."""
        return truth_of(self.items, self.answers())

    def hand_out(
        self,
        boxes: IntArray,
        photos: IntArray,
        *,
        survey: Path,
        blind: bool,
        drawn: Drawn,
        suggestions: Mapping[int, str] | None = None,
    ) -> ReviewBatch:
        """Make a batch of boxes (rows) and photos (numbers in the population), and record it before it is written.

        `suggestions` are what an earlier review says, by row. The same items as in the last batch are that batch again,
        so that an export that was killed goes on.
        """
        with private_files(), locked(self.folder / ".lock"):
            folder = self.folder / _BATCHES
            folder.mkdir(exist_ok=True)
            numbers = sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))
            said = suggestions or {}
            batch = ReviewBatch(
                review_id=self.id,
                batch=len(numbers) + 1,
                survey_name=self.items.manifest.survey.name,
                species=self.items.manifest.named,
                boxes=tuple(self._batch_box(row, survey, drawn, said.get(row, "")) for row in boxes.tolist()),
                photos=tuple(
                    self._batch_photo(row, mine.tolist(), survey, blind=blind, drawn=drawn)
                    for row, mine in self.items.boxes.in_photos(self.items.searchable[photos].tolist()).items()
                ),
            )
            if numbers and self._record(numbers[-1]) == HandedOut.of(batch):
                batch = replace(batch, batch=numbers[-1])
            else:
                atomic_write_json(folder / f"{batch.batch:04}.json", HandedOut.of(batch).as_json())
            if drawn == "sample":
                self.store.record_drawn(self.id, "box", [one.box_key for one in batch.boxes], str(batch.batch))
                self.store.record_drawn(self.id, "photo", [one.photo_sha256 for one in batch.photos], str(batch.batch))
        return batch

    def known_items(self) -> KnownItems:
        """What decisions from outside are checked against."""
        photos, survey = self.items.photos, self.items.manifest.survey.folder
        images = None if survey is None else Path(survey) / "images"
        numbers = (int(path.stem) for path in (self.folder / _BATCHES).glob("[0-9]*.json"))
        return KnownItems(
            review_id=self.id,
            species=self.items.manifest.named,
            boxes=_KnownBoxes(self.items),
            photos={
                photos.sha256[row]: KnownPhoto(
                    image=photos.image[row],
                    width=int(photos.size[row, 0]),
                    height=int(photos.size[row, 1]),
                    path=None if images is None else images / photos.image[row],
                )
                for row in self.items.searchable.tolist()
            },
            batches={number: self._record(number) for number in sorted(numbers)},
        )

    def take(self, found: DecisionFile, *, settles: bool = False) -> Taken:
        """Take in what a file says, all or nothing.

        A decision that changes an earlier one of the same person replaces it. One that is delivered again changes
        nothing, also where a later one has replaced it since.
        """
        answers = self.answers()
        decisions, old = _chained(self.id, found.decisions, answers.decisions, found.given, settles=settles)
        searches, old_searches = _chained(self.id, found.searches, answers.searches, found.given, settles=settles)
        added = self.store.append(self.id, decisions, searches)
        known = {one.uuid for one in answers.decisions} | {one.uuid for one in answers.searches}
        return Taken(
            new=added.new,
            known=added.known,
            replaced=sum(bool(one.supersedes) and one.uuid not in known for one in [*decisions, *searches]),
            outdated=old + old_searches,
        )

    def _record(self, number: int) -> HandedOut:
        path = self.folder / _BATCHES / f"{number:04}.json"
        try:
            return HandedOut.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not the record of a batch: {error!r}; put back the file as it was.") from error

    def _batch_box(self, row: int, survey: Path, drawn: Drawn, suggestion: str) -> BatchBox:
        items = self.items
        photo = int(items.boxes.photo[row])
        return BatchBox(
            box_key=items.boxes.key[row].as_py(),
            photo_sha256=items.photos.sha256[photo],
            image=items.photos.image[photo],
            path=survey / "images" / items.photos.image[photo],
            box=_corners(items, row),
            species=items.manifest.species[items.boxes.species[row]],
            class_name=items.boxes.class_name[row].as_py(),
            gsd_m=_or_none(items.photos.gsd_m[photo]),
            drawn=drawn,
            rendering=items.photos.rendering[photo],
            suggestion=suggestion,
        )

    def _batch_photo(self, row: int, boxes: Sequence[int], survey: Path, *, blind: bool, drawn: Drawn) -> BatchPhoto:
        items = self.items
        width, height = items.photos.size[row].tolist()
        return BatchPhoto(
            photo_sha256=items.photos.sha256[row],
            image=items.photos.image[row],
            path=survey / "images" / items.photos.image[row],
            width=width,
            height=height,
            gsd_m=_or_none(items.photos.gsd_m[row]),
            blind=blind,
            drawn=drawn,
            boxes=tuple(
                ShownBox(
                    items.boxes.key[box].as_py(),
                    _corners(items, box),
                    items.manifest.species[items.boxes.species[box]],
                )
                for box in boxes
            ),
            rendering=items.photos.rendering[row],
        )


@contextmanager
def open_review(folder: Path, settings: Settings) -> Iterator[ReviewSession]:
    """Open the review in `folder`, with its decisions in the database that `settings` name, else in a file there.

    Raises InputError for a folder that is no review, and what `open_store` raises.
    """
    items = read_items(folder)
    manifest = items.manifest
    with private_files(), open_store(database_url(folder, settings)) as store:
        store.add_review(
            manifest.id,
            name=manifest.name,
            created_by=manifest.created_by,
            survey_digest=manifest.survey.digest,
            census_run=manifest.census.run,
        )
        yield ReviewSession(items, store)


def survey_folder(items: ReviewItems, given: Path | None) -> Path:
    """The folder of the survey's photos: the given one, else where it was. Raises InputError where it is not."""
    named = items.manifest.survey.folder
    if given is None and named is None:
        raise InputError(
            f"{items.folder} does not know where the photos of {items.manifest.survey.name} are; name the survey "
            "folder with --survey."
        )
    folder = given if given is not None else Path(str(named))
    if not (folder / "images").is_dir():
        raise InputError(f"{folder} has no folder images; name the survey folder with --survey.")
    return folder


class _KnownBoxes(Mapping[str, KnownBox]):
    """The boxes by key; a box is made when it is asked for, since a review may have a million."""

    def __init__(self, items: ReviewItems) -> None:
        self._items = items
        self._row = {key: row for row, key in enumerate(items.boxes.key.to_pylist())}

    def __getitem__(self, key: str) -> KnownBox:
        row, items = self._row[key], self._items
        return KnownBox(
            photo_sha256=items.photos.sha256[items.boxes.photo[row]],
            box=_corners(items, row),
            species=items.manifest.species[items.boxes.species[row]],
            class_name=items.boxes.class_name[row].as_py(),
        )

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def _chained(
    review_id: str, made: Sequence[Any], there: Sequence[Any], given: frozenset[str], *, settles: bool
) -> tuple[list[Any], int]:
    """Each decision or search with what it replaces, and how many were outdated before they came.

    Any: a decision is treated as a search is.
    """
    known = {one.uuid: one for one in there}
    current = {(_item(one), one.reviewer): one for ones in standing(there).values() for one in ones}
    found, outdated = [], Counter[str]()
    for plain in made:
        one = replace(plain, settles=settles or plain.settles)
        if one.uuid not in given:
            one = replace(one, uuid=decision_uuid(review_id, one))
        before = current.get((_item(one), one.reviewer))
        if one.uuid in known and known[one.uuid].settles == one.settles:
            # A delivery that comes again is as it was recorded, whatever its time says now.
            found.append(known[one.uuid])
            outdated["old"] += before is not None and before.uuid != one.uuid
            continue
        if before is not None and not one.supersedes:
            one = replace(one, supersedes=before.uuid)
            if one.uuid not in given:
                one = replace(one, uuid=decision_uuid(review_id, one))
            one = known.get(one.uuid, one)
        found.append(one)
    return found, outdated["old"]


def _item(one: Decision | PhotoSearch) -> str:
    return one.box_key if isinstance(one, Decision) else one.photo_sha256


def _corners(items: ReviewItems, row: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = items.boxes.box[row].tolist()
    return x1, y1, x2, y2


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
