"""Where the labels of a picture may lie, and what is said where they do not."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tiny_datasets import MakeDataset, write_image
from transect.datasets import boxes_in_pixels, load_dataset
from transect.datasets.dataset import Dataset
from transect.errors import DatasetError

_BOX = "0 0.5 0.5 0.2 0.4\n"


def _boxes(dataset: Dataset) -> list[int]:
    """How many boxes each image of the train split has."""
    split = dataset.splits["train"]
    return [len(rows) for rows in split.rows]


def _add(data: Path, image: str, label: str = "", rows: str = _BOX, seed: int = 1) -> None:
    write_image(data.parent / image, seed=seed)
    if label:
        path = data.parent / label
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rows)


@pytest.mark.parametrize(
    "label",
    [
        "images/train/b.txt",
        "labels/train/b.TXT",
        "labels/train/B.txt",
        "images/train/b.Txt",
    ],
)
def test_labels_are_found_in_every_usual_place(make_dataset: MakeDataset, label: str) -> None:
    data = make_dataset()
    _add(data, "images/train/b.jpg", label)
    dataset = load_dataset(data)
    assert _boxes(dataset) == [1, 1]
    found_beside = any("found beside their pictures" in remark for remark in dataset.remarks)
    assert found_beside == label.startswith("images")


def test_letters_with_accents_fit_however_they_are_composed(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    composed = "bär"
    apart = unicodedata.normalize("NFD", composed)
    assert composed != apart
    _add(data, f"images/train/{composed}.jpg", f"labels/train/{apart}.txt")
    assert _boxes(load_dataset(data)) == [1, 1]


def test_the_label_where_labels_are_kept_wins_and_the_other_one_is_named(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    _add(data, "images/train/b.jpg", "labels/train/b.txt", 2 * _BOX.replace("0.4", "0.3") + _BOX)
    _add(data, "images/train/b.jpg", "images/train/b.txt")
    dataset = load_dataset(data)
    assert _boxes(dataset) == [1, 2]
    (said,) = [remark for remark in dataset.remarks if "second label file" in remark]
    assert str(data.parent / "images/train/b.txt") in said


def test_two_files_that_fit_one_image_are_refused(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    _add(data, "images/train/B.jpg", "labels/train/b.txt")
    (data.parent / "labels/train/b.TXT").write_text(_BOX)
    with pytest.raises(DatasetError, match=r"b\.txt both fit one image"):
        load_dataset(data)


def test_images_without_labels_are_counted_before_a_training(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    for number in range(3):
        _add(data, f"images/train/empty{number}.jpg", seed=number)
    dataset = load_dataset(data)
    assert _boxes(dataset) == [1, 0, 0, 0]
    (said,) = [remark for remark in dataset.remarks if "empty ground" in remark]
    assert said.startswith("train: 3 of 4 images have no label file")
    assert str(data.parent / "labels/train/empty0.txt") in said


def test_labels_of_other_names_than_the_images_are_refused(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    for number in range(4):
        _add(data, f"images/train/b{number}.jpg", f"labels/train/b{number}_jpg.rf.txt", seed=number)
    with pytest.raises(DatasetError, match=r"4 of 5 images of the train split have no label file.*4 label files"):
        load_dataset(data)


def test_labels_in_another_folder_are_named(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    for number in range(4):
        _add(data, f"images/train/b{number}.jpg", f"annotations/b{number}.txt", seed=number)
    with pytest.raises(DatasetError, match=r"4 label files of their names lie elsewhere, such as .*annotations/b0.txt"):
        load_dataset(data)


def test_labels_of_other_splits_belong_to_their_own_images(make_dataset: MakeDataset) -> None:
    """Each split numbers its images from 0, and validation has one without animals."""
    data = make_dataset(yaml="train: images/train\nval: images/val\nnames: [sheep, zebra]\n")
    for number in range(3):
        _add(data, f"images/train/{number}.jpg", f"labels/train/{number}.txt", seed=number)
        _add(data, f"images/unlisted/{number}.jpg", f"labels/unlisted/{number}.txt", seed=number)
        _add(data, f"images/val/{number}.jpg", seed=number + 10)
    dataset = load_dataset(data)
    assert _boxes(dataset) == [1, 1, 1, 1]
    assert [remark[:40] for remark in dataset.remarks] == ["val: 3 of 4 images have no label file an"]


def test_a_split_by_text_files_leaves_no_label_over(make_dataset: MakeDataset) -> None:
    data = make_dataset(splits=("train",), yaml="train: train.txt\nval: val.txt\nnames: [sheep]\n")
    for number in range(4):
        _add(data, f"images/train/{number}.jpg", f"labels/train/{number}.txt", seed=number)
    _add(data, "images/train/none.jpg")
    (data.parent / "train.txt").write_text("images/train/a.jpg\nimages/train/none.jpg\n")
    (data.parent / "val.txt").write_text("./images/train/1.jpg\n")
    dataset = load_dataset(data)
    assert _boxes(dataset) == [1, 0]
    assert not [remark for remark in dataset.remarks if "to no image" in remark]


def test_a_label_without_its_image_is_named(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    (data.parent / "labels/train/gone.txt").write_text(_BOX)
    (data.parent / "labels/train/classes.txt").write_text("sheep\nzebra\n")
    dataset = load_dataset(data)
    assert dataset.remarks == (
        f"train: 1 label file belongs to no image, such as {data.parent / 'labels/train/gone.txt'}.",
    )


def test_a_folder_of_labels_that_has_no_images_at_all_is_named(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    lost = data.parent / "labels/train/2024 Süd/gone.txt"
    lost.parent.mkdir()
    lost.write_text(_BOX)
    assert load_dataset(data).remarks == (f"train: 1 label file belongs to no image, such as {lost}.",)


def test_labels_of_another_split_below_are_its_own(make_dataset: MakeDataset) -> None:
    data = make_dataset(yaml="train: train.txt\nval: images/train/val\nnames: [sheep]\n")
    (data.parent / "train.txt").write_text("images/train/a.jpg\n")
    _add(data, "images/train/val/a.jpg", "labels/train/val/a.txt")
    lost = data.parent / "labels/train/val/gone.txt"
    lost.write_text(_BOX)
    assert load_dataset(data).remarks == (f"val: 1 label file belongs to no image, such as {lost}.",)


def test_a_linked_folder_is_part_of_its_split(make_dataset: MakeDataset, tmp_path: Path) -> None:
    data = make_dataset()
    write_image(tmp_path / "disk" / "c.jpg", seed=4)
    (data.parent / "images/train/x").symlink_to(tmp_path / "disk")
    label = data.parent / "labels/train/x/c.txt"
    label.parent.mkdir()
    label.write_text(_BOX)
    dataset = load_dataset(data)
    assert [path.name for path in dataset.splits["train"].images] == ["a.jpg", "c.jpg"]
    assert _boxes(dataset) == [1, 1]


def test_links_that_lead_nowhere_are_counted_and_the_first_are_named(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    for number in range(5):
        (data.parent / f"images/train/l{number}.jpg").symlink_to("../../.git/annex/objects/none")
    with pytest.raises(DatasetError) as caught:
        load_dataset(data)
    assert "the train split has 5 pictures that cannot be used" in str(caught.value)
    assert "l0.jpg is a link to" in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_a_picture_of_a_kind_that_is_not_read_is_refused_with_labels_and_named_without(
    make_dataset: MakeDataset,
) -> None:
    data = make_dataset()
    heic = data.parent / "images/train/p.HEIC"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heic" + bytes(80))
    dataset = load_dataset(data)
    (said,) = dataset.remarks
    assert "1 picture without a label is not used" in said
    assert "HEIF" in said
    assert "convert" in said
    (data.parent / "labels/train/p.txt").write_text(_BOX)
    with pytest.raises(DatasetError, match=r"p\.HEIC is of a kind that is not read \(HEIF\); convert"):
        load_dataset(data)


def test_trash_thumbnails_and_hidden_files_are_left_out_and_counted(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    for place in (".Trash-1000/files/d.jpg", "@eaDir/a.jpg/SYNOFILE_THUMB_M.jpg", ".hidden.jpg"):
        write_image(data.parent / "images/train" / place)
    dataset = load_dataset(data)
    assert len(dataset.splits["train"].images) == 1
    assert len([remark for remark in dataset.remarks if "1 file is left out" in remark]) == 3


@pytest.mark.parametrize("suffix", [".jpe", ".jfif", ".JPG", ".webp", ".bmp", ".mpo", ".png", ".tif", ".gif", ""])
def test_pictures_of_every_kind_that_is_read_are_in_the_set(make_dataset: MakeDataset, suffix: str) -> None:
    data = make_dataset()
    # Pillow does not know some of the suffixes of JPEG.
    own = suffix if suffix.lower() in Image.registered_extensions() and suffix != ".mpo" else ".jpg"
    image = write_image(data.parent / f"images/train/p{own}", seed=8).rename(data.parent / f"images/train/p{suffix}")
    (data.parent / "labels/train/p.txt").write_text(_BOX)
    dataset = load_dataset(data)
    assert image in dataset.splits["train"].images
    assert _boxes(dataset) == [1, 1]


@pytest.mark.parametrize(
    ("shape", "points"),
    [
        ("[4, 2]", "0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9"),
        ("[4, 3]", "0.7 0.6 2 0.9 0.6 1 0.9 0.7 0 0.7 0.7 2"),
        ("[2, 3]", "0.72 0.6 2 0.8 0.6 1"),
    ],
)
def test_pose_labels_are_read_as_their_boxes(make_dataset: MakeDataset, shape: str, points: str) -> None:
    row = f"0 0.8 0.64 0.16 0.12 {points}\n"
    data = make_dataset(labels=dict.fromkeys(("train", "val", "test"), row))
    data.write_text(f"{data.read_text()}kpt_shape: {shape}\n")
    split = load_dataset(data).splits["train"]
    _, boxes = boxes_in_pixels(split.rows[0], (100, 100))
    assert boxes.round(3).tolist() == [[72, 58, 88, 70]]


def test_points_that_kpt_shape_does_not_say_are_refused(make_dataset: MakeDataset) -> None:
    row = "0 0.8 0.64 0.16 0.12 0.75 0.6 2 0.85 0.6 1\n"
    data = make_dataset(labels=dict.fromkeys(("train", "val", "test"), row))
    data.write_text(f"{data.read_text()}kpt_shape: [4, 3]\n")
    with pytest.raises(DatasetError, match=r"a.txt, line 1: .* or 17 with the points of kpt_shape; this one has 11"):
        load_dataset(data)
    data.write_text(data.read_text().replace("kpt_shape: [4, 3]", "flip_idx: [1, 0]"))
    with pytest.raises(DatasetError, match=r"needs kpt_shape"):
        load_dataset(data)


def test_a_read_only_folder_and_a_relative_path(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset("Bärenzählung 1")
    before = sorted(data.parent.rglob("*"))
    monkeypatch.chdir(data.parent.parent)
    dataset = load_dataset(Path("Bärenzählung 1/data.yaml"))
    assert dataset.path.is_absolute()
    assert all(path.is_absolute() for path in dataset.splits["train"].images)
    assert sorted(data.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("document", "text_files"),
    [
        ("train: images/train\nval: images/val\n", {}),
        ("path: .\ntrain: images/train\nval: images/val\n", {}),
        ("path: ./\ntrain: images/train/\nval: images/val/\n", {}),
        ("path: {root}\ntrain: images/train\nval: images/val\n", {}),
        ("path: ../set\ntrain: images/train\nval: images/val\n", {}),
        ("path: set\ntrain: images/train\nval: images/val\n", {}),
        ("path: datasets/set\ntrain: images/train\nval: images/val\n", {}),
        ("train: ../images/train\nval: ../images/val\n", {}),
        ("train: ./images/train\nvalidation: ./images/val\n", {}),
        ("train: {root}/images/train\nval: {root}/images/val\n", {}),
        ("train: [images/train]\nval:\n- images/val\n", {}),
        ("train: images\\train\nval: images\\val\n", {}),
        ("train: train.txt\nval: val.txt\n", {"train": "./images/train/a.jpg\n", "val": "images/val/a.jpg\n\n"}),
        ("train: train.txt\nval: val.txt\n", {"train": "{root}/images/train/a.jpg", "val": "images\\val\\a.jpg"}),
        ("train: train.txt\nval: val.txt\n", {"train": "data/images/train/a.jpg", "val": "data/images/val/a.jpg"}),
        ("train: [train.txt]\nval: [images/val]\n", {"train": "\ufeffimages/train/a.jpg\r\n"}),
    ],
)
def test_every_way_to_name_folders(
    make_dataset: MakeDataset,
    document: str,
    text_files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_dataset("datasets/set", splits=("train", "val"))
    root = data.parent
    data.write_text(document.format(root=root) + "names: {'0': sheep, '1': zebra}\nnc: 2\nroboflow: {version: 1}\n")
    for name, text in text_files.items():
        (root / f"{name}.txt").write_text(text.format(root=root), encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    dataset = load_dataset(data)
    assert dataset.names == ("sheep", "zebra")
    for name in ("train", "val"):
        split = dataset.splits[name]  # type: ignore[index]
        assert [path.resolve() for path in split.images] == [root / "images" / name / "a.jpg"]
        assert [os.path.realpath(path) for path in split.labels] == [str(root / "labels" / name / "a.txt")]
    assert dataset.remarks == ()


def test_a_folder_from_the_working_directory_is_found_and_one_of_the_same_name_is_reported(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = make_dataset("pictures")
    document = tmp_path / "configs" / "wild.yaml"
    document.parent.mkdir()
    document.write_text("path: pictures\ntrain: images/train\nval: images/val\nnames: [sheep]\n")
    monkeypatch.chdir(tmp_path)
    assert load_dataset(document).splits["train"].images[0].is_relative_to(data.parent)
    shutil.copytree(data.parent, document.parent / "pictures")
    (said,) = load_dataset(document).remarks
    assert f"is taken to be {document.parent / 'pictures'}" in said
    assert f"there is a folder {data.parent} too" in said
