"""Exports of a review as the tools' own readers read them, and what those tools write taken back in.

datumaro reads and writes CVAT's XML, label-studio-sdk Label Studio's JSON; `make referees` installs them in a virtual
environment of their own. pycocotools reads COCO.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from review_batches import BLIND, BOXES, CROPS, ONE, OTHER, SIZES, SPECIES, Sample, make_sample
from transect.review.exchange.incoming.read import read_decisions
from transect.review.exchange.known import DecisionFile
from transect.review.exchange.outgoing.export import ExportFormat, export_batch

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-referees" / "bin" / "python"
# The box of the blind photo is shown to nobody.
SHOWN = (0, 1, 2, 3, 5, 6)


def referee(program: str, *arguments: object) -> Any:
    """What a program of tests/referees prints."""
    if not PYTHON.exists():
        reason = "no .venv-referees: `make referees` makes it"
        if os.environ.get("REQUIRE_REFEREES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    command = [str(PYTHON), str(ROOT / "tests" / "referees" / program), *map(str, arguments)]
    # Neither tool is to ask the network for newer versions of itself, nor to find the packages of this environment.
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("images"))


def export(sample: Sample, folder: Path, kind: ExportFormat) -> Path:
    export_batch(sample.batch, folder, kind, max_pixels=None)
    return folder


def said(found: DecisionFile, sample: Sample) -> dict[int, str]:
    return {sample.keys.index(one.box_key): f"{one.verdict} {one.species}".strip() for one in found.decisions}


def added(found: DecisionFile, sample: Sample) -> Mapping[str, list[Any]]:
    names = {photo: image for image, photo in sample.photos.items()}
    return {names[one.photo_sha256]: [animal.box for animal in one.added] for one in found.searches}


def test_pycocotools_reads_every_box(sample: Sample, tmp_path: Path) -> None:
    folder = export(sample, tmp_path, "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(folder / "instances.json"))
    assert {one["name"] for one in read.loadCats(read.getCatIds())} == {*SPECIES, "photo done"}
    images = {one["file_name"]: one for one in read.loadImgs(read.getImgIds())}
    assert {name: (one["width"], one["height"]) for name, one in images.items()} == SIZES
    for number in SHOWN:
        image, species, box, _ = BOXES[number]
        ids = read.getAnnIds(imgIds=images[image]["id"], catIds=read.getCatIds(catNms=[species]))
        found = {one["attributes"]["box_key"]: one for one in read.loadAnns(ids)}[sample.keys[number]]
        x, y, width, height = found["bbox"]
        assert (x, y, x + width, y + height) == pytest.approx(box, abs=1e-3)
        assert found["area"] == pytest.approx(width * height, abs=1e-2)
    assert len(read.getAnnIds()) == len(SHOWN)


def test_datumaro_reads_what_is_for_cvat_and_writes_what_we_read(sample: Sample, tmp_path: Path) -> None:
    folder, given, out = export(sample, tmp_path / "export", "cvat"), tmp_path / "given", tmp_path / "out"
    # As CVAT exports a task with its images.
    shutil.copytree(folder / "photos", given / "images")
    shutil.copy(folder / "annotations.xml", given)
    out.mkdir()
    edits = {"reject": sample.keys[1], "copy": sample.keys[0], "relabel": sample.keys[2]}
    read = referee("datumaro_cvat.py", given, out, json.dumps(edits))

    assert read["labels"] == [*SPECIES, "photo done"]
    sizes = {image.rpartition(".")[0]: [height, width] for image, (width, height) in SIZES.items()}
    assert {one["name"]: one["size"] for one in read["items"]} == sizes
    boxes = {box["attributes"]["box_key"]: (one["name"], box) for one in read["items"] for box in one["boxes"]}
    assert boxes.keys() == {sample.keys[number] for number in SHOWN}
    for number in SHOWN:
        image, species, place, _ = BOXES[number]
        name, box = boxes[sample.keys[number]]
        assert (name, box["label"]) == (image.rpartition(".")[0], species)
        assert box["box"] == pytest.approx(place, abs=0.006)
        assert (box["attributes"]["verdict"], box["attributes"]["batch"]) == ("not set", "1")

    # Numbered anew, in another order, and with a copy that has the key of its original.
    expected = {0: "keep", 1: "reject", 2: "species cow", 3: "keep", 5: "keep", 6: "keep"}
    for found in (
        read_decisions(out / "cvat" / "annotations.xml", sample.known, reviewer="ann"),
        # It keeps tags of photos in another file, so that somebody has to say that all are done.
        read_decisions(next((out / "coco").rglob("*.json")), sample.known, reviewer="ann", all_done=True),
    ):
        assert said(found, sample) == expected
        copies = added(found, sample)
        assert copies[BLIND] == []
        assert copies[ONE] == [pytest.approx((80.0, 30.0, 104.5, 52.2), abs=0.02)]
        assert any("with the key of another one" in one for one in found.remarks)


def test_label_studios_sdk_reads_the_tasks_and_what_was_annotated(sample: Sample, tmp_path: Path) -> None:
    folder, out = export(sample, tmp_path / "export", "label-studio"), tmp_path / "out"
    out.mkdir()
    tasks = json.loads(folder.joinpath("tasks.json").read_text(encoding="utf-8"))
    for number, task in enumerate(tasks, start=1):
        result = task["predictions"][0]["result"] if task["predictions"] else []
        task |= {"id": number, "annotations": [{"id": 10 + number, "completed_by": 1, "result": result}]}
        task["annotations"][0]["was_cancelled"] = False
    first = tasks[0]["annotations"][0]["result"]
    first[:] = [one for one in first if one["id"] != sample.keys[1]]
    verdict = {"id": sample.keys[2], "type": "choices", "from_name": "verdict", "to_name": "photo"}
    first.append(verdict | {"value": {"choices": ["duplicate"]}})
    copy = json.loads(json.dumps(first[0])) | {"id": "Ab3dEf6h1J"}
    copy["value"]["x"] += 40.0
    first.append(copy)
    annotated = tmp_path / "annotated.json"
    annotated.write_text(json.dumps(tasks), encoding="utf-8")
    read = referee("label_studio.py", folder, annotated, out)

    assert read["wrong"] == []
    assert read["labels"] == sorted(SPECIES)
    regions = {one["name"]: one["regions"] for one in read["read"]}
    assert {name: len(ones) for name, ones in regions.items()} == {ONE: 3, OTHER: 1, BLIND: 0, CROPS: 2}
    for name, ones in regions.items():
        for one in ones:
            assert (one["original_width"], one["original_height"]) == SIZES[name]

    found = read_decisions(annotated, sample.known)
    assert said(found, sample) == {0: "keep", 1: "reject", 2: "duplicate", 3: "keep", 5: "keep", 6: "keep"}
    assert added(found, sample) == {ONE: [pytest.approx((84.0, 30.0, 108.5, 52.2), abs=0.01)], BLIND: []}

    # Its COCO has neither keys nor verdicts: each box is found by photo and place.
    found = read_decisions(out / "result.json", sample.known, reviewer="ann", all_done=True)
    assert said(found, sample) == {0: "keep", 1: "reject", 2: "keep", 3: "keep", 5: "keep", 6: "keep"}
    assert added(found, sample) == {ONE: [pytest.approx((84.0, 30.0, 108.5, 52.2), abs=0.01)], BLIND: []}
