"""Photos to boxes: large maps in windows, damage listed, nothing looked for twice."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kept_parts import kept_photos
from toy_model import build_toy_package, paint
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.photos import LocalPhoto
from transect.census.sightings import detect
from transect.census.sightings.detect import decoding_workers, parts_below, search_frames
from transect.census.sightings.found import FrameDetections
from transect.engine import DetectOptions, Detector
from transect.imagery import open_raster

pytest.importorskip("rasterio")

SIDE = 320
MARKS = [(1, 1, "red"), (12, 5, "green"), (17, 18, "blue")]
TILES = DetectOptions(tile=64, overlap=16)


def frames(*paths: Path) -> list[Frame]:
    return [
        Frame(
            name=path.name,
            photo=LocalPhoto(path),
            transect=None,
            taken_at=None,
            width=SIDE,
            height=SIDE,
            placement=None,
        )
        for path in paths
    ]


def test_photos_are_decoded_for_what_searches_them() -> None:
    assert decoding_workers(5, "cuda") == decoding_workers(5, "openvino") == 5
    assert decoding_workers("auto", "openvino") == 2
    assert decoding_workers("auto", "cuda") == min(64, max(2, os.cpu_count() or 1))


@pytest.fixture
def in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every TIFF is a large one."""
    monkeypatch.setattr(detect, "open_raster", partial(open_raster, whole_below=1000))


def search(paths: list[Path], tmp_path: Path, package: Path) -> Sequence[FrameDetections]:
    with Detector.open(package) as detector:
        return search_frames(
            frames(*paths),
            detector=detector,
            options=TILES,
            parts=parts_below(tmp_path / "work", detector, TILES),
            workers=2,
            max_pixels=10**6,
        )


def marks(found: FrameDetections) -> set[tuple[int, int, str]]:
    return {
        (round(box[0] / 16), round(box[1] / 16), name) for box, name in zip(found.boxes, found.classes, strict=True)
    }


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return build_toy_package(tmp_path / "package")


@pytest.mark.usefixtures("in_windows")
def test_a_map_in_windows_is_what_a_photo_is(tmp_path: Path, package: Path) -> None:
    image = Image.fromarray(paint(MARKS, SIDE))
    image.save(tmp_path / "map.tif", compression="tiff_deflate")
    image.save(tmp_path / "photo.png")
    in_windows, whole = search([tmp_path / "map.tif", tmp_path / "photo.png"], tmp_path, package)
    assert marks(in_windows) == marks(whole) == set(MARKS)
    assert in_windows.tiles == whole.tiles > 9
    assert (in_windows.width, in_windows.height) == (SIDE, SIDE)
    again = search([tmp_path / "map.tif"], tmp_path, package)[0]
    assert again.reused
    assert marks(again) == set(MARKS)


@pytest.mark.usefixtures("in_windows")
def test_a_map_that_breaks_off_is_a_listed_failure_and_the_rest_goes_on(tmp_path: Path, package: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    # Pillow writes the pixels last: the header is whole, and the rows end half way.
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    Image.fromarray(paint(MARKS, SIDE)).save(tmp_path / "b.tif")
    broken, whole = search([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path, package)
    assert broken.failure.startswith("a.tif is truncated or damaged")
    assert not len(broken.boxes)
    assert marks(whole) == set(MARKS)
    assert broken.sha256 not in {sha256 for sha256, _ in kept_photos(tmp_path / "work")}


def test_a_photo_that_is_gone_is_a_listed_failure(tmp_path: Path, package: Path) -> None:
    assert "a.jpg cannot be read" in search([tmp_path / "a.jpg"], tmp_path, package)[0].failure


def test_a_photo_that_changes_after_its_position_was_read_is_named_and_not_kept(tmp_path: Path, package: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(paint(MARKS, SIDE)).save(path)
    (before,) = frames(path)
    before = replace(before, stamp=LocalPhoto(path).stamp())
    Image.fromarray(paint(MARKS[:1], SIDE)).save(path)
    with Detector.open(package) as detector:
        (found,) = search_frames(
            [before],
            detector=detector,
            options=TILES,
            parts=parts_below(tmp_path / "work", detector, TILES),
            workers=1,
            max_pixels=10**6,
        )
    assert found.failure.startswith("a.png changed while the census ran")
    assert kept_photos(tmp_path / "work") == []


def test_where_nothing_can_be_kept_the_search_ends_with_the_reason(tmp_path: Path, package: Path) -> None:
    Image.fromarray(paint(MARKS, SIDE)).save(tmp_path / "a.png")
    (tmp_path / "work").write_text("a file")
    with pytest.raises(OSError, match="Not a directory"):
        search([tmp_path / "a.png"], tmp_path, package)
