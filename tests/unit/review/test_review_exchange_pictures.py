"""The pictures that a reviewer decides by: how much ground they show, how long their scale bar is, which way is up."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transect.errors import ImageError
from transect.imagery import as_raster, decode_image, open_raster
from transect.imagery.raster import Raster
from transect.review.decisions.decision import PixelBox
from transect.review.exchange.outgoing.pictures import bar_length, crop_jpeg, whole

GROUND, ANIMAL = (40, 90, 40), (250, 30, 30)
STRIP = 26


def photo(width: int, height: int, box: PixelBox) -> Raster:
    pixels = np.full((height, width, 3), GROUND, np.uint8)
    x1, y1, x2, y2 = map(round, box)
    pixels[y1:y2, x1:x2] = ANIMAL
    return as_raster(pixels)


def animal_in(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> PixelBox:
    """Where the animal is in a picture."""
    near = np.abs(picture.astype(int) - ANIMAL).max(axis=-1) < 60
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


@pytest.mark.parametrize(
    ("size", "box", "side", "zoom", "place"),
    [
        # Three times the longer side of the box, which stands in the middle.
        ((900, 800), (400, 300, 460, 340), 180, 384 / 180, (60, 70)),
        ((3000, 2500), (1000, 1000, 1200, 1250), 750, 1, (275, 250)),
        # A herd's box is made smaller than it is in the photo.
        ((4000, 4000), (1000, 1500, 2000, 2000), 3000, 1024 / 3000, (1000, 1250)),
        # A small animal is shown in 96 pixels of the photo, four times as large.
        ((900, 800), (400, 300, 410, 306), 96, 4, (43, 45)),
        # At the edge the picture is moved inward.
        ((900, 800), (0, 0, 60, 40), 180, 384 / 180, (0, 0)),
        ((900, 800), (840, 760, 900, 800), 180, 384 / 180, (120, 140)),
    ],
)
def test_a_crop_shows_three_times_the_box(
    size: tuple[int, int], box: PixelBox, side: int, zoom: float, place: tuple[int, int]
) -> None:
    picture = decode_image(crop_jpeg(photo(*size, box), box, None), max_pixels=None)
    assert picture.shape == (round(side * zoom), round(side * zoom), 3)
    left, top = place
    wide, high = box[2] - box[0], box[3] - box[1]
    expected = [zoom * one for one in (left, top, left + wide, top + high)]
    # The outline is one pixel around the animal.
    assert animal_in(picture) == pytest.approx(expected, abs=3)


def test_a_photo_that_is_smaller_than_the_context_is_shown_whole() -> None:
    box = (20.0, 20.0, 60.0, 50.0)
    picture = decode_image(crop_jpeg(photo(100, 80, box), box, None), max_pixels=None)
    assert picture.shape == (round(80 * 3.84), 384, 3)
    assert animal_in(picture) == pytest.approx([3.84 * one for one in box], abs=3)


@pytest.mark.parametrize(
    ("box", "gsd_m", "length_m"),
    [
        ((400, 300, 460, 340), 0.05, 2.0),
        ((400, 300, 410, 306), 0.012, 0.2),
        ((100, 100, 400, 300), 0.25, 50.0),
    ],
)
def test_the_bar_is_as_long_on_the_ground_as_it_says(box: PixelBox, gsd_m: float, length_m: float) -> None:
    raster = photo(2000, 1600, box)
    plain = decode_image(crop_jpeg(raster, box, None), max_pixels=None)
    picture = decode_image(crop_jpeg(raster, box, gsd_m), max_pixels=None)
    high, wide = plain.shape[:2]
    assert picture.shape == (high + STRIP, wide, 3)
    # The animal stays uncovered.
    assert np.abs(picture[: high - 8].astype(int) - plain[: high - 8]).max() < 40
    assert bar_length(gsd_m * 3 * max(box[2] - box[0], box[3] - box[1], 32) / 3) == length_m
    dark = np.flatnonzero(picture[high + 12 : high + 14].mean(axis=(0, 2)) < 60)
    ends = np.flatnonzero(np.diff(dark) > 1)
    bar = dark[: ends[0] + 1] if ends.size else dark
    side = max(96, 3 * max(box[2] - box[0], box[3] - box[1]))
    assert (bar.max() - bar.min()) * gsd_m * side / wide == pytest.approx(length_m, rel=0.04)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_is_upright_whatever_the_camera_stored(tmp_path: Path, orientation: int) -> None:
    # As it is seen; the census' box is in these pixels.
    box = (30.0, 200.0, 60.0, 220.0)
    seen = photo(200, 300, box).read(0, 0, 200, 300)
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.transpose(1, 0, 2),
        6: np.rot90(seen),
        7: seen[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(seen, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    with open_raster(tmp_path / "a.png", max_pixels=None) as raster:
        picture = decode_image(crop_jpeg(raster, box, None), max_pixels=None)
    # 96 pixels from (0, 162), four times as large.
    assert animal_in(picture) == pytest.approx((120, 152, 240, 232), abs=3)


def test_what_no_picture_file_holds_is_not_handed_out_whole() -> None:
    raster = as_raster(np.zeros((1, 70_000, 3), np.uint8))
    with pytest.raises(ImageError, match=r"map\.tif has 70000 x 1 pixels, too many for one picture file"):
        whole(raster, "map.tif")
