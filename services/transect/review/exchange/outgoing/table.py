"""The table that a person fills in: decisions.csv."""

import csv
import io
from collections.abc import Mapping

from transect.census.outputs.writers import escape_formula
from transect.review.exchange.batch import BatchBox, BatchPhoto, ReviewBatch
from transect.review.exchange.terms import COLUMNS


def decisions_csv(batch: ReviewBatch, pictures: Mapping[str, str]) -> bytes:
    """The table of a batch, boxes before photos, in UTF-8 with the mark by which spreadsheets know it.

    `pictures` is the file to look at for each key of a box and hash of a photo.
    """
    stream = io.StringIO(newline="")
    stream.write("\ufeff")
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in (*map(_box_row, batch.boxes), *map(_photo_row, batch.photos)):
        full = row | {"picture": pictures.get(row["key"], "")}
        writer.writerow({column: escape_formula(cell) for column, cell in full.items()})
    return stream.getvalue().encode()


def _box_row(one: BatchBox) -> dict[str, str]:
    corners = {name: f"{value:.1f}" for name, value in zip(("x1", "y1", "x2", "y2"), one.box, strict=True)}
    named = {"image": one.image, "species": one.species, "suggestion": one.suggestion}
    return {"item": "box", "key": one.box_key} | named | corners


def _photo_row(one: BatchPhoto) -> dict[str, str]:
    return {"item": "photo", "key": one.photo_sha256, "image": one.image, "blind": "yes" if one.blind else "no"}
