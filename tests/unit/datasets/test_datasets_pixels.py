"""Every picture of a training set is decoded once before a training starts."""

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from tiny_datasets import MakeDataset, write_image, write_spots_dataset
from transect.datasets import check_pixels, load_dataset
from transect.errors import DatasetError
from transect.settings import load_settings
from transect.training.plan import Plan, TrainRequest, make_plan


def _damage(path: Path) -> None:
    """Overwrite some bytes in the middle: the file's beginning, end and length stay."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff\xd9" * 200
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_that_is_damaged_in_the_middle_is_named(make_dataset: MakeDataset, suffix: str) -> None:
    data = make_dataset()
    damaged = [write_image(data.parent / f"images/test/d{number}.{suffix}", 200, 200) for number in range(4)]
    for path in damaged:
        _damage(path)
    split = load_dataset(data).splits["test"]
    seen: list[int] = []
    with pytest.raises(
        DatasetError, match=r"test split has 4 pictures that cannot be used: .*d0.*d2.*1 more"
    ) as caught:
        check_pixels(split, "test", lambda: seen.append(1))
    assert "d3" not in str(caught.value)
    assert len(seen) == len(split.images)


def test_what_was_decided_in_reading_is_said_once_with_a_count(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    for number in range(3):
        path = write_image(data.parent / f"images/train/e{number}.jpg", 64, 48, seed=number)
        path.write_bytes(path.read_bytes()[:-2])
    remarks = check_pixels(load_dataset(data).splits["train"], "train", lambda: None)
    assert len(remarks) == 1
    assert remarks[0].startswith("train: 3 pictures such as ")
    assert "lacks its end marker" in remarks[0]


def _write_deep_tiff(path: Path) -> None:
    """12 bits of RGB in 16, as planes: Pillow cannot open it."""
    samples = np.random.default_rng(1).integers(0, 4096, (3, 24, 40), dtype=np.uint16)
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", width=40, height=24, count=3, dtype="uint16", nbits=12) as file,
    ):
        file.write(samples)


def test_tiffs_that_gdal_alone_reads_belong_to_the_set(make_dataset: MakeDataset) -> None:
    data = make_dataset()
    path = data.parent / "images" / "train" / "deep.tif"
    _write_deep_tiff(path)
    split = load_dataset(data).splits["train"]
    assert dict(zip(split.images, split.sizes, strict=True))[path] == (40, 24)
    remarks = check_pixels(split, "train", lambda: None)
    assert len(remarks) == 1
    assert "the first three are taken" in remarks[0]


def _plan(data: Path, home: Path) -> Plan:
    recipe = home.parent / "recipe.yaml"
    recipe.write_text("train: {imgsz: 64, epochs: 1}\n")
    settings = load_settings({"TRANSECT_HOME": str(home)}, env_file=None)
    return make_plan(TrainRequest("yolo11n", recipe, data), settings)


def test_a_damaged_test_picture_is_refused_before_anything_starts(tmp_path: Path) -> None:
    data = write_spots_dataset(tmp_path / "spots", images=2, size=64)
    _damage(data.parent / "images" / "test" / "1.png")
    with pytest.raises(DatasetError, match=r"test split has a picture that cannot be used: .*1\.png is truncated or"):
        _plan(data, tmp_path / "home")


def test_the_trials_of_a_sweep_decode_the_set_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_spots_dataset(tmp_path / "spots", images=2, size=64, seed=7)
    path = write_image(data.parent / "images/train/e.jpg", 64, 64)
    path.write_bytes(path.read_bytes()[:-2])
    with caplog.at_level(logging.WARNING):
        _plan(data, tmp_path / "home")
        _plan(data, tmp_path / "home")
    assert sum("lacks its end marker" in record.message for record in caplog.records) == 1
