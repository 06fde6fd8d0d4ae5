"""Every kind of file that a camera or a person hands in: decoded right, or one clear sentence."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from transect.errors import ImageError
from transect.imagery import decode_image, inspect_picture

LIMIT = 1_000_000


def picture(width: int = 60, height: int = 40) -> NDArray[np.uint8]:
    """A smooth picture whose corners differ: red to the right, green downwards."""
    red = np.linspace(0, 255, width)[None, :].repeat(height, axis=0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    return np.stack([red, green, np.full_like(red, 60)], axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(picture()), kind, **options)
    assert np.array_equal(decode_image(content, max_pixels=LIMIT), picture())


def test_a_jpeg_is_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    path.write_bytes(encoded(Image.fromarray(picture()), "JPEG", quality=95))
    decoded = decode_image(path, max_pixels=LIMIT)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert np.abs(decoded.astype(int) - picture()).mean() < 3


def test_of_several_pictures_the_first_is_taken() -> None:
    first, second = Image.fromarray(picture()), Image.new("RGB", (60, 40))
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.abs(decode_image(content, max_pixels=LIMIT).astype(int) - picture()).mean() < 4


def test_a_png_with_its_exif_behind_the_pixels_has_its_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(picture()), "PNG", exif=exif)
    pixels, block = content.index(b"IDAT") - 4, content.index(b"eXIf") - 4
    end = len(content) - 12
    assert pixels > block
    path = tmp_path / "a.png"
    path.write_bytes(content[:block] + content[pixels:end] + content[block:pixels] + content[end:])
    assert decode_image(path, max_pixels=LIMIT).shape == (60, 40, 3)
    facts = inspect_picture(path)
    assert (facts.width, facts.height) == (40, 60)
    path.write_bytes(encoded(Image.fromarray(picture()), "PNG"))
    assert (inspect_picture(path).width, inspect_picture(path).height) == (60, 40)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    decoded = decode_image(encoded(image, kind), max_pixels=LIMIT)
    assert decoded.shape == (40, 60, 3)
    reference = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decoded.astype(int) - reference).mean() < 2


def test_a_cmyk_jpeg_is_not_inverted() -> None:
    decoded = decode_image(encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95), max_pixels=LIMIT)
    assert np.abs(decoded.astype(int) - picture()).mean() < 4


def test_a_palette_with_transparency_is_read() -> None:
    image = Image.fromarray(picture()).quantize(16)
    content = encoded(image, "PNG", transparency=bytes(range(16)))
    assert decode_image(content, max_pixels=LIMIT).shape == (40, 60, 3)


def test_sixteen_bits_keep_the_high_byte() -> None:
    values = (np.arange(2400).reshape(40, 60) * 27).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        decoded = decode_image(encoded(Image.fromarray(values), kind), max_pixels=LIMIT)
        assert np.array_equal(decoded[:, :, 1], (values >> 8).astype(np.uint8))


def test_floating_point_samples_are_refused() -> None:
    content = encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(ImageError, match="floating-point"):
        decode_image(content, max_pixels=LIMIT)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = Image.fromarray(picture())
    # How a camera held that way stores the upright scene (EXIF 2.32, tag 0x0112).
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    decoded = decode_image(encoded(stored, kind, exif=exif), max_pixels=LIMIT)
    assert decoded.shape == (40, 60, 3)
    assert np.abs(decoded.astype(int) - picture()).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_an_error_and_not_half_a_picture(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "frame.jpg"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"frame\.jpg is") as caught:
        decode_image(path, max_pixels=LIMIT)
    assert "\n" not in str(caught.value)


def test_a_truncated_progressive_jpeg_is_an_error() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), "JPEG", progressive=True)
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode_image(content[: len(content) // 2], max_pixels=LIMIT)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow tells of damage that it reads past
@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]),
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
    value=st.integers(0, 255),
)
def test_damage_never_raises_anything_else(kind: str, places: list[float], value: int) -> None:
    content = bytearray(encoded(Image.fromarray(picture()), kind))
    for place in places:
        content[int(place * len(content))] = value
    try:
        decoded = decode_image(bytes(content), max_pixels=LIMIT)
    except ImageError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"this is a text file", "is not an image"),
        (b"GIF89a" + bytes(20), "is not an image"),
        (b"\xff\xd8\xff", "is (not an image|damaged|truncated)"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"notes\.jpg {message}"):
        decode_image(path, max_pixels=LIMIT)
    with pytest.raises(ImageError, match=rf"upload 3 {message}"):
        decode_image(content, name="upload 3", max_pixels=LIMIT)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        decode_image(tmp_path / "gone.jpg", max_pixels=LIMIT)
    with pytest.raises(ImageError, match="is a folder"):
        decode_image(tmp_path, max_pixels=LIMIT)
    with pytest.raises(ImageError, match="does not exist"):
        decode_image(tmp_path / "a.jpg" / "b.jpg", max_pixels=LIMIT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(picture()), "JPEG"))
    path.chmod(0)
    with pytest.raises(ImageError, match="cannot be read"):
        decode_image(path, max_pixels=LIMIT)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    content = encoded(Image.new("1", (15_000, 15_000)), "PNG")
    assert len(content) < 1_000_000
    with pytest.raises(ImageError, match="15000 x 15000 pixels, more than the limit of 1000000"):
        decode_image(content, max_pixels=LIMIT)
