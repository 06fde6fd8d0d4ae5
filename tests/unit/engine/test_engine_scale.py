"""Images resampled before they are searched: what is found, where, in how many tiles, and what is read for it.

The dot network finds squares of 8 px that lie on its grid, so that squares of another size are found whole only
where the image was resampled by the right factor, and exactly.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from transect.engine import Boxes, DetectOptions, Detector, ImageResult
from transect.engine.boxes.stitch import stitch
from transect.errors import InputError
from transect.imagery import Raster, Tile, open_raster, resample

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
Dot = tuple[int, int, int]


@pytest.fixture(scope="module")
def dots(dot_package: Path) -> Iterator[Detector]:
    with Detector.open(dot_package, threads=1) as detector:
        yield detector


def field(width: int, height: int, side: int, count: int) -> tuple[NDArray[np.uint8], set[Dot]]:
    """Grey ground with squares of `side` px, no two of them neighbours, as (x, y, class)."""
    rng = np.random.default_rng(side)
    columns, rows = width // side // 2, height // side // 2
    cells = rng.choice(columns * rows, count, replace=False)
    truth = {(int(c % columns) * 2 * side, int(c // columns) * 2 * side, int(rng.integers(3))) for c in cells}
    return painted(width, height, side, truth), truth


def painted(width: int, height: int, side: int, truth: set[Dot]) -> NDArray[np.uint8]:
    image = np.full((height, width, 3), 120, np.uint8)
    for x, y, k in truth:
        image[y : y + side, x : x + side] = COLOURS[k]
    return image


def boxes(result: ImageResult) -> list[tuple[float, ...]]:
    return sorted((*(round(value, 2) for value in one.box), one.class_id) for one in result.detections)


def expected(truth: set[Dot], side: int) -> list[tuple[float, ...]]:
    return sorted((float(x), float(y), float(x + side), float(y + side), k) for x, y, k in truth)


@pytest.mark.parametrize(
    ("scale", "side", "size"),
    [(0.5, 16, (400, 304)), (2.0, 4, (200, 152)), (0.4, 20, (400, 300)), (0.25, 32, (544, 320))],
)
def test_squares_of_another_size_are_found_once_and_exactly_across_tiles(
    dots: Detector, scale: float, side: int, size: tuple[int, int]
) -> None:
    image, truth = field(*size, side, 30)
    options = DetectOptions(tile=64, overlap=16, scale=scale)
    result = dots.detect(image, options=options)
    assert boxes(result) == expected(truth, side)
    assert result.tiles == dots.tile_count(*size, options) > 5
    assert (result.width, result.height) == size
    # Without it, larger squares come apart and smaller ones are not seen.
    plain = dots.detect(image, options=DetectOptions(tile=64, overlap=16))
    assert len(plain.detections) == 0 if scale > 1 else len(plain.detections) > 2 * len(truth)


def test_boxes_are_exact_where_a_tile_is_no_whole_number_of_pixels(dots: Detector) -> None:
    # 64 px of input are 172.97 px of the image; 173 are taken, so that a cell of 8 is 21.625.
    image = painted(173, 173, 22, {(43, 65, 0)})
    (found,) = dots.detect(image, options=DetectOptions(tile=64, scale=0.37)).detections
    assert found.box == pytest.approx((43.25, 64.875, 64.875, 86.5), abs=1e-3)


def test_a_small_image_is_padded_and_not_blown_up_to_the_input(dots: Detector) -> None:
    truth = {(0, 0, 1), (32, 16, 2), (48, 0, 0)}
    result = dots.detect(painted(64, 32, 16, truth), options=DetectOptions(scale=0.5))
    assert boxes(result) == expected(truth, 16)
    assert result.tiles == 1
    small = painted(32, 32, 8, {(8, 16, 1)})
    assert boxes(dots.detect(small, options=DetectOptions(scale=1.0))) == [(8.0, 16.0, 16.0, 24.0, 1)]
    assert len(dots.detect(small).detections) == 4  # at twice the size, since the image fills the input


def test_an_image_just_larger_than_the_input_is_cut_and_not_shrunk(dots: Detector) -> None:
    image, truth = field(160, 160, 16, 12)
    options = DetectOptions(overlap=16, scale=0.5)
    result = dots.detect(image, options=options)
    assert (boxes(result), result.tiles) == (expected(truth, 16), 4)
    assert dots.tile_count(80, 80) == 1


def test_tiles_are_those_of_the_resampled_image_whatever_their_side(dots: Detector) -> None:
    # Half of the pixels, in tiles of 128 that the letterbox halves again.
    image, truth = field(640, 512, 32, 20)
    result = dots.detect(image, options=DetectOptions(tile=128, overlap=32, scale=0.5))
    assert boxes(result) == expected(truth, 32)
    assert result.tiles == dots.tile_count(320, 256, DetectOptions(tile=128, overlap=32))


def test_at_scale_1_the_boxes_are_those_of_the_image_as_it_is(dots: Detector) -> None:
    image, _ = field(400, 304, 8, 60)
    as_it_is = dots.detect(image, options=DetectOptions(tile=64, overlap=16))
    assert dots.detect(image, options=DetectOptions(tile=64, overlap=16, scale=1.0)) == as_it_is
    assert len(as_it_is.detections) == 60


class _Windows(Raster):
    """An image that is not in memory; remembers what was read of it."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        super().__init__(image.shape[1], image.shape[0])
        self.windows: list[tuple[int, int]] = []
        self._image = image

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        self.windows.append((width, height))
        return self._image[y : y + height, x : x + width]


