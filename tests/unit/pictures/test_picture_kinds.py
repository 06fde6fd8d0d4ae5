"""The table of picture kinds: by content first, by name as a fallback."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transect.errors import ImageError
from transect.imagery import IMAGE_SUFFIXES, decode_image
from transect.pictures.kinds import (
    AVIF,
    BMP,
    DNG,
    FILM,
    GIF,
    HEAD_BYTES,
    HEIF,
    JPEG,
    JPEG_2000,
    OTHER_KINDS,
    PNG,
    RAW,
    READ_KINDS,
    READ_SUFFIXES,
    TIFF,
    WEBP,
    PictureKind,
    kind_of,
    kind_of_content,
    kind_of_file,
    kind_of_stream,
    kind_of_suffix,
)

WRITTEN = {
    "JPEG": JPEG, "MPO": JPEG, "PNG": PNG, "TIFF": TIFF, "BMP": BMP, "DIB": None, "WEBP": WEBP, "JPEG2000": JPEG_2000,
    "GIF": GIF, "AVIF": AVIF,
}  # fmt: skip


def encoded(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), (200, 120, 40), np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "expected"), WRITTEN.items())
def test_the_content_tells_the_kind_and_the_decoder_agrees(kind: str, expected: PictureKind | None) -> None:
    content = encoded(kind, save_all=True) if kind == "MPO" else encoded(kind)
    assert kind_of_content(content[:HEAD_BYTES]) == expected
    if expected is not None:
        decoded = decode_image(content, max_pixels=10_000)
        assert decoded.shape == (20, 30, 3)
        assert np.abs(decoded.astype(int) - (200, 120, 40)).max() < 8


def test_a_code_stream_and_a_big_tiff_are_known() -> None:
    assert kind_of_content(encoded("JPEG2000", no_jp2=True)[:HEAD_BYTES]) == JPEG_2000
    assert kind_of_content(encoded("TIFF", big_tiff=True)[:HEAD_BYTES]) == TIFF


def test_no_suffix_belongs_to_two_kinds() -> None:
    suffixes = [suffix for kind in READ_KINDS + OTHER_KINDS for suffix in kind.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert IMAGE_SUFFIXES == READ_SUFFIXES
    assert {".jpe", ".jfif", ".mpo", ".jp2", ".webp", ".bmp"} <= READ_SUFFIXES


def brand(name: bytes, *compatible: bytes) -> bytes:
    size = 16 + 4 * len(compatible)
    return size.to_bytes(4, "big") + b"ftyp" + name + bytes(4) + b"".join(compatible) + b"mdat" + bytes(30)


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("IMG_1.HEIC", brand(b"heic", b"mif1", b"heic"), HEIF),
        ("IMG_1.jpg", brand(b"mif1", b"heic"), HEIF),  # a phone's picture that was renamed
        ("a.heic", brand(b"mif1", b"avif"), AVIF),
        ("a.cr3", brand(b"crx ", b"isom"), RAW),
        ("a.mp4", brand(b"isom", b"mp41"), FILM),
        ("a.DNG", b"II*\0\x08\0\0\0", DNG),
        ("a.NEF", b"MM\0*\0\0\0\x08", RAW),
        ("a.cr2", b"II*\0\x10\0\0\0CR\x02\0", RAW),
        ("a.tif", b"II*\0\x10\0\0\0CR\x02\0", RAW),
        ("a", b"\xff\xd8\xff\xe1", JPEG),
        ("a.txt", b"\xff\xd8\xff\xe1", JPEG),
        ("a.jpg", b"", JPEG),  # damaged
        ("a.jpg", b"this is a text", JPEG),
        ("notes.txt", b"BM is how this text begins, and it is no picture", None),
        ("notes.txt", b"", None),
        ("flights.csv", b"image,lat,lon", None),
    ],
)
def test_content_wins_and_the_name_helps(name: str, head: bytes, expected: PictureKind | None, tmp_path: Path) -> None:
    assert kind_of(name, head[:HEAD_BYTES]) == expected
    path = tmp_path / name
    path.write_bytes(head)
    assert kind_of_file(path) == expected


def test_an_unsupported_kind_has_conversion_advice() -> None:
    for kind in OTHER_KINDS:
        assert not kind.read
        assert all(kind_of_suffix(f"A{suffix.upper()}") == kind for suffix in kind.suffixes)
        sentence = kind.refusal("images/a")
        assert sentence.startswith("images/a is of a kind that is not read")
        assert sentence.endswith(".")
        assert kind.name in sentence
    assert HEIF.refusal("a.heic").startswith("a.heic is of a kind that is not read (HEIF); convert it to JPEG")
    assert all(kind.read for kind in READ_KINDS)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_dng_is_no_tiff_under_any_name(tmp_path: Path, order: str) -> None:
    start = b"II*\0" if order == "<" else b"MM\0*"
    tags = struct.pack(f"{order}HHII", 0x0100, 4, 1, 8) + struct.pack(f"{order}HHI", 0xC612, 1, 4) + b"\1\4\0\0"
    content = start + struct.pack(f"{order}IH", 8, 2) + tags + bytes(4)
    for name in ("DJI_1.tif", "DJI_1", "DJI_1.jpg"):
        (tmp_path / name).write_bytes(content)
        assert kind_of_file(tmp_path / name) is DNG
        with pytest.raises(ImageError, match=r"is of a kind that is not read \(DNG\); develop it"):
            decode_image(tmp_path / name, max_pixels=None)
    with pytest.raises(ImageError, match="git lfs pull"):
        decode_image(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", name="a.jpg", max_pixels=None)


def test_a_tiff_that_ends_early_is_asked_for_its_tags_all_the_same() -> None:
    whole = encoded("TIFF")
    for length in range(8, len(whole), 7):
        assert kind_of_stream("a.tif", io.BytesIO(whole[:length])) is TIFF
