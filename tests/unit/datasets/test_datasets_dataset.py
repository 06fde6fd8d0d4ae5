from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tiny_datasets import MakeDataset, write_image
from transect.datasets import load_dataset
from transect.errors import DatasetError


def test_reads_names_splits_and_sizes(make_dataset: MakeDataset) -> None:
    path = make_dataset()
    dataset = load_dataset(path)
    assert dataset.names == ("sheep", "zebra")
    assert dataset.name == "set"
    assert not dataset.test_is_val
    assert {name: len(split.images) for name, split in dataset.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert dataset.splits["train"].sizes == ((40, 20),)
    assert dataset.splits["train"].labels[0].read_text().startswith("0 0.5")


def test_without_a_test_split_val_is_the_test_split(make_dataset: MakeDataset) -> None:
    dataset = load_dataset(make_dataset(splits=("train", "val")))
    assert dataset.test_is_val
    assert dataset.splits["test"] == dataset.splits["val"]


@pytest.mark.parametrize(
    "names", ["names: {0: sheep, 1: zebra}", "names: {1: zebra, 0: sheep}", "names: [sheep, zebra]"]
)
def test_names_are_a_list_or_a_mapping(make_dataset: MakeDataset, names: str) -> None:
    dataset = load_dataset(make_dataset(yaml=f"train: images/train\nval: images/val\n{names}\nnc: 2\n"))
    assert dataset.names == ("sheep", "zebra")


@pytest.mark.parametrize("path", [".", "", "../set", "{root}"])
def test_path_is_relative_to_the_yaml(make_dataset: MakeDataset, path: str) -> None:
    data = make_dataset()
    line = f"path: {path.format(root=data.parent)}\n" if path else ""
    data.write_text(f"{line}train: images/train\nval: images/val\nnames: [sheep]\n")
    assert len(load_dataset(data).splits["train"].images) == 1


def test_a_split_may_be_a_list_or_a_text_file(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    (data.parent / "val.txt").write_text("./images/val/a.jpg\nimages/test/a.jpg\n\n")
    data.write_text("train: [images/train, images/test]\nval: val.txt\nnames: [sheep]\n")
    dataset = load_dataset(data)
    assert [len(dataset.splits[name].images) for name in ("train", "val")] == [2, 2]


def test_roboflow_exports_name_the_parent_folder(make_dataset: MakeDataset) -> None:
    data = make_dataset(yaml="train: ../images/train\nval: ../images/val\nnames: [sheep]\n")
    assert len(load_dataset(data).splits["val"].images) == 1


def test_hidden_files_and_other_files_are_no_images(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    folder = data.parent / "images" / "train"
    (folder / "._a.jpg").write_bytes(b"x")
    (folder / "notes.md").write_text("x")
    write_image(folder / "deep" / "B.JPG")
    assert [path.name for path in load_dataset(data).splits["train"].images] == ["a.jpg", "B.JPG"]


def test_sizes_follow_exif_orientation(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    path = data.parent / "images" / "train" / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert load_dataset(data).splits["train"].sizes == ((20, 40),)


def _remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / name).write_bytes(content)

    return write


_SPLITS = "train: images/train\nval: images/val\n"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove("data.yaml"), "does not exist"),
        (_write("data.yaml", b"train: [\n"), "not valid YAML at line 2"),
        (_write("data.yaml", b"\xff\xff"), "not UTF-8"),
        (_write("data.yaml", b"- a\n"), "must be a mapping"),
        (_write("data.yaml", b""), "not a data.yaml"),
        (_write("data.yaml", _SPLITS.encode()), "names must be a list"),
        (_write("data.yaml", f"{_SPLITS}names: 3\n".encode()), "names must be a list"),
        (_write("data.yaml", f"{_SPLITS}names: []\n".encode()), "names must be a list"),
        (_write("data.yaml", f"{_SPLITS}names: {{1: a, 2: b}}\n".encode()), "keys of names must be 0 to 1"),
        (_write("data.yaml", f"{_SPLITS}names: [a, a]\n".encode()), "same class twice"),
        (_write("data.yaml", f"{_SPLITS}names: [a, [b]]\n".encode()), "must be a word"),
        (_write("data.yaml", f"{_SPLITS}names: [a]\nnc: 2\n".encode()), "nc is 2"),
        (_write("data.yaml", f"{_SPLITS}names: [a]\npath: gone\n".encode()), "folder gone"),
        (_write("data.yaml", f"{_SPLITS}names: [a]\npath: 3\n".encode()), "path must be"),
        (_write("data.yaml", b"train: images/train\nnames: [a]\n"), "val must name"),
        (_write("data.yaml", b"train: [1]\nval: images/val\nnames: [a]\n"), "train must name"),
        (_write("data.yaml", b"train: images/train\nval: gone\nnames: [a]\n"), "gone does not exist"),
        (_write("data.yaml", b"train: images/train\nval: list.txt\nnames: [a]\n"), "list.txt does not exist"),
        (_remove("images/val/a.jpg"), "val split is empty"),
        (_write("images/val/a.jpg", b""), "is empty (0 bytes)"),
        (_write("images/val/a.jpg", b"hello"), "is not an image that can be read"),
        (_write("labels/val/a.txt", b"5 0.5 0.5 0.1 0.1\n"), "a.txt, line 1: class 5 is out of range"),
        (_write("labels/train/a.txt", b""), "no image of the train split has a label"),
        (_write("labels/val/a.txt", b""), "no image of the val split has a label"),
        (_write("labels/test/a.txt", b"\n"), "no image of the test split has a label"),
        (_write("data.yaml", b"train: images/train\nvalid: images/val\nnames: [a]\n"), "call it val"),
        (_write("data.yaml", b"train: https://x.org/a.zip\nval: images/val\nnames: [a]\n"), "nothing is downloaded"),
        (_write("data.yaml", b"path: ul://x/datasets/y\ntrain: a\nval: b\nnames: [a]\n"), "nothing is downloaded"),
        (_write("data.yaml", f"{_SPLITS}names: {{1: a, 2: b}}\n".encode()), "these begin at 1"),
        (_write("data.yaml", f"{_SPLITS}names: {{0: a, 2: b}}\n".encode()), "must be 0 to 1"),
        (_write("data.yaml", f"{_SPLITS}names: [a]\nnames: [b]\n".encode()), "'names' stands in line 3 already"),
        (_write("data.yaml", f"{_SPLITS}names: [a]\nkpt_shape: 17\n".encode()), "kpt_shape must be"),
    ],
)
def test_bad_sets_get_one_sentence(make_dataset: MakeDataset, damage: Callable[[Path], None], said: str) -> None:
    data = make_dataset()
    damage(data.parent)
    with pytest.raises(DatasetError) as caught:
        load_dataset(data)
    assert said in str(caught.value)
    assert str(data) in str(caught.value)


def test_a_folder_is_not_a_data_yaml(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="it is a folder"):
        load_dataset(tmp_path)


def test_a_list_that_names_a_missing_image_is_refused(make_dataset: MakeDataset) -> None:
    data = make_dataset(yaml="train: images/train\nval: val.txt\nnames: [sheep, zebra]\n")
    (data.parent / "val.txt").write_text("images/val/a.jpg\nimages/val/b.jpg\n")
    with pytest.raises(DatasetError, match=r"val.txt, line 2: .*b.jpg does not exist"):
        load_dataset(data)
