"""Reviews of painted surveys by simulated people: with false alarms, missed animals, disputes and hostile names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from painted_surveys import CELL, CONFIG, HEIGHT, NAMES, SURVEY_YAML, WIDTH, count, paint_survey
from transect.arrays import IntArray
from transect.engine import Detector
from transect.review.decisions.decision import Decision, PhotoSearch
from transect.review.folder.items import ReviewItems, read_items
from transect.review.folder.start import start_review
from transect.review.population.order import Ranks, in_order
from transect.review.simulated import SimulatedPerson, TrueAnimals
from transect.review.verdicts.truth import Answers, Truth, truth_of

HOSTILE = "<b>x</b>"
# The detector's score is the colour over 255: a false alarm that counts, a candidate, and an animal without a box.
_FALSE_ALARM, _CANDIDATE, _UNSEEN = 150, 60, 12


@dataclass(frozen=True)
class ReviewedSurvey:
    """A survey folder, the items of a review of its census, and the animals in each photo."""

    survey: Path
    items: ReviewItems
    animals: dict[str, TrueAnimals]

    def people(self) -> tuple[SimulatedPerson, SimulatedPerson]:
        """Two people; the second one errs more often."""
        first = SimulatedPerson(self.animals, name=HOSTILE, rejects=0.02, keeps=0.02)
        return first, SimulatedPerson(self.animals, name="bo", rejects=0.3, keeps=0.3, seed=1)

    def truth(self, *, boxes: int | None = None, photos: int | None = None) -> Truth:
        """What is known once two people looked at the first so many boxes and photos of each cell (None: at all).

        One box is unsure, and one is chosen and not drawn.
        """
        population = self.items.population
        rows = _first_of_each(population.bin, population.box_rank, boxes)
        searched = _first_of_each(population.group, population.photo_rank, photos)
        ada, bo = self.people()
        decided: list[Decision] = ada.decide(self.items, rows)
        if decided:
            decided[0] = replace(decided[0], verdict="unsure", species="")
        decided += bo.decide(self.items, rows[1::4])
        searches: list[PhotoSearch] = ada.search(self.items, searched)
        keys = [self.items.boxes.key[row].as_py() for row in rows]
        return truth_of(
            self.items,
            Answers(
                decisions=decided,
                searches=searches,
                drawn_boxes=frozenset(keys[:-1]),
                drawn_photos=frozenset(one.photo_sha256 for one in searches),
            ),
        )


def review_painted(root: Path, package: Path) -> ReviewedSurvey:
    """Paint a survey, count it, and start a review of it."""
    survey = paint_survey(root / "survey", photos=5).folder
    (survey / "survey.yaml").write_text(SURVEY_YAML + f'species: {{goat: "{HOSTILE}"}}\n')
    animals = {
        path.relative_to(survey / "images").as_posix(): _spoil(path, seed)
        for seed, path in enumerate(sorted((survey / "images").rglob("*.png")))
    }
    with Detector.open(package, threads=1) as detector:
        result = count(survey, root / "out", detector, CONFIG.model_copy(update={"conf": 0.5}))
    folder = start_review(result.folder, survey=survey, seed=7, others=["warthog"])
    return ReviewedSurvey(survey, read_items(folder), animals)


def _spoil(path: Path, seed: int) -> TrueAnimals:
    """Paint things that are no animals, and animals that are too faint; returns all the animals."""
    rng = np.random.default_rng(seed)
    with Image.open(path) as opened:
        pixels = np.array(opened)
    for number, value in enumerate((_FALSE_ALARM, _CANDIDATE, _CANDIDATE, _UNSEEN)):
        y, x = (CELL * int(rng.integers(1, side // CELL)) for side in (HEIGHT, WIDTH))
        cell = pixels[y : y + CELL, x : x + CELL]
        if not cell.any():
            cell[..., (seed + number) % 3] = value
    Image.fromarray(pixels).save(path)
    names = [HOSTILE if name == "goat" else name for name in NAMES]
    boxes, species = [], []
    for row in range(HEIGHT // CELL):
        for column in range(WIDTH // CELL):
            x, y = column * CELL, row * CELL
            most = pixels[y : y + CELL, x : x + CELL].max(axis=(0, 1))
            # The first cell has the grey line that makes each photo another one.
            if (row or column) and most.max() in (255, _UNSEEN):
                boxes.append((x, y, x + CELL, y + CELL))
                species.append(names[int(most.argmax())])
    return TrueAnimals(np.array(boxes, np.float64).reshape(-1, 4), tuple(species))


def _first_of_each(cells: IntArray, rank: Ranks, most: int | None) -> Sequence[int]:
    """The first items of each cell in the random order."""
    order = in_order(cells, rank)
    return [row for cell in np.unique(cells) for row in order[cells[order] == cell][:most].tolist()]
