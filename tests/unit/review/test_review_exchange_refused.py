"""Files of labelling tools that cannot be taken: one sentence with file and place, and nothing taken."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from review_batches import BLIND, CROPS, ONE, OTHER, TOOL_FILES, Sample, make_sample, tool_texts
from transect.errors import InputError
from transect.review.exchange.incoming.read import read_decisions
from transect.review.exchange.known import KnownBox
from transect.review.exchange.outgoing.export import ExportFormat

Json = Any
Change = Callable[[Json], object]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def exported(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> dict[ExportFormat, str]:
    return tool_texts(sample, tmp_path_factory.mktemp("exports"))


def refusal(path: Path, sample: Sample, **how: Any) -> str:
    """The sentence with which a file is refused; it names the file."""
    with pytest.raises(InputError) as caught:
        read_decisions(path, sample.known, **{"reviewer": "ann", **how})
    text = str(caught.value)
    assert path.name in text
    assert text.endswith(".")
    assert "\n" not in text
    return text


def last(document: Json) -> Json:
    """The last annotation: the second box of CROPS."""
    return document["annotations"][-1]


def drawn(document: Json, bbox: list[float], **more: Any) -> None:
    """A box that a person drew in the first photo, ONE, which is marked as done."""
    first = {"image_id": 1, "attributes": {}}
    document["annotations"] += [
        first | {"id": 70, "category_id": 1, "bbox": bbox} | more,
        first | {"id": 71, "category_id": 4, "bbox": [0, 0, 2, 2]},
    ]


COCO_FILES: dict[str, tuple[Change, str]] = {
    "box of another census": (
        lambda document: last(document)["attributes"].update(box_key="ab" * 32),
        "annotation 6: the box 'abababababab' is none of this review; it is of another census",
    ),
    "photo of another census": (
        lambda document: document["images"][0].update(photo_sha256="cd" * 32, file_name="other.jpg"),
        "image 1: 'other.jpg' is no photo of this review; it is of another census",
    ),
    "photo that changed": (
        lambda document: document["images"][0].update(photo_sha256="cd" * 32),
        "image 1: T1/a ü.jpg has changed: the file is of the photo 'cdcdcdcdcdcd'",
    ),
    "another size": (
        lambda document: document["images"][0].update(width=1600),
        "image 1: T1/a ü.jpg has 160 x 240 pixels, and 1600 x 240 in the file",
    ),
    "one photo twice": (
        lambda document: document["images"].append(document["images"][0] | {"id": 9}),
        "image 9 decides T1/a ü.jpg a second time, by ann as .* image 1",
    ),
    "unknown verdict": (
        lambda document: last(document)["attributes"].update(verdict="maybe"),
        "annotation 6: 'maybe' is no verdict; the verdicts are keep, reject",
    ),
    "unknown species": (
        lambda document: document["categories"][0].update(name="gnu"),
        "annotation 1: 'gnu' is no species of the review; its species are sheep, goat, cow",
    ),
    "species of its own": (
        lambda document: last(document)["attributes"].update(verdict="species"),
        "annotation 6 has the verdict species and the label sheep as before",
    ),
    "outside": (
        lambda document: drawn(document, [150, 10, 20, 20]),
        "annotation 70: the box 150, 10, 170, 30 reaches outside of T1/a ü.jpg, which has 160 x 240",
    ),
    "no area": (lambda document: drawn(document, [50, 10, 0, 20]), "annotation 70: the box 50, 10, 50, 30 has no area"),
    "not finite": (
        lambda document: drawn(document, [50, 10, float("nan"), 20]),
        "annotation 70: nan is not a finite number",
    ),
    "no box": (lambda document: drawn(document, [50, 10, 5]), "annotation 70 has no bbox of four numbers"),
    "new and rejected": (
        lambda document: drawn(document, [50, 10, 9, 9], attributes={"verdict": "reject"}),
        "annotation 70 is a new box with the verdict reject; delete it",
    ),
    "image that is not there": (
        lambda document: drawn(document, [5, 5, 9, 9], image_id=44),
        "annotation 70 is of image 44, which the file does not list",
    ),
    "category that is not there": (
        lambda document: drawn(document, [5, 5, 9, 9], category_id=44),
        "annotation 70 has the category 44, which the file does not list",
    ),
    "unknown batch": (
        lambda document: document["info"].update(batch=7),
        "is of batch 7, which this review has not handed out",
    ),
    "no list": (lambda document: document.update(images={}), "is no COCO file: `images` is not a list of objects"),
}


@pytest.mark.parametrize("name", COCO_FILES)
def test_a_bad_coco_file_is_one_sentence(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, name: str
) -> None:
    change, message = COCO_FILES[name]
    document = json.loads(exported["coco"])
    change(document)
    tmp_path.joinpath("c.json").write_text(json.dumps(document), encoding="utf-8")
    assert re.search(message, refusal(tmp_path / "c.json", sample))


def submit(tasks: Json) -> None:
    for number, task in enumerate(tasks, start=1):
        result = task["predictions"][0]["result"] if task["predictions"] else []
        task |= {"id": number, "annotations": [{"id": 10 + number, "completed_by": 3, "result": result}]}


def region(tasks: Json) -> Json:
    return tasks[3]["annotations"][0]["result"][0]


LABEL_STUDIO_FILES: dict[str, tuple[Change, str]] = {
    "photo of another census": (
        lambda tasks: tasks[0]["data"].update(photo_sha256="cd" * 32, name="other.jpg"),
        "task 1 annotation 11: 'other.jpg' is no photo of this review",
    ),
    "photo that changed": (
        lambda tasks: tasks[0]["data"].update(photo_sha256="cd" * 32),
        "task 1 annotation 11: T1/a ü.jpg has changed",
    ),
    "box of another census": (
        lambda tasks: region(tasks).update(id="ab" * 32),
        "task 4 annotation 14 region abababababab: the box 'abababababab' is none of this review",
    ),
    "box of another photo": (
        lambda tasks: region(tasks).update(original_width=77),
        "region [0-9a-f]{12}: big.jpg has 400 x 300 pixels, and 77 x 300 in the file",
    ),
    "unknown species": (
        lambda tasks: region(tasks)["value"].update(rectanglelabels=["gnu"]),
        "region [0-9a-f]{12}: 'gnu' is no species of the review",
    ),
    "two labels": (
        lambda tasks: region(tasks)["value"].update(rectanglelabels=["cow", "goat"]),
        "region [0-9a-f]{12} needs one label, and has 2",
    ),
    "a polygon": (
        lambda tasks: region(tasks).update(type="polygonlabels"),
        "region [0-9a-f]{12} is of the type polygonlabels; draw rectangles alone",
    ),
    "one person twice": (
        lambda tasks: tasks[0]["annotations"].append(tasks[0]["annotations"][0] | {"id": 99}),
        "task 1 annotation 99 decides T1/a ü.jpg a second time, by ann as .* annotation 11",
    ),
    "no annotations": (lambda tasks: tasks[1].pop("annotations"), "task 2 has no list of annotations; export as JSON"),
}


@pytest.mark.parametrize("name", LABEL_STUDIO_FILES)
def test_a_bad_file_of_label_studio_is_one_sentence(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, name: str
) -> None:
    change, message = LABEL_STUDIO_FILES[name]
    tasks = json.loads(exported["label-studio"])
    submit(tasks)
    change(tasks)
    tmp_path.joinpath("ls.json").write_text(json.dumps(tasks), encoding="utf-8")
    assert re.search(message, refusal(tmp_path / "ls.json", sample))


def line_with(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{key}", "ab" * 32, "the box 'abababababab' is none of this review"),
        ('label="sheep"', 'label="gnu"', "'gnu' is no species of the review"),
        ("not set", "maybe", "'maybe' is no verdict"),
        ('xbr="400.00"', 'xbr="far"', "'far' is not a finite number"),
        ("<box ", "<mask/><box ", "is a mask; draw rectangles alone"),
    ],
)
def test_a_bad_box_of_cvat_is_named_by_its_line(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, old: str, new: str, message: str
) -> None:
    key = sample.keys[6]
    number = line_with(exported["cvat"], key)
    lines = exported["cvat"].splitlines()
    lines[number - 1] = lines[number - 1].replace(old.format(key=key), new)
    tmp_path.joinpath("a.xml").write_text("\n".join(lines), encoding="utf-8")
    text = refusal(tmp_path / "a.xml", sample)
    assert f"a.xml line {number}" in text
    assert message in text


def test_a_photo_of_cvat_that_is_of_another_census_is_named_by_its_line(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    text = exported["cvat"].replace('name="T2/b &amp; c.png"', 'name="T3/x.png"')
    tmp_path.joinpath("a.xml").write_text(text, encoding="utf-8")
    said = refusal(tmp_path / "a.xml", sample)
    assert f"a.xml line {line_with(text, 'T3/x.png')}: 'T3/x.png' is no photo of this review" in said


def test_an_animal_outside_a_photo_of_cvat_is_refused(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    lines = exported["cvat"].splitlines()
    number = line_with(exported["cvat"], sample.keys[0])
    lines.insert(number, '<box label="cow" xtl="5" ytl="5" xbr="15" ybr="241.5" occluded="0"></box>')
    tmp_path.joinpath("a.xml").write_text("\n".join(lines), encoding="utf-8")
    said = refusal(tmp_path / "a.xml", sample, all_done=True)
    assert f"line {number + 1}: the box 5, 5, 15, 241.5 reaches outside of T1/a ü.jpg" in said


@pytest.mark.parametrize("kind", TOOL_FILES)
def test_a_file_that_was_cut_off_is_refused_at_every_place(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, kind: ExportFormat
) -> None:
    whole = exported[kind].rstrip()
    path = tmp_path / TOOL_FILES[kind]
    for length in range(1, len(whole), max(len(whole) // 60, 1)):
        path.write_text(whole[:length], encoding="utf-8")
        assert "line" in refusal(path, sample)


def test_nobody_named_is_refused(sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path) -> None:
    tmp_path.joinpath("c.json").write_text(exported["coco"], encoding="utf-8")
    assert "does not say who reviewed; name the person with --reviewer" in refusal(
        tmp_path / "c.json", sample, reviewer=None
    )


class _LookedUp(Mapping[str, KnownBox]):
    """Boxes that may be asked for, and not walked through: a review may have a million."""

    def __init__(self, boxes: Mapping[str, KnownBox]) -> None:
        self._boxes = boxes

    def __getitem__(self, key: str) -> KnownBox:
        return self._boxes[key]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all boxes of the review were gone through")

    def __len__(self) -> int:
        raise AssertionError("all boxes of the review were counted")

    def __contains__(self, key: object) -> bool:
        return key in self._boxes


@pytest.mark.parametrize("kind", TOOL_FILES)
def test_boxes_are_looked_up_and_never_gone_through(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, kind: ExportFormat
) -> None:
    known = dataclasses.replace(sample.known, boxes=_LookedUp(sample.known.boxes))
    text = exported[kind]
    if kind == "label-studio":
        tasks = json.loads(text)
        submit(tasks)
        text = json.dumps(tasks)
    path = tmp_path / TOOL_FILES[kind]
    path.write_text(text, encoding="utf-8")
    found = read_decisions(path, known, reviewer="ann", all_done=True)
    assert len(found.decisions) == 6
    assert {one.photo_sha256 for one in found.searches} == {sample.photos[ONE], sample.photos[BLIND]}
    assert {one.photo_sha256 for one in found.decisions} == {sample.photos[one] for one in (ONE, OTHER, CROPS)}
