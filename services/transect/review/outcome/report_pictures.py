"""Pictures of a review's report: boxes that people rejected, and animals that no box covers, as JPEG in the page."""

import base64
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transect.census.report.thumbnails import Thumbnail
from transect.engine.boxes.overlaps import iou_matrix
from transect.errors import ImageError
from transect.imagery import encode_jpeg, open_raster
from transect.review.decisions.decision import PixelBox
from transect.review.exchange.outgoing.pictures import crop
from transect.review.exchange.outgoing.unchanged import require_unchanged
from transect.review.verdicts.added import SAME_ANIMAL_IOU
from transect.review.verdicts.current import settled
from transect.review.verdicts.truth import Missed, Truth

logger = logging.getLogger(__name__)

MOST_PICTURES = 20
# Wide enough for five in a row on a screen and on paper, and small enough that a report can be sent by e-mail.
_SHOWN, _QUALITY = 260, 82


@dataclass(frozen=True)
class Subject:
    """A box to show: the photo's row, its corners, and what stands below the picture."""

    photo: int
    box: PixelBox
    caption: str


def rejected(truth: Truth) -> list[Subject]:
    """The boxes that people call no animal: those that the census counts first, of these the most certain ones."""
    boxes, items = truth.items.boxes, truth.items
    rows = [row for row, one in truth.finding.items() if one.finding == "none"]
    rows.sort(key=lambda row: (not boxes.counted[row], -float(boxes.score[row]), boxes.key[row].as_py()))
    found = []
    for row in rows[:MOST_PICTURES]:
        people = ", ".join(sorted({one.reviewer for one in settled(truth.decided[row])}))
        name, photo = items.manifest.species[boxes.species[row]], int(boxes.photo[row])
        x1, y1, x2, y2 = boxes.box[row].tolist()
        caption = f"called {name} ({boxes.score[row]:.2f}), rejected by {people} · {items.photos.image[photo]}"
        found.append(Subject(photo, (x1, y1, x2, y2), caption))
    return found


def missed(truth: Truth) -> list[Subject]:
    """The animals without a box, one of each photo first; an animal that several people marked is there once."""
    items = truth.items
    image = items.photos.image
    ordered = sorted(
        (one for one in truth.missed if one.weight > 0),
        key=lambda one: (image[int(items.searchable[one.photo])], one.photo, one.box, one.species),
    )
    taken: dict[int, list[PixelBox]] = defaultdict(list)
    turns: list[tuple[int, Missed]] = []
    for one in ordered:
        if not _is_there(one.box, taken[one.photo]):
            turns.append((len(taken[one.photo]), one))
            taken[one.photo].append(one.box)
    turns.sort(key=lambda pair: pair[0])
    found = []
    for _, one in turns[:MOST_PICTURES]:
        row = int(items.searchable[one.photo])
        people = ", ".join(sorted({search.reviewer for search in settled(truth.searches[one.photo])}))
        found.append(Subject(row, one.box, f"{one.species}, found in a search by {people} · {image[row]}"))
    return found


def cut_out(truth: Truth, subjects: Sequence[Subject], survey: Path | None, max_pixels: int | None) -> list[Thumbnail]:
    """The picture of each, or why there is none; each photo is read once, and one at a time."""
    pictures: dict[int, Thumbnail] = {}
    for photo in sorted({one.photo for one in subjects}):
        mine = [number for number, one in enumerate(subjects) if one.photo == photo]
        try:
            for number, uri in _of_photo(truth, photo, [(n, subjects[n].box) for n in mine], survey, max_pixels):
                pictures[number] = Thumbnail(uri, subjects[number].caption)
        except ImageError as error:
            logger.warning("No picture of %s in the report: %s", truth.items.photos.image[photo], error)
            pictures |= {number: Thumbnail("", subjects[number].caption, str(error)) for number in mine}
    return [pictures[number] for number in range(len(subjects))]


def _of_photo(
    truth: Truth, photo: int, boxes: Sequence[tuple[int, PixelBox]], survey: Path | None, max_pixels: int | None
) -> list[tuple[int, str]]:
    photos = truth.items.photos
    name = photos.image[photo]
    if survey is None:
        raise ImageError(f"Where the photos are was not said, so {name} is not shown; name the survey with --survey.")
    path = survey / "images" / name
    if not path.is_file():
        raise ImageError(f"{name} is not among the photos of the survey's folder; name that folder with --survey.")
    require_unchanged(path, photos.sha256[photo], name)
    gsd = float(photos.gsd_m[photo])
    with open_raster(path, name=name, max_pixels=max_pixels, rendering=photos.rendering[photo]) as raster:
        found = []
        for number, box in boxes:
            pixels = crop(raster, box, None if np.isnan(gsd) else gsd, least=_SHOWN, most=_SHOWN)
            data = base64.b64encode(encode_jpeg(pixels, quality=_QUALITY)).decode()
            found.append((number, f"data:image/jpeg;base64,{data}"))
    return found


def _is_there(box: PixelBox, others: Sequence[PixelBox]) -> bool:
    """Whether one of the others is around the same animal."""
    return bool(others) and bool((iou_matrix(np.array([box]), np.array(others)) >= SAME_ANIMAL_IOU).any())
