import shutil
from pathlib import Path

import pytest
from PIL import Image

from tiny_datasets import MakeDataset, write_image
from transect.datasets import combine_digests, dataset_digest, load_dataset, split_digest
from transect.errors import DatasetError


def _digest(data: Path) -> str:
    return dataset_digest(load_dataset(data))


def test_a_copied_or_renamed_set_keeps_its_digest(make_dataset: MakeDataset, tmp_path: Path) -> None:
    data = make_dataset()
    write_image(data.parent / "images" / "train" / "b.jpg", seed=9)
    before = _digest(data)
    assert len(before) <= 36
    copy = tmp_path / "copy"
    shutil.copytree(data.parent, copy)
    (copy / "images" / "train" / "b.jpg").rename(copy / "images" / "train" / "0.jpg")
    assert _digest(copy / "data.yaml") == before


def test_spelling_of_numbers_and_order_of_rows_do_not_matter(make_dataset: MakeDataset) -> None:
    label = "labels/train/a.txt"
    data = make_dataset()
    (data.parent / label).write_text("0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.1 0.1\n")
    before = _digest(data)
    (data.parent / label).write_text("1 .1 .10 0.1 0.100\n0 0.5 0.5 0.2 0.4\n")
    assert _digest(data) == before


def test_every_change_that_matters_changes_it(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    seen = {_digest(data)}
    (data.parent / "labels/test/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    seen.add(_digest(data))
    write_image(data.parent / "images/val/a.jpg", seed=77)
    seen.add(_digest(data))
    data.write_text(data.read_text().replace("zebra", "horse"))
    seen.add(_digest(data))
    for folder in ("images", "labels"):
        suffix = "jpg" if folder == "images" else "txt"
        (data.parent / folder / "val" / f"a.{suffix}").rename(data.parent / folder / "train" / f"b.{suffix}")
    write_image(data.parent / "images/val/c.jpg", seed=5)
    (data.parent / "labels/val/c.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    seen.add(_digest(data))
    assert len(seen) == 5


def test_the_parts_make_the_whole(make_dataset: MakeDataset) -> None:
    dataset = load_dataset(make_dataset(splits=("train", "val")))
    parts = {name: split_digest(dataset, name) for name in dataset.splits}
    assert parts["val"] == parts["test"] != parts["train"]
    assert combine_digests(dataset, parts) == dataset_digest(dataset)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_truncated_images_are_refused(make_dataset: MakeDataset, name: str) -> None:
    data = make_dataset()
    path = write_image(data.parent / "images" / "val" / name, 200, 200)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(DatasetError, match=rf"{name} is truncated"):
        _digest(data)


def test_all_truncated_images_are_reported(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    for number in range(5):
        path = write_image(data.parent / f"images/train/t{number}.jpg", 200, 200, seed=number)
        path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DatasetError, match=r"t0.jpg is truncated.*t2.jpg is truncated.*2 more like this"):
        _digest(data)


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_still_truncated(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    path = data.parent / "images" / "val" / "a.jpg"
    thumbnail = write_image(data.parent / "thumb.jpg").read_bytes()
    Image.open(write_image(path, 300, 300)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail)
    whole = path.read_bytes()
    _digest(data)
    path.write_bytes(whole[:-600])
    with pytest.raises(DatasetError, match="truncated"):
        _digest(data)


def test_bytes_after_the_end_of_a_jpeg_are_no_damage(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    path = data.parent / "images" / "val" / "a.jpg"
    path.write_bytes(path.read_bytes() + b"maker's trailer")
    _digest(data)
