"""A batch as tasks of Label Studio, and the labelling configuration that goes with them."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from transect.imagery import PALETTE
from transect.pages.svg import Markup, element
from transect.review.decisions.decision import VERDICTS
from transect.review.exchange.batch import ReviewBatch, ShownBox
from transect.review.exchange.outgoing.pages import ToolPhoto
from transect.review.exchange.terms import PHOTOS

# A percentage with so many digits is right to a thousandth of a pixel in the largest photo.
_DIGITS = 8


def labels_xml(species: Sequence[str]) -> str:
    """The labelling configuration: rectangles with species, a verdict for each rectangle, and a note for the photo."""
    labels = [
        element("Label", value=name, background="#{:02x}{:02x}{:02x}".format(*PALETTE[number % len(PALETTE)]))
        for number, name in enumerate(species)
    ]
    choices = [element("Choice", value=name) for name in VERDICTS]
    parts = [
        element("Header", value="$task"),
        element("Image", name_="photo", value="$image", zoom="true", zoomControl="true"),
        element("RectangleLabels", *labels, name_="animal", toName="photo"),
        element(
            "Choices", *choices, name_="verdict", toName="photo", choice="single", perRegion="true", showInline="true"
        ),
        element("TextArea", name_="note", toName="photo", maxSubmissions="1", placeholder="note"),
    ]
    return element("View", Markup("\n" + "\n".join(parts) + "\n")) + "\n"


def tasks_json(batch: ReviewBatch, photos: Sequence[ToolPhoto]) -> str:
    """One task a photo. Predictions have no score: the reviewer is not to see it."""
    return json.dumps([_task(batch, one) for one in photos], ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _task(batch: ReviewBatch, photo: ToolPhoto) -> dict[str, Any]:
    asked = "Mark every animal of the photo" if photo.search else "Decide the boxes"
    return {
        "data": {
            "image": f"/data/local-files/?d={quote(f'{PHOTOS}/{photo.copy}')}",
            "task": f"{photo.image}: {asked[0].lower()}{asked[1:]}, then submit.",
            "name": photo.image,
            "photo_sha256": photo.photo_sha256,
            "review": batch.review_id,
            "batch": batch.batch,
        },
        "predictions": [{"model_version": batch.review_id, "result": [_region(one, photo) for one in photo.boxes]}]
        if photo.boxes
        else [],
    }


def _region(one: ShownBox, photo: ToolPhoto) -> dict[str, Any]:
    x1, y1, x2, y2 = one.box
    return {
        "id": one.box_key,
        "type": "rectanglelabels",
        "from_name": "animal",
        "to_name": "photo",
        "original_width": photo.width,
        "original_height": photo.height,
        "image_rotation": 0,
        "value": {
            "x": round(100 * x1 / photo.width, _DIGITS),
            "y": round(100 * y1 / photo.height, _DIGITS),
            "width": round(100 * (x2 - x1) / photo.width, _DIGITS),
            "height": round(100 * (y2 - y1) / photo.height, _DIGITS),
            "rotation": 0,
            "rectanglelabels": [one.species],
        },
        "meta": {"box_key": one.box_key},
    }
