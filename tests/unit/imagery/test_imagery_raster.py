"""Windows of large TIFFs are the pixels that decoding the whole file gives, whatever is inside it."""

import io
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from transect.errors import ImageError, ImageTooLargeError, InputError
from transect.imagery import Raster, Rendering, as_raster, decode_image, open_raster
from transect.imagery.orientation import upright
from transect.imagery.tiff.tags import TiffTags

rasterio = pytest.importorskip("rasterio")

LIMIT = 10**7
WIDTH, HEIGHT = 150, 110


def scene(width: int = WIDTH, height: int = HEIGHT, bands: int = 3, dtype: str = "uint8") -> NDArray[Any]:
    rng = np.random.default_rng(4)
    top = np.iinfo(dtype).max
    return rng.integers(0, top, (height, width, bands), dtype=dtype, endpoint=True)


def write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """A GeoTIFF of (H, W, bands) pixels, by GDAL."""
    height, width, bands = pixels.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": pixels.dtype} | options
    place = rasterio.Affine(1e-6, 0.0, 34.0, 0.0, -1e-6, -2.0)
    with rasterio.open(path, "w", **profile, crs="EPSG:4326", transform=place) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def assembled(raster: Raster, side: int = 48) -> NDArray[np.uint8]:
    """The whole image from windows of `side`."""
    whole = np.zeros((raster.height, raster.width, 3), np.uint8)
    across, down = ([*range(0, length, side), length] for length in (raster.width, raster.height))
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            window = raster.read(left, top, right - left, bottom - top)
            assert window.dtype == np.uint8
            whole[top:bottom, left:right] = window
    return whole


def windowed(source: Path | bytes) -> NDArray[np.uint8]:
    """Read in windows, by setting the limit for that low."""
    with open_raster(source, max_pixels=LIMIT, whole_below=1000) as raster:
        assert raster.pixels is None
        return assembled(raster)


@pytest.mark.parametrize("source", ["path", "bytes"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compress": "deflate"},
        {"compress": "lzw", "predictor": 2, "blockysize": 7},
        {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate"},
        {"interleave": "band"},
        {"interleave": "band", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "lzw"},
        {"BIGTIFF": "YES"},
        {"ENDIANNESS": "BIG", "tiled": True, "blockxsize": 32, "blockysize": 32},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_every_layout_gives_its_pixels(tmp_path: Path, options: dict[str, Any], source: str) -> None:
    path = write(tmp_path / "a.tif", scene(), photometric="rgb", **options)
    assert np.array_equal(windowed(path if source == "path" else path.read_bytes()), scene())


def test_a_jpeg_inside_is_read(tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(scene(15, 11)).resize((WIDTH, HEIGHT)))
    path = write(
        tmp_path / "a.tif", smooth, compress="jpeg", photometric="ycbcr", tiled=True, blockxsize=64, blockysize=64
    )
    # They differ in how they fill in the colours that JPEG thins out.
    assert np.abs(windowed(path).astype(int) - decode_image(path, max_pixels=LIMIT)).mean() < 3


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "RGBX"])
def test_every_kind_of_sample_is_what_decoding_gives(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    if mode == "I;16":
        Image.fromarray(scene(bands=1, dtype="uint16")[:, :, 0]).save(path)
    elif mode == "RGBX":
        write(path, scene(bands=4), photometric="rgb", alpha="unspecified")
    else:
        Image.fromarray(scene()).convert(mode).save(path)
    whole = decode_image(path, max_pixels=LIMIT)
    assert np.abs(windowed(path).astype(int) - whole).max() <= (1 if mode == "CMYK" else 0)


def test_sixteen_bit_colour_keeps_the_high_byte(tmp_path: Path) -> None:
    pixels = scene(dtype="uint16")
    for interleave in ("pixel", "band"):
        path = write(tmp_path / f"{interleave}.tif", pixels, photometric="rgb", interleave=interleave)
        assert np.array_equal(windowed(path), (pixels >> 8).astype(np.uint8))


def test_white_may_be_zero(tmp_path: Path) -> None:
    for dtype in ("uint8", "uint16"):
        pixels = scene(bands=1, dtype=dtype)
        path = write(tmp_path / f"{dtype}.tif", pixels, photometric="miniswhite")
        high = (pixels >> (8 if dtype == "uint16" else 0)).astype(np.uint8)
        assert np.array_equal(windowed(path), np.repeat(255 - high, 3, axis=2))


def test_twelve_bits_are_scaled(tmp_path: Path) -> None:
    pixels = scene(dtype="uint16") >> 4
    path = write(tmp_path / "a.tif", pixels, photometric="rgb", NBITS=12)
    assert np.array_equal(windowed(path), (pixels >> 4).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_windows(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    path = tmp_path / "a.tif"
    Image.fromarray(scene()).save(path, exif=exif)
    whole = decode_image(path, max_pixels=LIMIT)
    assert whole.shape[:2] == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))
    assert np.array_equal(windowed(path), whole)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), orientation=st.integers(1, 8))