def test_a_raster_is_read_in_windows_of_one_tile(dots: Detector) -> None:
    image, truth = field(1088, 640, 32, 40)
    raster = _Windows(image)
    options = DetectOptions(tile=64, overlap=16, scale=0.25)
    result = dots.detect(raster, options=options)
    assert boxes(result) == expected(truth, 32)
    assert set(raster.windows) == {(256, 256)}
    assert len(raster.windows) == result.tiles == dots.tile_count(272, 160, DetectOptions(tile=64, overlap=16))


def test_a_large_tiff_gives_the_boxes_of_the_same_image_in_memory(dots: Detector, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    image, truth = field(544, 320, 16, 50)
    path = tmp_path / "map.tif"
    profile = {
        "driver": "GTiff", "dtype": "uint8", "width": 544, "height": 320, "count": 3, "photometric": "RGB",
        "tiled": True, "blockxsize": 64, "blockysize": 64, "transform": rasterio.Affine(0.5, 0, 7e5, 0, -0.5, 9e6),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    options = DetectOptions(tile=64, overlap=16, scale=0.5)
    with open_raster(path, max_pixels=64 * 64 * 4, whole_below=1000) as raster:
        assert raster.pixels is None
        windowed = dots.detect(raster, options=options)
    assert windowed.detections == dots.detect(image, options=options).detections
    assert boxes(windowed) == expected(truth, 16)


@pytest.mark.parametrize("scale", [0.13, 0.31, 0.5, 0.77, 1.0, 1.3, 3.7])
@pytest.mark.parametrize("size", [(1, 1), (40, 700), (333, 500)])
def test_a_picture_costs_the_tiles_that_it_was_said_to(dots: Detector, scale: float, size: tuple[int, int]) -> None:
    options = DetectOptions(scale=scale)
    result = dots.detect(painted(*size, 8, set()), options=options)
    assert result.tiles == dots.tile_count(*size, options)
    assert result.detections == ()


def test_shrinking_averages_and_enlarging_stays_sharp() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200  # one column in four: whatever skips columns sees all of it or nothing
    assert np.abs(resample(stripes, 16, 16).astype(int) - 50).max() <= 1
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 255
    row = resample(edge, 32, 32)[4, :, 0].astype(int)
    # The edge stays where it was, steeper than the 64 a pixel of a bilinear one.
    assert (row[:14].max(), row[18:].min()) == (0, 255)
    assert row[15] + row[16] == 255
    assert row[16] - row[15] > 70
    assert resample(edge, 8, 8) is edge


def test_pieces_are_joined_by_pixels_that_were_searched() -> None:
    # At a quarter, the pieces end 1.5 searched pixels before their tiles do, so that each tile cut the object.
    tiles = [Tile(0, 0, 256, 256), Tile(192, 0, 256, 256)]
    pieces = [(150, 100, 250, 140), (198, 100, 350, 140)]
    parts = [
        Boxes(np.array([box], np.float32), np.array([score], np.float32), np.zeros(1, np.int64))
        for box, score in zip(pieces, (0.9, 0.8), strict=True)
    ]
    assert stitch(parts, tiles, 448, 256, 0.25).xyxy.tolist() == [[150, 100, 350, 140]]
    assert stitch(parts, tiles, 448, 256).xyxy.tolist() == [[150, 100, 250, 140]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 0.1}, "scale=0.1 is not usable: give a number from 0.125 to 4"),
        ({"scale": 4.1}, "scale=4.1"),
        ({"scale": float("nan")}, "scale=nan"),
        ({"scale": 0.5, "tile": "off"}, "scale is not usable with tile=off"),
    ],
)
def test_scales_that_cannot_be_meant_are_refused(options: dict[str, float | str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DetectOptions(**options)  # type: ignore[arg-type]
