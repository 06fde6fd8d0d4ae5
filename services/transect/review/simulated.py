"""A simulated person, who knows where the animals are and errs at stated rates. For demos and benchmarks."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from transect.arrays import FloatArray
from transect.engine.boxes.overlaps import iou_matrix
from transect.review.decisions.decision import AddedBox, Decision, Drawn, PhotoSearch, Verdict
from transect.review.folder.items import ReviewItems
from transect.review.planning.plan import Target, plan_review
from transect.review.population.plan import Costs
from transect.review.session import ReviewSession
from transect.review.verdicts.added import SAME_ANIMAL_IOU, covered

_NAMESPACE = uuid.UUID("5b3b9a52-8d1f-4b07-9d9e-2a6b8f6f0e0c")
_START = datetime(2026, 1, 5, 8, tzinfo=UTC)


@dataclass(frozen=True)
class TrueAnimals:
    """The animals in one photo: `boxes` (n, 4) xyxy in pixels, and the species of each."""

    boxes: FloatArray
    species: tuple[str, ...]


NONE = TrueAnimals(np.empty((0, 4)), ())


@dataclass(frozen=True)
class SimulatedPerson:
    """A person who rejects a share `rejects` of the animals in boxes, keeps a share `keeps` of the boxes without one
    and overlooks a share `overlooks` of the animals in a photo that is searched; each item takes what `costs` say.

    `truth` is by the photo's name. What the person does follows from `seed` and the item alone.
    """

    truth: Mapping[str, TrueAnimals]
    name: str = "simulated person"
    rejects: float = 0.02
    keeps: float = 0.0005
    overlooks: float = 0.05
    seed: int = 0
    costs: Costs = field(default_factory=Costs)

    def decide(self, items: ReviewItems, rows: Iterable[int], drawn: Drawn = "sample") -> list[Decision]:
        """The decisions on boxes (rows of the population)."""
        wanted = list(rows)
        by_photo: dict[int, list[int]] = {}
        for row in wanted:
            by_photo.setdefault(int(items.boxes.photo[row]), []).append(row)
        said = {row: one for photo, mine in by_photo.items() for row, one in self._verdicts(items, photo, mine).items()}
        made = []
        for number, row in enumerate(wanted):
            verdict, species = said[row]
            key = items.boxes.key[row].as_py()
            made.append(
                Decision(
                    uuid=self._uuid("box", key),
                    photo_sha256=items.photos.sha256[items.boxes.photo[row]],
                    box_key=key,
                    verdict=verdict,
                    species=species,
                    reviewer=self.name,
                    drawn=drawn,
                    decided_at=_START + timedelta(seconds=self.costs.box * number),
                    milliseconds=round(self.costs.box * 1000),
                )
            )
        return made

    def search(
        self, items: ReviewItems, photos: Iterable[int], *, blind: bool = True, drawn: Drawn = "sample"
    ) -> list[PhotoSearch]:
        """The searches of photos (numbers in the population)."""
        return [self._search(items, int(photo), number, blind, drawn) for number, photo in enumerate(photos)]

    def _search(self, items: ReviewItems, photo: int, number: int, blind: bool, drawn: Drawn) -> PhotoSearch:
        row = int(items.searchable[photo])
        animals = self.truth.get(items.photos.image[row], NONE)
        mine = items.boxes.in_photos([row])[row]
        has_box, _ = covered(animals.boxes, items.boxes.box[mine])
        digest = items.photos.sha256[row]
        noticed = self._rng("search", digest).random(len(animals.species)) >= self.overlooks
        # Whoever sees the boxes has no reason to mark an animal that has one.
        marked = noticed if blind else noticed & ~has_box
        added = tuple(
            AddedBox(box=tuple(animals.boxes[at].tolist()), species=animals.species[at], before_reveal=blind)
            for at in np.flatnonzero(marked).tolist()
        )
        return PhotoSearch(
            uuid=self._uuid("photo", digest),
            photo_sha256=digest,
            reviewer=self.name,
            drawn=drawn,
            blind=blind,
            added=added,
            done_at=_START + timedelta(seconds=self.costs.photo * number),
            milliseconds=round(self.costs.photo * 1000),
        )

    def _verdicts(self, items: ReviewItems, photo: int, rows: Sequence[int]) -> dict[int, tuple[Verdict, str]]:
        animals = self.truth.get(items.photos.image[photo], NONE)
        every = items.boxes.in_photos([photo])[photo]
        boxes = items.boxes.box[every]
        # A better box takes its animal; the others on it are duplicates.
        order = np.argsort(-items.boxes.score[every], kind="stable")
        taken = _owners(boxes[order], animals.boxes)
        owner = dict(zip(every[order].tolist(), taken, strict=True))
        overlap = iou_matrix(boxes, animals.boxes)
        touching = np.any(overlap >= SAME_ANIMAL_IOU, axis=1)
        touches = {row: bool(yes) for row, yes in zip(every.tolist(), touching, strict=True)}
        found: dict[int, tuple[Verdict, str]] = {}
        for row in rows:
            called = items.manifest.species[items.boxes.species[row]]
            animal = owner[row]
            right: tuple[Verdict, str] = ("duplicate", "") if touches[row] else ("reject", "")
            if animal is not None:
                right = ("keep", "") if animals.species[animal] == called else ("species", animals.species[animal])
            rng = self._rng("box", items.boxes.key[row].as_py())
            is_animal = right[0] in ("keep", "species")
            wrong: tuple[Verdict, str] = ("reject", "") if is_animal else ("keep", "")
            found[row] = wrong if rng.random() < (self.rejects if is_animal else self.keeps) else right
        return found

    def _rng(self, kind: str, key: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, len(kind), int(key[:16], 16)])

    def _uuid(self, kind: str, key: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self.seed} {self.name} {kind} {key}"))


def simulate_review(session: ReviewSession, person: SimulatedPerson, minutes: float) -> None:
    """Let a person review for so many minutes at most: the pilot, then what the plan gives for the time left."""
    left = minutes
    while left > 0:
        following = plan_review(session.truth(), Target(cv=None, minutes=left))
        spent = (len(following.boxes) * person.costs.box + len(following.photos) * person.costs.photo) / 60
        if not 0 < spent <= left:
            return
        items, store = session.items, session.store
        keys = [items.boxes.key[row].as_py() for row in following.boxes.tolist()]
        photos = [items.photos.sha256[row] for row in items.searchable[following.photos].tolist()]
        store.record_drawn(session.id, "box", keys, "simulated")
        store.record_drawn(session.id, "photo", photos, "simulated")
        decided = person.decide(items, following.boxes.tolist())
        store.append(session.id, decided, person.search(items, following.photos.tolist()))
        left -= spent


def _owners(boxes: FloatArray, animals: FloatArray) -> list[int | None]:
    """For each box in order the animal that it takes: the one with the best IoU of those that no earlier one took."""
    free = np.ones(len(animals), bool)
    owners: list[int | None] = []
    for row in iou_matrix(boxes, animals):
        overlap = np.where(free, row, 0.0)
        best = int(np.argmax(overlap)) if len(overlap) else -1
        if best >= 0 and overlap[best] >= SAME_ANIMAL_IOU:
            free[best] = False
            owners.append(best)
        else:
            owners.append(None)
    return owners
