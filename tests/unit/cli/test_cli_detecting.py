"""`transect detect`: a line for each image in its order, and copies that do not overwrite one another."""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toy_model import build_toy_package, paint
from transect.cli import detecting
from transect.cli.detecting import detect_files, find_images
from transect.engine import DetectOptions, Detector
from transect.errors import InputError
from transect.imagery import open_raster

Detect = Callable[..., list[dict[str, object]]]


@pytest.fixture
def detect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Detect]:
    monkeypatch.chdir(tmp_path)
    with Detector.open(build_toy_package(tmp_path / "package")) as detector:

        def run(*images: Path, out: Path | None = Path("out")) -> list[dict[str, object]]:
            lines = list(detect_files(detector, find_images(images), DetectOptions(), out=out, max_pixels=10**6))
            contents = [json.loads(line.text) for line in lines]
            assert [line.failed for line in lines] == [content["failure"] is not None for content in contents]
            return contents

        yield run


def photo(path: Path, column: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(paint([(column, 1, "red")])).save(path)
    return path


def copies(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_photos_of_one_name_keep_their_folders(detect: Detect, tmp_path: Path) -> None:
    first, second = photo(Path("day/one/a.jpg"), 0), photo(Path("day/two/a.jpg"), 3)
    for images in ((first, second), (first.absolute(), second), (Path("day/two/../one/a.jpg"), second)):
        detect(*images, out=tmp_path / "out")
        assert copies(tmp_path / "out") == {"one/a.jpg", "two/a.jpg"}
    with Image.open("out/one/a.jpg") as one, Image.open("out/two/a.jpg") as two:
        assert not np.array_equal(np.asarray(one), np.asarray(two))


def test_copies_of_one_folder_lie_side_by_side(detect: Detect) -> None:
    detect(photo(Path("day/a.jpg"), 0), photo(Path("day/a.png"), 1), photo(Path("day/b.JPEG"), 2))
    assert copies(Path("out")) == {"a.jpg", "a.png.jpg", "b.JPEG"}
    detect(photo(Path("more/a.png"), 0), photo(Path("more/a.png.jpg"), 1), out=Path("other"))
    assert copies(Path("other")) == {"a.png.jpg", "a.png.jpg.jpg"}


def test_lines_come_in_order_and_a_bad_file_is_one_of_them(detect: Detect) -> None:
    images = [photo(Path(f"{k}.png"), k % 4) for k in range(9)]
    images[4].write_text("no picture")
    lines = detect(*images, out=None)
    assert [line["image"] for line in lines] == [str(path) for path in images]
    assert "4.png is not an image" in str(lines[4]["failure"])
    assert all(len(line["detections"]) == 1 for k, line in enumerate(lines) if k != 4)  # type: ignore[arg-type]  # JSON
    assert not Path("out").exists()


def test_a_map_too_large_to_draw_is_searched_and_said(
    detect: Detect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("rasterio")
    monkeypatch.setattr(detecting, "open_raster", partial(open_raster, whole_below=1000))
    with caplog.at_level(logging.WARNING):
        (line,) = detect(photo(Path("map.tif"), 2))
    assert len(line["detections"]) == 1  # type: ignore[arg-type]  # JSON
    assert "map.tif has 64 x 64 pixels, too many to draw" in caplog.text
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written_is_named(detect: Detect) -> None:
    Path("out").write_text("a file")
    with pytest.raises(InputError, match=r"out/a\.jpg cannot be written"):
        detect(photo(Path("a.jpg"), 1))


def test_a_folder_is_searched_to_any_depth_and_nothing_in_it_is_lost_in_silence(
    detect: Detect, caplog: pytest.LogCaptureFixture
) -> None:
    found = [photo(Path("Flug 1/a.jpg"), 0), photo(Path("Flug 1/tief/Bär.JPG"), 1)]
    heic = Path("Flug 1/c.HEIC")
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heic" + bytes(80))
    photo(Path("Flug 1/.Trash-1000/d.jpg"), 2)
    with caplog.at_level(logging.INFO):
        lines = detect(Path("Flug 1"), found[0], out=None)
    assert [line["image"] for line in lines] == [str(found[0]), str(heic), str(found[1])]
    assert [line["failure"] is None for line in lines] == [True, False, True]
    assert "of a kind that is not read (HEIF); convert it" in str(lines[1]["failure"])
    assert "Flug 1: 1 file is left out: 1 in .Trash-1000, a trash folder." in caplog.text
    Path("leer").mkdir()
    with pytest.raises(InputError, match="leer contains no pictures"):
        find_images([Path("leer")])
