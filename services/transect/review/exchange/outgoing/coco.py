"""A batch as COCO JSON (cocodataset.org, data format), with keys where CVAT and others keep them."""

import json
from collections.abc import Sequence
from typing import Any

from transect.review.exchange.batch import ReviewBatch
from transect.review.exchange.outgoing.pages import ToolPhoto
from transect.review.exchange.terms import NOT_SET, PHOTO_DONE

_DIGITS = 3


def coco_json(batch: ReviewBatch, photos: Sequence[ToolPhoto]) -> str:
    """The photos and boxes of a batch. Scores are left out: the reviewer is not to see them."""
    names = [*batch.species, PHOTO_DONE]
    annotations: list[dict[str, Any]] = []
    for photo in photos:
        for one in photo.boxes:
            x1, y1, x2, y2 = one.box
            width, height = round(x2 - x1, _DIGITS), round(y2 - y1, _DIGITS)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": photo.number,
                    "category_id": names.index(one.species) + 1,
                    "bbox": [round(x1, _DIGITS), round(y1, _DIGITS), width, height],
                    "area": round(width * height, _DIGITS),
                    "segmentation": [],
                    "iscrowd": 0,
                    "attributes": {
                        "box_key": one.box_key,
                        "photo_sha256": photo.photo_sha256,
                        "batch": str(batch.batch),
                        "verdict": NOT_SET,
                    },
                }
            )
    document = {
        "info": {
            "description": f"Boxes of survey {batch.survey_name} to be decided by people.",
            "review": batch.review_id,
            "batch": batch.batch,
        },
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": "review" if name == PHOTO_DONE else "animal"}
            for number, name in enumerate(names, start=1)
        ],
        "images": [
            {
                "id": one.number,
                "file_name": one.copy,
                "width": one.width,
                "height": one.height,
                "photo_sha256": one.photo_sha256,
            }
            for one in photos
        ],
        "annotations": annotations,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