def test_any_window_is_its_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, orientation: int
) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    path = tmp_path_factory.mktemp("any") / "a.tif"
    Image.fromarray(scene(40, 30)).save(path, exif=exif)
    whole = decode_image(path, max_pixels=LIMIT)
    height, width = whole.shape[:2]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    across, down = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    with open_raster(path, max_pixels=LIMIT, whole_below=10) as raster:
        assert np.array_equal(raster.read(x, y, across, down), whole[y : y + down, x : x + across])


class Watched:
    """A dataset that remembers which windows were read from it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.windows: list[Any] = []

    def read(self, bands: list[int], window: Any, out: NDArray[Any]) -> None:
        self.windows.append(window)
        self.dataset.read(bands, window=window, out=out)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize(
    "options",
    [{"blockysize": 7}, {"tiled": True, "blockxsize": 32, "blockysize": 16}],
    ids=["strips", "tiles"],
)
@pytest.mark.parametrize("band_bytes", [1, 9_000, 20_000, 10**6])
def test_the_band_that_is_kept_changes_no_pixel_and_saves_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], orientation: int, band_bytes: int
) -> None:
    from transect.imagery.tiff import windows

    monkeypatch.setattr(windows, "_BAND_BYTES", band_bytes)
    path = write(tmp_path / "a.tif", scene(), photometric="rgb", compress="deflate", **options)
    with windows.WindowedTiff(
        path, "a.tif", TiffTags(width=WIDTH, height=HEIGHT, orientation=orientation), None, Rendering()
    ) as raster:
        watched = raster._dataset = Watched(raster._dataset)
        starts_across, starts_down = (
            [*range(0, length - 40, 30), length - 40] for length in (raster.width, raster.height)
        )
        turned = upright(scene(), orientation)
        for y in starts_down:
            for x in starts_across:
                assert np.array_equal(raster.read(x, y, 40, 40), turned[y : y + 40, x : x + 40])
    read = sum(window.width * window.height for window in watched.windows)
    if band_bytes == 10**6:
        assert read == WIDTH * HEIGHT  # no pixel twice, although windows overlap
        if orientation == 1:  # and no block in two parts
            ends = {window.row_off + window.height for window in watched.windows}
            assert all(end % options["blockysize"] == 0 or end == HEIGHT for end in ends)
    else:
        assert read <= 40 * 40 * len(starts_across) * len(starts_down) * (1 if band_bytes == 1 else 4)


def test_small_tiffs_and_other_formats_are_decoded_whole(tmp_path: Path) -> None:
    small = write(tmp_path / "a.tif", scene(), photometric="rgb")
    Image.fromarray(scene()).save(tmp_path / "a.png")
    for path, whole_below in ((small, WIDTH * HEIGHT), (tmp_path / "a.png", 1000)):
        with open_raster(path, max_pixels=LIMIT, whole_below=whole_below) as raster:
            assert raster.pixels is not None
            assert np.array_equal(raster.pixels, scene())
            assert np.array_equal(assembled(raster), scene())
            assert (raster.width, raster.height) == (WIDTH, HEIGHT)


def test_a_limit_holds_for_what_is_decoded_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", scene(), photometric="rgb")
    with pytest.raises(ImageTooLargeError, match="150 x 110 pixels, more than the limit of 5000"):
        open_raster(path, max_pixels=5000)
    with open_raster(path, max_pixels=5000, whole_below=2000) as raster:
        assert raster.read(0, 0, 50, 100).shape == (100, 50, 3)
        with pytest.raises(ImageTooLargeError, match="smaller tiles"):
            raster.read(0, 0, 51, 100)


@pytest.mark.parametrize("name", ["s3:a.tif", "a#b.tif", "a?b.tif", "zip+file:a!b.tif", "häuser 1.tif", "-a.tif"])
def test_names_are_names_and_not_addresses(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "plain.tif", scene(), photometric="rgb").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(windowed(Path(name)), scene())


def test_files_beside_it_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", scene(), photometric="rgb")
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset><Metadata><MDI key='x'>y</MDI></Metadata></PAMDataset>")
    (tmp_path / "a.tif.msk").write_bytes(b"not a mask")
    (tmp_path / "a.tif.ovr").write_bytes(b"not an overview")
    assert np.array_equal(windowed(path), scene())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml", "a.tif.msk", "a.tif.ovr"]


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 32}, {"blockysize": 3}])
@pytest.mark.parametrize("compress", ["none", "deflate", "lzw", "jpeg"])
def test_a_truncated_file_is_one_sentence_and_never_half_a_picture(
    tmp_path: Path, options: dict[str, Any], compress: str
) -> None:
    if compress == "jpeg" and options == {"blockysize": 3}:
        options = {"blockysize": 16}
    path = write(tmp_path / "a.tif", scene(), photometric="rgb", compress=compress, **options)
    content = path.read_bytes()
    for share in (0.05, 0.5, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        for source in (path, path.read_bytes()):
            with pytest.raises(ImageError) as caught:
                windowed(source)
            assert "\n" not in str(caught.value)
            assert str(caught.value).startswith(str(path) if source is path else "The image")


def test_damage_inside_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", scene(), photometric="rgb", compress="deflate", blockysize=8)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.tif is truncated or damaged"):
        windowed(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write(path, scene().astype(np.float32)), "floating-point samples"),
        (lambda path: write(path, scene().astype(np.int32)), "samples of type int32"),
        (lambda path: write(path, scene(bands=5)), "5 bands"),
        (lambda path: path.write_bytes(b"II*\0" + bytes(3000)), "is truncated or damaged"),
        (lambda path: path.write_bytes(b"II*\0"), "is truncated or damaged"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "map.tif"
    make(path)
    with pytest.raises(ImageError, match=message):
        windowed(path)
    with pytest.raises(ImageError, match=rf"frame 7 .*{message}"):
        open_raster(path, name="frame 7", max_pixels=LIMIT, whole_below=1000)


def test_bands_beyond_colour_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", scene(bands=6))
    with rasterio.open(path, "r+") as file:
        kinds = rasterio.enums.ColorInterp
        file.colorinterp = [kinds.undefined, kinds.blue, kinds.green, kinds.red, kinds.undefined, kinds.alpha]
    expected = scene(bands=6)[:, :, [3, 2, 1]]
    assert np.array_equal(windowed(path), expected)
    assert np.array_equal(decode_image(path, max_pixels=LIMIT), expected)
    with open_raster(path, max_pixels=LIMIT) as raster:
        assert raster.pixels is not None
        assert np.array_equal(raster.pixels, expected)


def test_one_enormous_block_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transect.imagery.tiff import windows

    monkeypatch.setattr(windows, "_LARGEST_BLOCK_BYTES", 5000)
    monkeypatch.setattr(windows, "_LARGEST_WHOLE_BYTES", 5000)
    path = write(tmp_path / "a.tif", scene(), photometric="rgb", compress="deflate", blockysize=HEIGHT // 2)
    with pytest.raises(ImageError, match=r"blocks of 150 x 55 pixels.*gdal_translate"):
        windowed(path)


def test_without_rasterio_the_limit_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", scene(), photometric="rgb")
    monkeypatch.delitem(sys.modules, "transect.imagery.tiff.windows", raising=False)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with open_raster(path, max_pixels=LIMIT, whole_below=1000) as raster:
        assert raster.pixels is not None
    with pytest.raises(ImageError, match="read with rasterio, which is not installed: pip install rasterio"):
        open_raster(path, max_pixels=5000, whole_below=1000)


def test_an_array_is_a_raster() -> None:
    raster = as_raster(scene())
    assert as_raster(raster) is raster
    assert np.shares_memory(raster.read(3, 4, 20, 10), raster.pixels)
    with pytest.raises(InputError, match="shape"):
        as_raster(scene(bands=4))


def test_a_raster_may_be_closed_twice(tmp_path: Path) -> None:
    raster = open_raster(write(tmp_path / "a.tif", scene(), photometric="rgb"), max_pixels=LIMIT, whole_below=1000)
    raster.close()
    raster.close()
    with pytest.raises(ImageError):
        raster.read(0, 0, 5, 5)


def test_bytes_of_any_kind_are_read() -> None:
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "TIFF")
    assert np.array_equal(windowed(stream.getvalue()), scene())
