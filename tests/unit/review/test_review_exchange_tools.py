"""Decisions from labelling tools: what their files say by what is there, what is gone and what came."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from review_batches import BLIND, BOXES, CROPS, ONE, OTHER, TOOL_FILES, Sample, make_sample, tool_texts
from transect.errors import InputError
from transect.review.decisions.decision import AddedBox, Decision
from transect.review.exchange.batch import HandedOut
from transect.review.exchange.incoming.read import read_decisions
from transect.review.exchange.known import DecisionFile, decision_uuid
from transect.review.exchange.outgoing.export import ExportFormat

Json = Any
Change = Callable[[Json], None]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def exported(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> dict[ExportFormat, str]:
    """What each tool was given."""
    return tool_texts(sample, tmp_path_factory.mktemp("exports"))


def said(found: DecisionFile, sample: Sample) -> dict[int, str]:
    """The verdicts by the number of the box in BOXES, with the species where one is named."""
    return {sample.keys.index(one.box_key): f"{one.verdict} {one.species}".strip() for one in found.decisions}


def coco(sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, change: Change, **how: Any) -> DecisionFile:
    document = json.loads(exported["coco"])
    change(document)
    tmp_path.joinpath("c.json").write_text(json.dumps(document))
    return read_decisions(tmp_path / "c.json", sample.known, **{"reviewer": "ann", **how})


def annotation_of(document: Json, key: str) -> Json:
    return next(one for one in document["annotations"] if one["attributes"].get("box_key") == key)


def finish(document: Json, *images: str) -> None:
    """Mark photos as done, as a person does: with a box of that label."""
    category = next(one["id"] for one in document["categories"] if one["name"] == "photo done")
    for image in images:
        number = next(one["id"] for one in document["images"] if one["file_name"] == image)
        document["annotations"].append(
            {"id": 900 + number, "image_id": number, "category_id": category, "bbox": [0, 0, 5, 5]}
        )


def draw(document: Json, image: str, species: str, bbox: list[float], **more: Any) -> None:
    number = next(one["id"] for one in document["images"] if one["file_name"] == image)
    category = next(one["id"] for one in document["categories"] if one["name"] == species)
    number_of_box = 1 + max((one["id"] for one in document["annotations"]), default=0)
    document["annotations"].append(
        {"id": number_of_box, "image_id": number, "category_id": category, "bbox": bbox, "area": 1.0} | more
    )


def test_coco_says_by_what_is_there_what_is_gone_and_what_came(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(document: Json) -> None:
        document["annotations"].remove(annotation_of(document, sample.keys[1]))
        annotation_of(document, sample.keys[2])["category_id"] = 3
        annotation_of(document, sample.keys[6])["attributes"]["verdict"] = "Duplicate"
        annotation_of(document, sample.keys[3])["attributes"]["verdict"] = "unsure"
        draw(document, ONE, "cow", [5, 5, 10, 12])
        draw(document, BLIND, "cow", [51, 52, 38, 27])
        finish(document, ONE, BLIND, CROPS)

    found = coco(sample, exported, tmp_path, change)
    # OTHER is not done, and its box has a verdict; the box of the blind photo was not shown.
    assert said(found, sample) == {0: "keep", 1: "reject", 2: "species cow", 3: "unsure", 5: "keep", 6: "duplicate"}
    assert {one.reviewer for one in found.decisions} == {"ann"}
    drawn = {sample.keys.index(one.box_key): one.drawn for one in found.decisions}
    assert drawn == {0: "sample", 1: "choice", 2: "choice", 3: "sample", 5: "sample", 6: "sample"}
    open_one, blind_one = sorted(found.searches, key=lambda one: one.blind)
    assert (open_one.photo_sha256, open_one.blind, open_one.drawn) == (sample.photos[ONE], False, "sample")
    assert open_one.added == (AddedBox(box=(5.0, 5.0, 15.0, 17.0), species="cow"),)
    # In a blind photo a reader marks what the model found too: it is an animal that was seen before the reveal.
    assert blind_one.added == (AddedBox(box=(51.0, 52.0, 89.0, 79.0), species="cow", before_reveal=True),)
    assert found.remarks[0].startswith("1 photo of ")


@pytest.mark.parametrize("kind", ["coco", "cvat"])
def test_what_nobody_touched_decides_nothing(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, kind: ExportFormat
) -> None:
    path = tmp_path / TOOL_FILES[kind]
    path.write_text(exported[kind], encoding="utf-8")
    found = read_decisions(path, sample.known, reviewer="ann")
    assert (found.decisions, found.searches) == ((), ())
    assert "4 photos of" in found.remarks[0]
    assert "--all-done" in found.remarks[0]
    assert "decides nothing" in found.remarks[1]
    # And with the person's word for it all boxes are right and no animal was missed.
    found = read_decisions(path, sample.known, reviewer="ann", all_done=True)
    assert said(found, sample) == dict.fromkeys((0, 1, 2, 3, 5, 6), "keep")
    assert [one.added for one in found.searches] == [(), ()]


def test_a_tool_that_numbers_anew_changes_nothing(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def plain(document: Json) -> None:
        document["annotations"].remove(annotation_of(document, sample.keys[2]))
        annotation_of(document, sample.keys[1])["category_id"] = 1
        draw(document, ONE, "goat", [120, 10, 20, 20])
        finish(document, ONE, CROPS)

    def renumbered(document: Json) -> None:
        plain(document)
        images = {one["id"]: 70 - one["id"] for one in document["images"]}
        categories = {one["id"]: 3 * one["id"] for one in document["categories"]}
        for one in document["images"]:
            one["id"] = images[one["id"]]
        for one in document["categories"]:
            one["id"] = categories[one["id"]]
        for number, one in enumerate(reversed(document["annotations"])):
            one.update(id=number, image_id=images[one["image_id"]], category_id=categories[one["category_id"]])
        document["annotations"].reverse()
        del document["info"]

    first = coco(sample, exported, tmp_path, plain)
    second = coco(sample, exported, tmp_path, renumbered)
    assert said(first, sample) == {0: "keep", 1: "species sheep", 2: "reject", 5: "keep", 6: "keep"}
    assert sorted(first.decisions, key=lambda one: one.box_key) == sorted(second.decisions, key=lambda one: one.box_key)
    assert first.searches == second.searches


def test_a_copy_with_the_key_of_its_original_is_a_new_box(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(document: Json) -> None:
        original = annotation_of(document, sample.keys[0])
        copy = json.loads(json.dumps(original)) | {"id": 77, "bbox": [90, 10, 24.5, 22.2]}
        # The copy comes first; and one was pasted into another photo, where it has a foreign key.
        document["annotations"].insert(0, copy)
        original["bbox"][0] += 2
        pasted = json.loads(json.dumps(original)) | {"id": 78, "image_id": 3}
        document["annotations"].append(pasted)
        finish(document, ONE, BLIND)

    found = coco(sample, exported, tmp_path, change)
    assert said(found, sample) == {0: "keep", 1: "keep", 2: "keep"}
    assert {one.photo_sha256: [animal.box for animal in one.added] for one in found.searches} == {
        sample.photos[ONE]: [(90.0, 10.0, 114.5, 32.2)],
        sample.photos[BLIND]: [(22.0, 30.0, 46.5, 52.2)],
    }
    assert any("with the key of another one" in one for one in found.remarks)


def test_a_box_that_was_dragged_elsewhere_is_gone_from_its_place(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(document: Json) -> None:
        annotation_of(document, sample.keys[0])["bbox"] = [110, 100, 20, 20]
        finish(document, ONE)

    found = coco(sample, exported, tmp_path, change)
    assert said(found, sample)[0] == "reject"
    assert [one.box for one in found.searches[0].added] == [(110.0, 100.0, 130.0, 120.0)]


def test_boxes_without_keys_are_found_by_photo_and_place(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(document: Json) -> None:
        for one in document["annotations"]:
            del one["attributes"]
        for one in document["images"]:
            del one["photo_sha256"]
        del document["info"]
        del document["annotations"][0]
        draw(document, ONE, "sheep", [61, 121, 19, 20])
        finish(document, ONE, OTHER, CROPS)

    found = coco(sample, exported, tmp_path, change)
    # A second box around box 2 is an animal that stands before it.
    assert said(found, sample) == {0: "reject", 1: "keep", 2: "keep", 3: "keep", 5: "keep", 6: "keep"}
    assert len(found.searches[0].added) == 1
    assert any(one.startswith("5 boxes: back without the key") for one in found.remarks)


def test_datumaro_drops_suffixes_and_photos_are_found_by_path_alone(sample: Sample) -> None:
    named = sample.known.photo_copied
    assert named("T1/a ü") == sample.photos[ONE]
    assert named("T2\\a ü.jpg") == sample.photos[OTHER]
    assert named("/data/x/photos/T1/a ü.jpg") == sample.photos[ONE]
    assert named("big.jpg") == sample.photos[CROPS]
    for unknown in ("a ü.jpg", "T3/a ü.jpg", "T1/big.jpg", ""):
        assert named(unknown) is None, unknown


def test_animals_in_photos_that_nobody_was_to_search_are_said_to_be_left_out(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(document: Json) -> None:
        draw(document, OTHER, "sheep", [100, 100, 20, 20])
        draw(document, ONE, "sheep", [100, 100, 20, 20])
        finish(document, OTHER)

    found = coco(sample, exported, tmp_path, change)
    assert said(found, sample) == {3: "keep"}
    assert found.searches == ()
    assert "1 new box: left out, because the photo was not to be searched in full." in found.remarks
    assert "1 new box: left out, because the photo is not finished." in found.remarks


def test_a_file_that_does_not_name_its_batch_rejects_nothing_of_another(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    second = HandedOut(boxes={sample.keys[1]: "sample"})
    known = dataclasses.replace(sample.known, batches={1: HandedOut(boxes={sample.keys[0]: "sample"}), 2: second})
    two = dataclasses.replace(sample, known=known)

    def change(document: Json) -> None:
        document["annotations"] = [annotation_of(document, sample.keys[0])]
        finish(document, ONE)

    assert said(coco(two, exported, tmp_path, change), sample) == {0: "keep"}

    def nameless(document: Json) -> None:
        change(document)
        del document["info"], document["annotations"][0]["attributes"]["batch"]

    with pytest.raises(InputError, match=r"image 1 was handed out in the batches 1, 2, .* name it with --batch"):
        coco(two, exported, tmp_path, nameless)
    assert said(coco(two, exported, tmp_path, nameless, batch=1), sample) == {0: "keep"}


def test_cvat_is_read_with_its_attributes_and_tags(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    text = exported["cvat"]
    lines = text.splitlines()
    gone = next(number for number, one in enumerate(lines) if sample.keys[1] in one)
    lines[gone] = '<box label="cow" xtl="5" ytl="5" xbr="15" ybr="17" occluded="0" rotation="90.0"></box>'
    other = next(number for number, one in enumerate(lines) if sample.keys[2] in one)
    lines[other] = lines[other].replace('label="sheep"', 'label="goat"')
    kept = next(number for number, one in enumerate(lines) if sample.keys[6] in one)
    lines[kept] = lines[kept].replace("not set", "duplicate")
    text = "\n".join(lines)
    text = re.sub(r'(<image id="[01]"[^>]*>)', r'\1<tag label="photo done" source="manual"></tag>', text)
    path = tmp_path / "annotations.xml"
    path.write_text(text, encoding="utf-8")
    found = read_decisions(path, sample.known, reviewer="ann")
    assert found.format == "cvat"
    assert said(found, sample) == {0: "keep", 1: "reject", 2: "species goat", 3: "keep", 6: "duplicate"}
    (search,) = found.searches
    # A quarter turn about the middle.
    assert search.added[0].box == pytest.approx((4, 6, 16, 16))


def submitted(task: Json, **more: Any) -> Json:
    """The annotation that Label Studio makes of a prediction which nobody changed."""
    result = json.loads(json.dumps(task["predictions"][0]["result"])) if task["predictions"] else []
    return {
        "id": 11,
        "completed_by": {"id": 4, "email": "ann@example.org"},
        "result": result,
        "was_cancelled": False,
        "lead_time": 12.5,
        "updated_at": "2026-11-30T10:00:00.5Z",
    } | more


def label_studio(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path, change: Change, **how: Any
) -> DecisionFile:
    tasks = json.loads(exported["label-studio"])
    for number, task in enumerate(tasks, start=1):
        task.update(id=number, annotations=[])
    change(tasks)
    tmp_path.joinpath("ls.json").write_text(json.dumps(tasks))
    return read_decisions(tmp_path / "ls.json", sample.known, **how)


def test_label_studio_says_who_submitted_what(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(tasks: Json) -> None:
        first, second, blind, crops = tasks
        first["annotations"] = [submitted(first)]
        result = first["annotations"][0]["result"]
        by_key = {one["id"]: one for one in result}
        result.remove(by_key[sample.keys[1]])
        by_key[sample.keys[2]]["value"]["rectanglelabels"] = ["cow"]
        # A copy: an identifier of its own, and the meta of its original.
        copy = json.loads(json.dumps(by_key[sample.keys[0]])) | {"id": "Xy12345678"}
        copy["value"] |= {"x": 50.0, "y": 50.0}
        result += [
            copy,
            {"id": "n", "type": "textarea", "from_name": "note", "to_name": "photo", "value": {"text": ["in mist"]}},
        ]
        second["annotations"] = [submitted(second, was_cancelled=True, result=[])]
        # Submitted without a box: nothing was seen.
        blind["annotations"] = [submitted(blind, completed_by=7)]
        crops["annotations"] = [submitted(crops), submitted(crops, id=12, completed_by={"id": 5, "email": "bob@x.org"})]
        choice = {"type": "choices", "from_name": "verdict", "to_name": "photo", "id": sample.keys[5]}
        crops["annotations"][1]["result"].append(choice | {"value": {"choices": ["reject"]}})

    found = label_studio(sample, exported, tmp_path, change)
    ann = [one for one in found.decisions if one.reviewer == "ann@example.org"]
    assert said(dataclasses.replace(found, decisions=tuple(ann)), sample) == {
        0: "keep",
        1: "reject",
        2: "species cow",
        5: "keep",
        6: "keep",
    }
    bob = [one for one in found.decisions if one.reviewer == "bob@x.org"]
    assert said(dataclasses.replace(found, decisions=tuple(bob)), sample) == {5: "reject", 6: "keep"}
    # The time of a task is that of its search, else shared by its boxes.
    assert [one.milliseconds for one in bob] == [6250, 6250]
    assert ann[0].milliseconds is None
    assert str(ann[0].decided_at) == "2026-11-30 10:00:00.500000+00:00"
    searches = {one.photo_sha256: one for one in found.searches}
    assert searches[sample.photos[BLIND]].reviewer == "Label Studio user 7"
    assert searches[sample.photos[BLIND]].added == ()
    one = searches[sample.photos[ONE]]
    assert (one.milliseconds, one.note, len(one.added)) == (12500, "in mist", 1)
    assert one.added[0].box == pytest.approx((80, 120, 104.5, 142.2))
    assert "1 task: skipped by the reviewer, so they decide nothing." in found.remarks


def test_label_studio_keeps_the_place_of_each_box(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(tasks: Json) -> None:
        for task in tasks:
            task["annotations"] = [submitted(task)]
            for region in task["annotations"][0]["result"]:
                # As where the tool made identifiers anew and kept no meta.
                region["id"] = f"r{region['value']['x']:.6f}"
                del region["meta"]

    found = label_studio(sample, exported, tmp_path, change, reviewer="ann")
    assert said(found, sample) == dict.fromkeys((0, 1, 2, 3, 5, 6), "keep")
    assert "6 boxes: back without the key, found by photo and place." in found.remarks
    assert len(BOXES) == 7


def test_tasks_without_an_annotation_decide_nothing(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    found = label_studio(sample, exported, tmp_path, lambda _: None)
    assert (found.decisions, found.searches) == ((), ())
    assert found.remarks[0] == "4 tasks: not annotated, so they decide nothing."


def test_a_turned_rectangle_is_the_box_around_it(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    def change(tasks: Json) -> None:
        task = tasks[0]
        task["annotations"] = [submitted(task)]
        region = json.loads(json.dumps(task["annotations"][0]["result"][0]))
        region |= {"id": "turned", "value": {"x": 50, "y": 50, "width": 10, "height": 5, "rotation": 90}}
        region["value"]["rectanglelabels"] = ["cow"]
        del region["meta"]
        task["annotations"][0]["result"].append(region)

    found = label_studio(sample, exported, tmp_path, change)
    # 16 x 12 px from (80, 120), a quarter turn clockwise about that corner.
    assert found.searches[0].added[0].box == pytest.approx((68, 120, 80, 136))


def test_a_repeat_has_the_same_uuid_and_a_change_another(
    sample: Sample, exported: dict[ExportFormat, str], tmp_path: Path
) -> None:
    first = coco(sample, exported, tmp_path, lambda document: finish(document, ONE, CROPS))
    again = coco(sample, exported, tmp_path, lambda document: finish(document, CROPS, ONE))
    assert {one.uuid for one in first.decisions} == {one.uuid for one in again.decisions}
    assert first.searches[0].uuid == again.searches[0].uuid
    one: Decision = first.decisions[0]
    others = [
        dataclasses.replace(one, reviewer="bob"),
        dataclasses.replace(one, verdict="reject"),
        dataclasses.replace(one, verdict="species", species="cow"),
        dataclasses.replace(one, note="x"),
        dataclasses.replace(one, supersedes=one.uuid),
    ]
    uuids = {decision_uuid("plain-1", made) for made in (one, *others)} | {decision_uuid("plain-2", one)}
    assert len(uuids) == 7
    assert one.uuid in uuids
    late = dataclasses.replace(one, milliseconds=5, drawn="choice")
    assert decision_uuid("plain-1", late) == one.uuid
