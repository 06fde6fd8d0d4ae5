"""Painted surveys with animals that the model half sees, their review, and a person who knows them."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from painted_surveys import CELL, CONFIG, HEIGHT, NAMES, WIDTH, count, paint_survey
from transect.census import CensusConfig, CensusResult
from transect.engine import Detector
from transect.review.folder.items import ReviewItems
from transect.review.simulated import SimulatedPerson, TrueAnimals

# The score of a square is its colour's share of full strength. What is fainter than 0.2 is no animal but ground.
FAINT, ANIMAL_FROM = ((40, 0, 0), (0, 90, 0), (0, 0, 200), (0, 120, 0)), 80
REVIEWED: CensusConfig = CONFIG.model_copy(update={"conf": 0.5})


def paint_half_seen_survey(folder: Path, photos: int = 6) -> Path:
    """A painted survey whose photos also show faint squares, of which some are animals."""
    paint_survey(folder, photos=photos)
    rng = np.random.default_rng(1)
    for path in sorted((folder / "images").rglob("*.png")):
        pixels = np.array(Image.open(path))
        for _ in range(3):
            row, column = rng.integers(1, HEIGHT // CELL - 1), rng.integers(1, WIDTH // CELL - 1)
            cell = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
            if not cell.any():
                cell[:] = FAINT[rng.integers(len(FAINT))]
        Image.fromarray(pixels).save(path)
    return folder


def animals_in(folder: Path) -> dict[str, TrueAnimals]:
    """The animals in each photo of such a survey."""
    found = {}
    for path in sorted((folder / "images").rglob("*.png")):
        pixels = np.array(Image.open(path)).astype(int)
        boxes, species = [], []
        for row in range(HEIGHT // CELL):
            for column in range(WIDTH // CELL):
                cell = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
                colour = cell[CELL // 2, CELL // 2]
                if colour.max() >= ANIMAL_FROM:
                    boxes.append([column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL])
                    species.append(NAMES[int(colour.argmax())])
        name = path.relative_to(folder / "images").as_posix()
        found[name] = TrueAnimals(np.array(boxes, np.float64).reshape(-1, 4), tuple(species))
    return found


def count_for_review(survey: Path, out: Path, package: Path) -> CensusResult:
    """The census that such a review is of."""
    with Detector.open(package, threads=1) as detector:
        return count(survey, out, detector, REVIEWED)


def fill_in(table: Path, items: ReviewItems, person: SimulatedPerson, rows: slice = slice(None)) -> Path:
    """Fill in an exported decisions.csv as a person would, and save it beside; `rows` says which rows."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        read = list(csv.DictReader(stream))
    columns, written = list(read[0]), list[dict[str, str]]()
    number = {items.photos.sha256[row]: at for at, row in enumerate(items.searchable.tolist())}
    for given in read[rows]:
        if given["item"] == "box":
            (decision,) = person.decide(items, items.boxes.rows_of([given["key"]]).tolist())
            said = {"verdict": decision.verdict, "new_species": decision.species, "seconds": "3"}
            written.append({**given, **said, "reviewer": person.name})
            continue
        (search,) = person.search(items, [number[given["key"]]])
        written.append({**given, "verdict": "done", "seconds": "60", "reviewer": person.name})
        for one in search.added:
            corners = dict(zip(("x1", "y1", "x2", "y2"), map(str, one.box), strict=True))
            written.append(
                {
                    **dict.fromkeys(columns, ""),
                    **corners,
                    "item": "added",
                    "image": given["image"],
                    "species": one.species,
                    "reviewer": person.name,
                    "before_reveal": "yes",
                }
            )
    return write_rows(table.with_name("filled in.csv"), columns, written)


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> Path:
    """Write a CSV file as a spreadsheet would."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path
