"""Forms of data.yaml that tools write: each is the same set from any working directory, or one sentence."""

from pathlib import Path

import pytest

from tiny_datasets import write_spots_dataset
from transect.datasets import Dataset, dataset_digest, load_dataset
from transect.errors import DatasetError

_SPLITS = "train: images/train\nval: images/val\ntest: images/test\n"
_NAMES = "names: [pale, dark]\n"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set below datasets/Büffel 1, and a working directory that is none of its folders."""
    data = write_spots_dataset(tmp_path / "datasets" / "Büffel 1", images=1, size=32)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return data


def _places(dataset: Dataset) -> dict[str, list[Path]]:
    return {name: [image.resolve() for image in split.images] for name, split in dataset.splits.items()}


@pytest.mark.parametrize(
    "text",
    [
        _SPLITS + _NAMES,
        "path: .\n" + _SPLITS + _NAMES,
        "path: ./\n" + _SPLITS + _NAMES,
        "path: Büffel 1\n" + _SPLITS + _NAMES,
        "path: ../Büffel 1\n" + _SPLITS + _NAMES,
        "path: datasets/Büffel 1\n" + _SPLITS + _NAMES,
        "path: ../datasets/Büffel 1\n" + _SPLITS + _NAMES,
        "path: {root}\n" + _SPLITS + _NAMES,
        "train: {root}/images/train\nval: {root}/images/val/\ntest: {root}/images/test\n" + _NAMES,
        "train: ../images/train\nval: ../images/val\ntest: ../images/test\n" + _NAMES,
        "train: ./images/train/\nval: [images/val]\ntest: 'images\\test'\n" + _NAMES,
        "train: images/train\nvalidation: images/val\ntest: images/test\n" + _NAMES,
        "path: ./\ntrain: train.txt\nval: val.txt\ntest: [test.txt]\n" + _NAMES,
        _SPLITS + "names: {{'0': pale, '1': dark}}\n",
        _SPLITS + "names:\n  1: dark\n  0: pale\nnc: 2\n",
    ],
)
def test_every_form_is_the_same_set_from_anywhere(data: Path, text: str) -> None:
    root = data.parent
    expected = load_dataset(data)
    (root / "train.txt").write_text(f"images/train/0.png\n{root}/images/train/1.png\n")
    (root / "val.txt").write_text("./images/val/0.png\n")
    (root / "test.txt").write_text("images\\test\\0.png\n")
    data.write_text(text.format(root=root))
    found = load_dataset(data)
    assert _places(found) == _places(expected)
    assert found.names == ("pale", "dark")
    assert dataset_digest(found) == dataset_digest(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path: https://example.org/set.zip\n" + _SPLITS + _NAMES, "nothing is downloaded"),
        ("train: ul://a/b\nval: images/val\n" + _NAMES, "nothing is downloaded"),
        (_SPLITS + "names: {1: pale, 2: dark}\n", "the keys of names must be 0 to 1"),
        (_SPLITS + "names: {0: pale, 2: dark}\n", "the keys of names must be 0 to 1"),
        (_SPLITS + "names: [pale, dark]\nnames: [dark, pale]\n", "names"),
        (_SPLITS + _NAMES + "kpt_shape: 4\n", "kpt_shape must be"),
    ],
)
def test_other_forms_get_one_sentence(data: Path, text: str, said: str) -> None:
    data.write_text(text)
    with pytest.raises(DatasetError, match=r"data\.yaml") as caught:
        load_dataset(data)
    assert said in str(caught.value)
