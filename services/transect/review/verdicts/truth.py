"""What people say of the population: of each box whether it is an animal, of each photo which animals have no box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from transect.arrays import BoolArray, FloatArray
from transect.review.decisions.decision import Decision, PhotoSearch
from transect.review.estimator.agreement import Agreement
from transect.review.estimator.flown import Flown
from transect.review.estimator.perception import Perception, perception
from transect.review.folder.items import ReviewItems
from transect.review.population.design import ReviewCells, Reviewed
from transect.review.verdicts.added import DrawnBox, covered, single_look_weights
from transect.review.verdicts.current import BoxFinding, agreement_of, box_finding, settled, standing


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All that people said of a review: decisions, searches, and what was handed out by chance."""

    decisions: Sequence[Decision]
    searches: Sequence[PhotoSearch]
    drawn_boxes: frozenset[str]
    drawn_photos: frozenset[str]


@dataclass(frozen=True)
class Missed:
    """An animal without a box: its photo's number in the population, box, species, weight, and whether seen blind.

    Where several people searched a photo, each one's animals have a share of their weight.
    """

    photo: int
    box: tuple[float, float, float, float]
    species: str
    weight: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """What is known of the population of a review; arrays are of its boxes (n,) or of its photos (P,).

    `finding` is by row of a decided box, `box_chosen` and `photo_chosen` are what somebody picked. `reader` is the
    readers' own share of the animals; None without blind searches that say it.
    """

    items: ReviewItems
    finding: Mapping[int, BoxFinding]
    missed: tuple[Missed, ...]
    box_decided: BoolArray
    box_chosen: BoolArray
    photo_searched: BoolArray
    photo_chosen: BoolArray
    reader: Perception | None
    agreement: Agreement | None
    decided: Mapping[int, tuple[Decision, ...]] = field(repr=False)
    searches: Mapping[int, tuple[PhotoSearch, ...]] = field(repr=False)

    def is_animal(self, species: str | None, *, unsure: bool = False) -> BoolArray:
        """Which boxes (n,) are an animal of `species`, or of any (None); `unsure` says what unsure ones are."""
        found = np.zeros(len(self.items.boxes), bool)
        for row, one in self.finding.items():
            yes = one.finding == "animal" or (unsure and one.finding == "unsure")
            found[row] = yes and species in (None, one.species)
        return found

    def missed_weight(self, species: str | None) -> FloatArray:
        """The weighted animals of `species`, or of any (None), without a box in each photo (P,)."""
        found = np.zeros(len(self.photo_searched))
        for one in self.missed:
            if species in (None, one.species):
                found[one.photo] += one.weight
        return found

    def reviewed(self, *, unsure: bool = False) -> Reviewed:
        """What was decided, as the estimator takes it."""
        return Reviewed(
            box_decided=self.box_decided,
            box_chosen=self.box_chosen,
            animal=self.is_animal(None, unsure=unsure),
            photo_searched=self.photo_searched,
            photo_chosen=self.photo_chosen,
            reader=self.reader,
        )

    @cached_property
    def cells(self) -> ReviewCells:
        """The cells of the population, with unsure boxes as none."""
        return ReviewCells(self.items.population, self.reviewed())

    def flown(self, species: str | None) -> Flown:
        """The flown ground of one species, or (None) of all, with unsure boxes as none; reckoned once."""
        if species not in self._flown:
            self._flown[species] = self.cells.flown(species, self.is_animal(species), self.missed_weight(species))
        return self._flown[species]

    @cached_property
    def _flown(self) -> dict[str | None, Flown]:
        return {}

    @cached_property
    def unsure(self) -> int:
        """The boxes of which people cannot say what they are, or disagree."""
        return sum(one.finding == "unsure" for one in self.finding.values())

    @cached_property
    def disputed(self) -> int:
        """The boxes on which people disagree and that no lead settled."""
        return sum(one.disputed for one in self.finding.values())


def truth_of(items: ReviewItems, answers: Answers) -> Truth:
    """Put together what people said; the order of the decisions does not matter."""
    boxes, names = items.boxes, items.manifest.species
    by_key = standing(answers.decisions)
    rows = boxes.rows_of(list(by_key)).tolist()
    decided = {row: ones for row, ones in zip(rows, by_key.values(), strict=True) if row >= 0}
    called = {row: names[boxes.species[row]] for row in decided}
    finding = {row: box_finding(ones, called[row]) for row, ones in decided.items()}
    box_decided, box_chosen = np.zeros(len(boxes), bool), np.zeros(len(boxes), bool)
    for row, ones in decided.items():
        box_decided[row] = True
        box_chosen[row] = ones[0].box_key not in answers.drawn_boxes
    number = items.number_of
    searches = {number[photo]: ones for photo, ones in standing(answers.searches).items() if photo in number}
    photo_searched, photo_chosen = np.zeros(len(number), bool), np.zeros(len(number), bool)
    for at, found in searches.items():
        photo_searched[at] = True
        photo_chosen[at] = found[0].photo_sha256 not in answers.drawn_photos
    missed, blind = _searched(items, finding, searches)
    return Truth(
        items=items,
        finding=finding,
        missed=missed,
        box_decided=box_decided,
        box_chosen=box_chosen,
        photo_searched=photo_searched,
        photo_chosen=photo_chosen,
        reader=perception(blind),
        agreement=agreement_of(
            {str(row): ones for row, ones in decided.items()}, {str(row): name for row, name in called.items()}
        ),
        decided=decided,
        searches=searches,
    )


def _searched(
    items: ReviewItems, finding: Mapping[int, BoxFinding], searches: Mapping[int, Sequence[PhotoSearch]]
) -> tuple[tuple[Missed, ...], list[tuple[int, int]]]:
    """The animals without a box, and of each blind search the animals of the model and those of them it found."""
    shown = items.boxes.in_photos(items.searchable[sorted(searches)].tolist())
    drawn: list[DrawnBox] = []
    shares: list[float] = []
    blind: list[tuple[int, int]] = []
    for photo, every in searches.items():
        row = int(items.searchable[photo])
        mine = shown[row]
        real = np.array([_may_be_animal(finding.get(row)) for row in mine.tolist()], bool)
        known = np.array([_is_animal(finding.get(row)) for row in mine.tolist()], bool)
        used = settled(every)
        for one in used:
            marked = np.array([added.box for added in one.added], np.float64).reshape(-1, 4)
            hit, _ = covered(marked, items.boxes.box[mine[real]])
            for added, is_known in zip(one.added, hit.tolist(), strict=True):
                if not is_known:
                    drawn.append(DrawnBox(row, added.box, added.species))
                    shares.append(1 / len(used))
            if one.blind:
                before = np.array([added.before_reveal for added in one.added], bool)
                _, taken = covered(marked[before], items.boxes.box[mine[known]])
                blind.append((int(known.sum()), int(taken.sum())))
    weights = single_look_weights(drawn, items.photos)
    missed = tuple(
        Missed(int(items.number[one.photo]), one.box, one.species, float(weight) * share)
        for one, weight, share in zip(drawn, weights.tolist(), shares, strict=True)
    )
    return missed, blind


def _may_be_animal(finding: BoxFinding | None) -> bool:
    """A box that people rejected covers no animal: a person who marks one there found another."""
    return finding is None or finding.finding != "none"


def _is_animal(finding: BoxFinding | None) -> bool:
    return finding is not None and finding.finding == "animal"
