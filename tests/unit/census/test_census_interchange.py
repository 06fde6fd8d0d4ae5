"""COCO as pycocotools reads it, and MegaDetector's format as its own package judges it."""

import json
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from megadetector_judge import judge
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.photos import LocalPhoto
from transect.census.outputs.interchange import SearchedPhotos, write_coco, write_megadetector
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.observations import Observations
from transect.census.sightings.survey_detections import SurveyDetections

MANIFEST = {
    "run": "abc",
    "transect_version": "1",
    "survey": {"name": "herd"},
    "model": {"name": "detector", "version": "3"},
    "options": {"conf": 0.25},
}
SIZE = (400, 300)


def observed(frame: list[int], box: list[list[float]], species: list[int], score: list[float]) -> Observations:
    count = len(frame)
    known: dict[str, Any] = {
        "frame": np.array(frame, np.int64),
        "species": np.array(species, np.int64),
        "class_name": ("x",) * count,
        "score": np.array(score, np.float64),
        "box": np.array(box, np.float64).reshape(-1, 4),
    }
    return Observations(**{field.name: known.get(field.name, np.zeros(count)) for field in fields(Observations)})


def searched(observations: Observations, animal_of: list[int], photos: int = 4) -> SearchedPhotos:
    """Photo 1 is broken, and the last one shows nothing."""
    taken = datetime(2026, 7, 14, 9, 30)  # noqa: DTZ001 - camera clocks have no zone
    frames = [
        Frame(
            name=f"T1/é {n}.jpg",
            photo=LocalPhoto(Path("x")),
            transect="T1",
            taken_at=taken if n else None,
            width=0,
            height=0,
            placement=None,
        )
        for n in range(photos)
    ]
    empty = FrameDetections(
        sha256="",
        width=SIZE[0],
        height=SIZE[1],
        boxes=np.empty((0, 4)),
        scores=np.empty(0),
        classes=(),
        tiles=1,
        truncated=False,
    )
    found = [empty for _ in frames]
    found[1] = replace(found[1], width=0, height=0, failure="broken")
    left_out = {frames[1].name: "T1/é 1.jpg is not a photo."}
    return SearchedPhotos(
        frames=frames,
        found=SurveyDetections.collect(found),
        left_out=left_out,
        observations=observations,
        animal_of=np.array(animal_of, np.int64),
        names=("sheep", "goat"),
    )


SOME = searched(
    observed(
        [0, 0, 2],
        [[10.5, 20.25, 30.5, 60.25], [0.1, 0.2, 0.4, 0.5], [390, 280, 400, 300]],
        [0, 1, 0],
        [0.9, 0.5, 1.0],
    ),
    [0, -1, 1],
)
NONE = searched(observed([], [], [], []), [])


def load(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_coco_is_what_was_found(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco.json", SOME, MANIFEST)
    coco = COCO(tmp_path / "coco.json")
    assert coco.loadCats(coco.getCatIds()) == [
        {"id": 1, "name": "sheep", "supercategory": "animal"},
        {"id": 2, "name": "goat", "supercategory": "animal"},
    ]
    images = coco.loadImgs(coco.getImgIds())
    assert [image["file_name"] for image in images] == ["T1/é 0.jpg", "T1/é 2.jpg", "T1/é 3.jpg"]
    assert {(image["width"], image["height"]) for image in images} == {SIZE}
    assert [image.get("date_captured") for image in images] == [None, "2026-07-14 09:30:00", "2026-07-14 09:30:00"]
    first, second, third = coco.loadAnns(coco.getAnnIds())
    assert (first["bbox"], first["area"], first["score"]) == ([10.5, 20.25, 20, 40], 800, 0.9)
    assert [one["animal"] for one in (first, second, third)] == [1, None, 2]
    assert second["bbox"] == [0.1, 0.2, 0.3, 0.3]
    assert coco.getAnnIds(imgIds=[images[2]["id"]]) == []
    assert coco.dataset["info"]["model"] == MANIFEST["model"]


def test_coco_boxes_can_be_taken_for_results(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco.json", SOME, MANIFEST)
    truth = COCO(tmp_path / "coco.json")
    judge = COCOeval(truth, truth.loadRes(truth.dataset["annotations"]), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1)


def test_nothing_found_is_no_annotation(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco.json", NONE, MANIFEST)
    coco = COCO(tmp_path / "coco.json")
    assert (len(coco.getImgIds()), coco.getAnnIds()) == (3, [])


def validated(path: Path) -> dict[str, Any]:
    """The file, after the validator of the format has found nothing to say about it."""
    judged = judge(path)
    assert (judged["errors"], judged["warnings"]) == ([], [])
    return load(path)


def test_megadetector_is_what_was_found(tmp_path: Path) -> None:
    write_megadetector(tmp_path / "megadetector.json", SOME, MANIFEST)
    content = validated(tmp_path / "megadetector.json")
    assert content["detection_categories"] == {"1": "sheep", "2": "goat"}
    assert content["info"]["detector_metadata"]["typical_detection_threshold"] == 0.25
    shown, broken, corner, empty = content["images"]
    assert broken == {"file": "T1/é 1.jpg", "failure": "T1/é 1.jpg is not a photo.", "detections": None}
    assert empty == {"file": "T1/é 3.jpg", "detections": []}
    assert shown["detections"] == [
        {"category": "1", "conf": 0.9, "bbox": [0.02625, 0.0675, 0.05, 0.133333]},
        {"category": "2", "conf": 0.5, "bbox": [0.00025, 0.000667, 0.00075, 0.001]},
    ]
    assert corner["detections"] == [{"category": "1", "conf": 1.0, "bbox": [0.975, 0.933333, 0.025, 0.066667]}]


def test_megadetector_of_nothing(tmp_path: Path) -> None:
    write_megadetector(tmp_path / "megadetector.json", NONE, MANIFEST)
    assert [one["detections"] for one in validated(tmp_path / "megadetector.json")["images"]] == [[], None, [], []]


EDGE = st.floats(0, 400, allow_nan=False)


@given(st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), min_size=1, max_size=20))
def test_no_box_leaves_its_photo(tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[float, ...]]) -> None:
    boxes = [[min(a, c), min(b, d) * 0.75, max(a, c), max(b, d) * 0.75] for a, b, c, d in edges]
    path = tmp_path_factory.mktemp("edges") / "megadetector.json"
    count = len(boxes)
    write_megadetector(path, searched(observed([0] * count, boxes, [0] * count, [0.5] * count), [-1] * count), MANIFEST)
    for box, one in zip(boxes, load(path)["images"][0]["detections"], strict=True):
        x, y, width, height = one["bbox"]
        assert min(x, y, width, height) >= 0
        assert x + width <= 1
        assert y + height <= 1
        assert (x * 400, y * 300, width * 400, height * 300) == pytest.approx(
            (box[0], box[1], box[2] - box[0], box[3] - box[1]), abs=1.2e-3
        )


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_coco(tmp_path / name / "coco.json", SOME, MANIFEST)
        write_megadetector(tmp_path / name / "megadetector.json", SOME, MANIFEST)
    for name in ("coco.json", "megadetector.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
