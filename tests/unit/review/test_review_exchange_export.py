"""What a reviewer gets: pictures that give no position and no score away, and the same bytes each time."""

import csv
import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from review_batches import BLIND, CROPS, ONE, OTHER, Sample, make_sample
from transect.errors import ImageError, InputError
from transect.files import atomic_write
from transect.imagery import Raster, decode_image, open_raster
from transect.review.exchange.batch import HandedOut, copy_names, names_with_boxes
from transect.review.exchange.outgoing import export, picture_files
from transect.review.exchange.outgoing.export import EXPORT_FORMATS, ExportFormat, export_batch
from transect.review.exchange.outgoing.pictures import bar_length
from transect.review.exchange.terms import COLUMNS


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("images"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_an_export_is_the_same_bytes_each_time(sample: Sample, tmp_path: Path, kind: ExportFormat) -> None:
    done = export_batch(sample.batch, tmp_path / "a", kind, max_pixels=None)
    first = contents(tmp_path / "a")
    assert sorted(done.files) == sorted(first)
    # Into another folder, and over itself.
    export_batch(sample.batch, tmp_path / "b", kind, max_pixels=None)
    export_batch(sample.batch, tmp_path / "a", kind, max_pixels=None)
    assert contents(tmp_path / "b") == first == contents(tmp_path / "a")


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_no_file_tells_a_position_or_a_score(sample: Sample, tmp_path: Path, kind: ExportFormat) -> None:
    export_batch(sample.batch, tmp_path, kind, max_pixels=None)
    for name, content in contents(tmp_path).items():
        assert b"MakerOfCameras" not in content, name
        assert b"Exif" not in content, name
        assert b'"score"' not in content, name
        if name.endswith((".jpg", ".png")):
            with Image.open(tmp_path / name) as picture:
                assert not picture.getexif(), name
                assert not {"exif", "xmp", "XML:com.adobe.xmp"} & set(picture.info), name


def test_photos_are_handed_out_upright_and_in_full(sample: Sample, tmp_path: Path) -> None:
    export_batch(sample.batch, tmp_path, "files", max_pixels=None)
    assert sorted(one.name for one in tmp_path.joinpath("photos").rglob("*.*")) == [
        "a ü.jpg",
        "a ü_boxes.jpg",
        "b & c.png",
    ]
    for image in (ONE, BLIND):
        there = decode_image(tmp_path / "photos" / image, max_pixels=None).astype(int)
        seen = decode_image(sample.folder / image, max_pixels=None).astype(int)
        assert there.shape == seen.shape
        assert np.abs(there - seen).mean() < 8


def test_crops_show_the_box_in_its_context(sample: Sample, tmp_path: Path) -> None:
    export_batch(sample.batch, tmp_path, "files", max_pixels=None)
    crops = sorted(tmp_path.joinpath("crops").iterdir())
    assert [one.name for one in crops] == [
        f"{number:04}_{box.box_key[:8]}.jpg" for number, box in enumerate(sample.batch.boxes, start=1)
    ]
    # 96 px of the photo, four times as large; the box of an animal at the corner stays in the corner.
    pixels = decode_image(crops[2], max_pixels=None).astype(int)
    # A strip with the scale bar stands below the picture where the ground distance is known.
    assert pixels.shape == (384 + 26, 384, 3)
    assert decode_image(crops[0], max_pixels=None).shape == (384, 384, 3)
    inside = pixels[8:28, 8:40].mean(axis=(0, 1))
    assert np.abs(inside - (255, 60, 0)).max() < 30
    # Beyond the box is ground, the outline is yellow.
    assert pixels[200, 200, 0] < 230
    # 96 px at 0.05 m are 4.8 m; a third of it holds 1 m, which is 80 px of the picture.
    strip = pixels[384 + 11 : 384 + 15].mean(axis=(0, 2))
    assert np.flatnonzero(strip < 60).min() == pytest.approx(8, abs=1)
    black = np.flatnonzero(strip[:95] < 60)
    assert black.max() - black.min() == pytest.approx(80, abs=2)


def test_a_scale_bar_has_a_round_length() -> None:
    assert [bar_length(one) for one in (0.9, 1.0, 4.9, 5.0, 19.0, 0.02)] == [0.5, 1, 2, 5, 10, 0.02]


def test_the_table_says_what_to_look_at(sample: Sample, tmp_path: Path) -> None:
    export_batch(sample.batch, tmp_path, "files", max_pixels=None)
    content = tmp_path.joinpath("decisions.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [one["item"] for one in rows] == ["box"] * 4 + ["photo"] * 2
    assert all((tmp_path / one["picture"]).is_file() for one in rows)
    assert (rows[0]["image"], rows[0]["species"], rows[0]["x1"], rows[0]["verdict"]) == (ONE, "sheep", "20.0", "")
    assert [one["blind"] for one in rows if one["item"] == "photo"] == ["no", "yes"]
    assert 8 <= tmp_path.joinpath("README.txt").read_text(encoding="utf-8").count("\n") <= 12


def test_the_table_alone_needs_no_photo(sample: Sample, tmp_path: Path) -> None:
    gone = dataclasses.replace(
        sample.batch, boxes=[dataclasses.replace(one, path=tmp_path / "gone.jpg") for one in sample.batch.boxes]
    )
    assert export_batch(gone, tmp_path / "out", "csv", max_pixels=None).files == ("batch.json", "decisions.csv")
    with pytest.raises(ImageError, match=r"gone\.jpg cannot be read"):
        export_batch(gone, tmp_path / "files", "files", max_pixels=None)


def test_tools_get_each_photo_once_and_no_box_in_blind_ones(sample: Sample, tmp_path: Path) -> None:
    export_batch(sample.batch, tmp_path, "coco", max_pixels=None)
    coco = json.loads(tmp_path.joinpath("instances.json").read_text(encoding="utf-8"))
    assert [one["file_name"] for one in coco["images"]] == [ONE, OTHER, BLIND, CROPS]
    assert [(one["width"], one["height"]) for one in coco["images"]][:2] == [(160, 240), (240, 160)]
    assert {one["attributes"]["box_key"] for one in coco["annotations"]} == set(sample.keys) - {sample.keys[4]}
    assert all(tmp_path.joinpath("photos", one["file_name"]).is_file() for one in coco["images"])


def test_boxes_in_blind_photos_are_said_to_be_left_out_of_tools(sample: Sample, tmp_path: Path) -> None:
    shown = dataclasses.replace(
        sample.batch.boxes[0], box_key=sample.keys[4], photo_sha256=sample.photos[BLIND], image=BLIND
    )
    shown = dataclasses.replace(shown, path=sample.folder / BLIND)
    batch = dataclasses.replace(sample.batch, boxes=[*sample.batch.boxes, shown])
    done = export_batch(batch, tmp_path, "cvat", max_pixels=None)
    assert done.remarks == (
        "Left out: 1 box to decide in photos that are searched blind; the format files has crops of such boxes.",
    )
    assert sample.keys[4] not in tmp_path.joinpath("annotations.xml").read_text(encoding="utf-8")


def test_a_folder_with_anything_else_is_left_alone(sample: Sample, tmp_path: Path) -> None:
    tmp_path.joinpath("mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no earlier export of batch 1 as csv"):
        export_batch(sample.batch, tmp_path, "csv", max_pixels=None)
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match=r"mine\.txt is a file; name a folder"):
        export_batch(sample.batch, tmp_path / "mine.txt", "csv", max_pixels=None)
    export_batch(sample.batch, tmp_path / "out", "csv", max_pixels=None)
    with pytest.raises(InputError, match="holds no earlier export of batch 2 as csv"):
        export_batch(dataclasses.replace(sample.batch, batch=2), tmp_path / "out", "csv", max_pixels=None)


@pytest.mark.parametrize("kind", ["files", "coco"])
def test_a_killed_export_is_known_and_goes_on_where_it_ended(
    sample: Sample, tmp_path: Path, kind: ExportFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_batch(sample.batch, tmp_path / "whole", kind, max_pixels=None)
    whole = contents(tmp_path / "whole")
    pictures = [name for name in whole if name.endswith((".jpg", ".png"))]

    class KilledError(Exception):
        pass

    for end in range(len(whole)):
        folder = tmp_path / f"part {end}"
        written: list[str] = []

        def dies(path: Path, content: str | bytes, written: list[str] = written, end: int = end) -> None:
            if len(written) == end:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.stem}.abcdefgh.part{path.suffix}").write_bytes(b"half")
                raise KilledError
            written.append(path.name)
            atomic_write(path, content)

        for module in (export, picture_files):
            monkeypatch.setattr(module, "atomic_write", dies)
        with pytest.raises(KilledError):
            export_batch(sample.batch, folder, kind, max_pixels=None)
        assert not folder.joinpath("batch.json").exists()
        left = {name: folder.joinpath(name).stat().st_mtime_ns for name in pictures if folder.joinpath(name).exists()}
        for module in (export, picture_files):
            monkeypatch.setattr(module, "atomic_write", atomic_write)
        export_batch(sample.batch, folder, kind, max_pixels=None)
        assert contents(folder) == whole
        # What was there stays.
        assert {name: folder.joinpath(name).stat().st_mtime_ns for name in left} == left


def test_another_batch_never_mends_an_unfinished_folder(sample: Sample, tmp_path: Path) -> None:
    export_batch(sample.batch, tmp_path, "csv", max_pixels=None)
    tmp_path.joinpath("batch.json").rename(tmp_path / "unfinished.json")
    with pytest.raises(InputError, match="holds no earlier export of batch 1 as files"):
        export_batch(sample.batch, tmp_path, "files", max_pixels=None)
    fewer = dataclasses.replace(sample.batch, boxes=sample.batch.boxes[1:])
    with pytest.raises(InputError, match="holds no earlier export of batch 1 as csv"):
        export_batch(fewer, tmp_path, "csv", max_pixels=None)
    tmp_path.joinpath("decisions.csv").unlink()
    assert export_batch(sample.batch, tmp_path, "csv", max_pixels=None).files == ("batch.json", "decisions.csv")
    assert sorted(contents(tmp_path)) == ["batch.json", "decisions.csv"]


def test_each_photo_is_decoded_once(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(path: Path, **how: Any) -> Raster:
        opened.append(path.name)
        return open_raster(path, **how)

    monkeypatch.setattr(picture_files, "open_raster", counted)
    export_batch(sample.batch, tmp_path, "files", max_pixels=None)
    assert sorted(opened) == ["a ü.jpg", "a ü.jpg", "b & c.png", "big.jpg"]


def test_a_folder_that_cannot_be_written_is_one_sentence(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: str | bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(picture_files, "atomic_write", full)
    with pytest.raises(InputError) as caught:
        export_batch(sample.batch, tmp_path, "files", max_pixels=None)
    first = tmp_path / "crops" / f"0001_{sample.keys[0][:8]}.jpg"
    assert str(caught.value) == (
        f"The export cannot be written to {tmp_path} ({first}): No space left on device. Mend that "
        "and run the same command again, which goes on from there, or name another folder."
    )


def test_decisions_that_were_filled_in_are_not_written_over(sample: Sample, tmp_path: Path) -> None:
    export_batch(sample.batch, tmp_path, "csv", max_pixels=None)
    table = tmp_path / "decisions.csv"
    filled = table.read_bytes().replace(b"52.2,,", b"52.2,keep,", 1)
    table.write_bytes(filled)
    with pytest.raises(InputError, match="was changed since it was exported"):
        export_batch(sample.batch, tmp_path, "csv", max_pixels=None)
    assert table.read_bytes() == filled


def test_a_photo_that_changed_since_the_census_is_not_handed_out(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "images")
    Image.new("RGB", (400, 300)).save(sample.folder / CROPS)
    with pytest.raises(ImageError, match=r"big\.jpg has changed since the census; put the photo of the census back"):
        export_batch(sample.batch, tmp_path / "out", "files", max_pixels=None)


def test_the_record_of_a_batch_is_read_back(sample: Sample, tmp_path: Path) -> None:
    export_batch(sample.batch, tmp_path, "csv", max_pixels=None)
    record = json.loads(tmp_path.joinpath("batch.json").read_text(encoding="utf-8"))
    assert HandedOut.from_json(record) == HandedOut.of(sample.batch)


def test_copies_of_photos_never_share_a_name() -> None:
    images = ["a.tif", "a.tif.jpg", "A.TIF.jpg", "a.PNG", "a.jpg", "b.webp", "a_boxes.jpg"]
    copies = copy_names(images)
    boxes = names_with_boxes(copies)
    names = [name.casefold() for name in (*copies.values(), *boxes.values())]
    assert len(set(names)) == len(names) == 14
    assert copies["b.webp"] == "b.webp.jpg"
    assert copies["a.jpg"] == "a.jpg"
    assert copies["a.PNG"] == "a.PNG"
