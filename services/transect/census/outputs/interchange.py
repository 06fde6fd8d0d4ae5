"""The boxes in interchange formats: COCO, and the batch format of MegaDetector.

Both list every photo that was searched, those without an animal too. A photo that could not be searched is never
listed as one without animals: COCO has no field for it and omits it, MegaDetector's format has the reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transect.arrays import FloatArray, IntArray
from transect.census.ground.placement.frames import Frame
from transect.census.outputs.writers import encode, write_json
from transect.census.sightings.observations import Observations
from transect.census.sightings.survey_detections import SurveyDetections

_CHUNK = 50_000
# The Detection contract's pixels have no more digits; a difference of two has more, from rounding.
_PIXEL_DIGITS = 3
# A tenth of a pixel in a map of 100,000 pixels.
_SHARE_DIGITS = 6
# The newest version whose rules are public: github.com/agentmorris/MegaDetector, megadetector-output-format.md
_MEGADETECTOR_FORMAT = "1.6"


@dataclass(frozen=True, kw_only=True)
class SearchedPhotos:
    """The photos and their detections.

    `frames` and `found` are aligned; `left_out` has a reason for each photo that was not searched. `observations` are
    sorted by frame; `animal_of` is the animal of each, -1 for none; species are indices into `names`.
    """

    frames: Sequence[Frame]
    found: SurveyDetections
    left_out: Mapping[str, str]
    observations: Observations
    animal_of: IntArray
    names: Sequence[str]


def write_coco(path: Path, searched: SearchedPhotos, manifest: Mapping[str, Any]) -> None:
    """Write coco.json (cocodataset.org, data format): images, boxes in pixels with `score` and `animal`, and species.

    `animal` is the number in animals.csv, null for a box that does not count there; `date_captured` is the camera's
    clock.
    """
    head = {
        "info": {
            "description": f"Boxes that a model found in survey {manifest['survey']['name']}; nobody has checked them.",
            "version": manifest["transect_version"],
            "run": manifest["run"],
            "survey": manifest["survey"],
            "model": manifest["model"],
            "options": manifest["options"],
        },
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": "animal"}
            for number, name in enumerate(searched.names, start=1)
        ],
    }
    images = (
        encode(_coco_image(number, frame, size))
        for number, (frame, size) in enumerate(zip(searched.frames, _sizes(searched.found), strict=True), start=1)
        if frame.name not in searched.left_out
    )
    write_json(path, head, {"images": images, "annotations": _coco_annotations(searched)})


def _sizes(found: SurveyDetections) -> Iterator[tuple[int, int]]:
    return ((int(width), int(height)) for width, height in found.counted.size)


def _coco_image(number: int, frame: Frame, size: tuple[int, int]) -> dict[str, Any]:
    image: dict[str, Any] = {"id": number, "file_name": frame.name, "width": size[0], "height": size[1]}
    if frame.taken_at is not None:
        image["date_captured"] = frame.taken_at.isoformat(sep=" ", timespec="seconds")
    return image


def _coco_annotations(searched: SearchedPhotos) -> Iterator[str]:
    observations, animal_of = searched.observations, searched.animal_of
    for start in range(0, len(observations), _CHUNK):
        rows = slice(start, start + _CHUNK)
        box = observations.box[rows]
        corner, side = box[:, :2], (box[:, 2:] - box[:, :2]).round(_PIXEL_DIGITS)
        columns = zip(
            (observations.frame[rows] + 1).tolist(),
            (observations.species[rows] + 1).tolist(),
            np.hstack([corner, side]).tolist(),
            side.prod(axis=1).round(_PIXEL_DIGITS).tolist(),
            observations.score[rows].tolist(),
            animal_of[rows].tolist(),
            strict=True,
        )
        for number, (image, species, xywh, pixels, score, animal) in enumerate(columns, start=start + 1):
            yield encode(
                {
                    "id": number,
                    "image_id": image,
                    "category_id": species,
                    "bbox": xywh,
                    "area": pixels,
                    "segmentation": [],
                    "iscrowd": 0,
                    "score": score,
                    "animal": None if animal < 0 else animal + 1,
                }
            )


def write_megadetector(path: Path, searched: SearchedPhotos, manifest: Mapping[str, Any]) -> None:
    """Write megadetector.json, for Timelapse, AddaxAI and the megadetector package."""
    model, conf = manifest["model"], manifest["options"]["conf"]
    info = {
        "format_version": _MEGADETECTOR_FORMAT,
        "detector": f"{model['name']} {model['version']}",
        "detector_metadata": {"typical_detection_threshold": conf, "conservative_detection_threshold": conf},
        "custom_metadata": {"run": manifest["run"], "survey": manifest["survey"], "model": model},
    }
    head = {
        "info": info,
        "detection_categories": {str(number): name for number, name in enumerate(searched.names, start=1)},
    }
    write_json(path, head, {"images": _megadetector_images(searched)})


def _megadetector_images(searched: SearchedPhotos) -> Iterator[str]:
    observations, left_out = searched.observations, searched.left_out
    first = np.searchsorted(observations.frame, np.arange(len(searched.frames) + 1))
    for number, (frame, size) in enumerate(zip(searched.frames, _sizes(searched.found), strict=True)):
        if frame.name in left_out:
            yield encode({"file": frame.name, "failure": left_out[frame.name], "detections": None})
            continue
        rows = slice(first[number], first[number + 1])
        boxes = _shares(observations.box[rows], *size).tolist()
        columns = zip(observations.species[rows].tolist(), observations.score[rows].tolist(), boxes, strict=True)
        detections = [{"category": str(species + 1), "conf": score, "bbox": box} for species, score, box in columns]
        yield encode({"file": frame.name, "detections": detections})


def _shares(box: FloatArray, width: int, height: int) -> FloatArray:
    """Boxes (n, 4) xyxy in pixels as x, y, width, height in shares of the picture, within 0 to 1."""
    share = (box / (width, height, width, height)).clip(0, 1).round(_SHARE_DIGITS)
    corner, side = share[:, :2], (share[:, 2:] - share[:, :2]).round(_SHARE_DIGITS)
    # Floating point: a sum of two decimal fractions that is 1 may be a rounding error above it.
    side = np.where(corner + side > 1, (side - 10.0**-_SHARE_DIGITS).round(_SHARE_DIGITS), side)
    return np.hstack([corner, side])
