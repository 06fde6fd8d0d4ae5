"""Ultralytics' view of a training set: image paths and class names, and nothing else of the user's data.yaml."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from ultralytics.cfg import get_cfg
from ultralytics.data.utils import check_det_dataset

from tiny_datasets import write_image, write_spots_dataset
from transect.datasets import load_dataset
from transect.imagery import decode_image
from transect.training.trainer.dataset import ValidatedDataset
from transect.training.trainer.handover import write_data_yaml

_CANARY = "canary"
_DOWNLOADS = {
    "python": "import pathlib; pathlib.Path('{canary}').touch()",
    "python block": "|\n  import pathlib\n  pathlib.Path('{canary}').touch()\n",
    "shell": "bash -c 'touch {canary}'",
    "script": "bash {canary}.sh",
    "address": "http://127.0.0.1:9/set.zip",
    "list": "[http://127.0.0.1:9/set.zip, 'bash -c touch {canary}']",
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("root", ["", "path: .\n", "path: ./\n", "path: ../spots\n"])
@pytest.mark.parametrize("download", _DOWNLOADS)
def test_nothing_that_a_stranger_wrote_reaches_ultralytics(
    root: str, download: str, tmp_path: Path, elsewhere: Path
) -> None:
    canary = tmp_path / _CANARY
    data = write_spots_dataset(tmp_path / "spots", images=1, size=32)
    written = _DOWNLOADS[download].format(canary=canary)
    data.write_text(f"{root}{data.read_text()}download: {written}\nautodownload: true\nmasks_dir: m\n")
    handed = write_data_yaml(load_dataset(data), tmp_path / "run")
    assert set(yaml.safe_load(handed.read_text())) == {"path", "train", "val", "names"}
    # As Ultralytics reads it at the end of a training, from wherever it runs.
    seen = check_det_dataset(str(handed))
    assert seen["names"] == {0: "pale", 1: "dark"}
    pictures = data.parent / "images"
    for split, names in (("train", ["0.png", "1.png"]), ("val", ["0.png"])):
        listed = [Path(line) for line in Path(seen[split]).read_text().splitlines()]
        assert all(path.is_absolute() for path in listed)
        assert [path.resolve() for path in listed] == [pictures / split / name for name in names]
    assert not canary.exists()
    assert not list(elsewhere.iterdir())


def _checked(data: Path) -> ValidatedDataset:
    dataset = load_dataset(data)
    return ValidatedDataset(
        dataset.splits["train"],
        data={"names": dict(enumerate(dataset.names)), "nc": len(dataset.names), "channels": 3},
        imgsz=64,
        batch_size=2,
        augment=False,
        hyp=get_cfg(),
        rect=False,
        cache=None,
    )


def _write_kinds(folder: Path) -> None:
    """Pictures that OpenCV and our decoder may read differently, each 64 pixels wide so that nothing is resized."""
    random = np.random.default_rng(3)
    pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(folder / "plain.jpg")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(pixels.transpose(1, 0, 2)).save(folder / "turned.png", exif=turned)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("L").save(folder / "grey.png")
    alpha = picture.copy()
    alpha.putalpha(Image.fromarray(random.integers(0, 255, (48, 64), dtype=np.uint8)))
    alpha.save(folder / "alpha.png")
    alpha.save(folder / "alpha.tif")
    alpha.save(folder / "alpha.webp", lossless=True)
    Image.fromarray(random.integers(0, 65535, (48, 64), dtype=np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(random.integers(0, 65535, (48, 64), dtype=np.uint16)).save(folder / "sixteen.tif")
    picture.save(folder / "lzw.tif", compression="tiff_lzw")
    picture.save(folder / "a.bmp")
    picture.save(folder / "both.mpo", save_all=True, append_images=[picture.rotate(90)])


def test_the_trained_pixels_are_those_that_evaluation_and_serving_see(tmp_path: Path) -> None:
    data = write_spots_dataset(tmp_path / "kinds", images=1, size=32)
    _write_kinds(data.parent / "images" / "train")
    checked = _checked(data)
    assert len(checked.im_files) >= 16
    for number, file in enumerate(checked.im_files):
        image, before, after = checked.load_image(number)
        expected = decode_image(Path(file), max_pixels=None)
        assert before == expected.shape[:2]
        assert max(after) == 64
        if max(before) == 64:
            np.testing.assert_array_equal(image[..., ::-1], expected, err_msg=file)


def test_an_array_beside_a_picture_is_not_taken_for_it(tmp_path: Path) -> None:
    data = write_spots_dataset(tmp_path / "arrays", images=1, size=64)
    picture = write_image(data.parent / "images" / "train" / "0.png", 64, 64, seed=5)
    stale = picture.with_suffix(".npy")
    np.save(stale, np.zeros((64, 64, 3), np.uint8))
    os.utime(stale, (2**31, 2**31))
    image, _, _ = _checked(data).load_image(0)
    np.testing.assert_array_equal(image[..., ::-1], decode_image(picture, max_pixels=None))
    assert stale.is_file()
