"""Five hundred TIFFs that a generator made, read whole, from bytes and in windows, against the samples in them."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from transect.errors import ImageError
from transect.imagery import Rendering, decode_image, inspect_picture, open_raster

_FILES = 500
_PART = 50
_LOSSLESS = ("none", "lzw", "deflate", "packbits", "zstd", "lerc_deflate")


@dataclass(frozen=True)
class _Made:
    """A TIFF of shape (bands, H, W) and what may be seen in it: None where one sentence is the right answer."""

    samples: NDArray[Any]
    options: dict[str, Any]
    seen: NDArray[np.uint8] | None


def _made(seed: int) -> _Made:
    random = np.random.default_rng(seed)
    bands = int(random.integers(1, 6))
    height, width = (int(side) for side in random.integers(17, 70, 2))
    kind = str(random.choice(["uint8", "uint8", "uint16", "uint16", "float32", "int16"]))
    options: dict[str, Any] = {
        "interleave": str(random.choice(["pixel", "band"])),
        "compress": str(random.choice(_LOSSLESS)),
        "bigtiff": str(random.choice(["yes", "no"])),
        "endianness": str(random.choice(["little", "big"])),
    }
    if random.random() < 0.5:
        options |= {"tiled": True, "blockxsize": 16 * int(random.integers(1, 4)), "blockysize": 32}
    else:
        options["blockysize"] = int(random.integers(1, 40))
    photometric = str(random.choice(["minisblack", "rgb"])) if bands >= 3 else "minisblack"
    if bands == 1 and kind == "uint8" and random.random() < 0.3:
        photometric = "miniswhite"
    options["photometric"] = photometric
    bits = 8
    if kind == "uint16":
        bits = int(random.integers(9, 17))
        if bits < 16 and random.random() < 0.5 and "lerc" not in options["compress"]:
            options["nbits"] = bits
    if kind in ("float32", "int16"):
        samples = (random.random((bands, height, width)) * 1000).astype(kind)
        return _Made(samples, options, None)
    samples = random.integers(0, 1 << bits, (bands, height, width)).astype(kind)
    samples[:, :2, :2] = (1 << bits) - 1  # the depth is that of the largest sample
    if bands == 5 and photometric != "rgb":
        return _Made(samples, options, None)
    shown = (samples >> (bits - 8)).astype(np.uint8)
    if photometric == "miniswhite":
        shown = np.asarray(255 - shown, np.uint8)
    colours = shown[:3] if bands >= 3 else np.repeat(shown[:1], 3, axis=0)
    return _Made(samples, options, colours.transpose(1, 2, 0))


def _write(path: Path, made: _Made) -> None:
    count, height, width = made.samples.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        options = {"height": height, "width": width, "count": count, "dtype": made.samples.dtype.name}
        with rasterio.open(path, "w", driver="GTiff", **options, **made.options) as dataset:
            dataset.write(made.samples)


@pytest.mark.parametrize("first", range(0, _FILES, _PART))
def test_made_tiffs_are_seen_as_they_were_made_or_refused_with_a_sentence(first: int, tmp_path: Path) -> None:
    seen = 0
    for seed in range(first, first + _PART):
        made = _made(seed)
        path = tmp_path / f"{seed}.tif"
        _write(path, made)
        told = f"{seed}: {made.options}, {made.samples.dtype} {made.samples.shape}"
        if made.seen is None:
            for read in (lambda one: decode_image(one, max_pixels=None), inspect_picture):
                with pytest.raises(ImageError, match=r"export it as|bands: \[3, 2, 1\]"):
                    read(path)
            continue
        seen += 1
        np.testing.assert_array_equal(decode_image(path, max_pixels=None), made.seen, err_msg=told)
        np.testing.assert_array_equal(decode_image(path.read_bytes(), max_pixels=None), made.seen, err_msg=told)
        with open_raster(path, max_pixels=None, whole_below=0) as raster:
            assert raster.pixels is None
            height, width = raster.height, raster.width
            window = raster.read(width // 3, height // 3, width // 2, height // 2)
        expected = made.seen[height // 3 : height // 3 + height // 2, width // 3 : width // 3 + width // 2]
        np.testing.assert_array_equal(window, expected, err_msg=told)
        facts = inspect_picture(path)
        assert (facts.width, facts.height) == (made.seen.shape[1], made.seen.shape[0])
    assert seen > _PART // 4


def test_bands_that_a_file_does_not_name_can_be_asked_for(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(0, 256, (5, 20, 30), dtype=np.uint8)
    path = tmp_path / "five.tif"
    _write(path, _Made(samples, {"photometric": "minisblack", "interleave": "band", "compress": "lzw"}, None))
    with pytest.raises(ImageError, match=r"five.tif has 5 bands and none is named a colour; .*`bands: \[3, 2, 1\]`"):
        open_raster(path, max_pixels=None)
    with open_raster(path, max_pixels=None, rendering=Rendering((5, 3, 1))) as raster:
        np.testing.assert_array_equal(raster.read(0, 0, 30, 20), samples[[4, 2, 0]].transpose(1, 2, 0))
    with open_raster(path, max_pixels=None, rendering=Rendering((4,))) as raster:
        np.testing.assert_array_equal(raster.read(0, 0, 30, 20)[:, :, 1], samples[3])
    with pytest.raises(ImageError, match="has 5 bands, and band 6 was asked for"):
        open_raster(path, max_pixels=None, rendering=Rendering((6, 1, 2)))


@pytest.mark.parametrize("how", ["descriptions", "interpretation"])
def test_colours_are_found_by_the_names_of_bands(tmp_path: Path, how: str) -> None:
    samples = np.random.default_rng(2).integers(0, 256, (5, 20, 30), dtype=np.uint8)
    path = tmp_path / "named.tif"
    _write(path, _Made(samples, {"photometric": "minisblack"}, None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as dataset:
            if how == "descriptions":
                dataset.descriptions = ("Blue", "Green", "Red", "Red edge", "NIR")
            else:
                other = ColorInterp.undefined
                dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, other, other)
    np.testing.assert_array_equal(decode_image(path, max_pixels=None), samples[[2, 1, 0]].transpose(1, 2, 0))


def test_a_16_bit_map_of_12_bits_is_not_black_and_has_a_remark(tmp_path: Path) -> None:
    samples = np.random.default_rng(3).integers(0, 4096, (3, 40, 40)).astype(np.uint16)
    path = tmp_path / "twelve.tif"
    _write(path, _Made(samples, {"photometric": "rgb", "interleave": "band"}, None))
    with open_raster(path, max_pixels=None) as raster:
        assert 120 < raster.read(0, 0, 40, 40).mean() < 135
        assert any("12 bits" in remark for remark in raster.remarks)
    assert inspect_picture(path).depth == 12
