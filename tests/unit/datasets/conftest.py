"""Small training sets, made on the spot."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tiny_datasets import MakeDataset, write_image


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """A function that writes a set with one image a split and returns its data.yaml."""

    def make(
        folder: str = "set",
        *,
        splits: tuple[str, ...] = ("train", "val", "test"),
        labels: Mapping[str, str] | None = None,
        yaml: str | None = None,
    ) -> Path:
        root = tmp_path / folder
        rows = labels if labels is not None else dict.fromkeys(splits, "0 0.5 0.5 0.2 0.4\n")
        for number, split in enumerate(splits):
            write_image(root / "images" / split / "a.jpg", seed=number)
            if split in rows:
                label = root / "labels" / split / "a.txt"
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text(rows[split])
        text = yaml if yaml is not None else "".join(f"{split}: images/{split}\n" for split in splits)
        document = root / "data.yaml"
        document.parent.mkdir(parents=True, exist_ok=True)
        document.write_text(text if "names" in text else text + "names: [sheep, zebra]\n")
        return document

    return make
