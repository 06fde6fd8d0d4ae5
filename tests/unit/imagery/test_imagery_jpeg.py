"""TurboJPEG gives Pillow's very pixels, and Pillow has the last word on everything odd."""

import io
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.ExifTags import Base

from transect.errors import ImageError
from transect.imagery import decode_image
from transect.pictures.jpeg import is_whole

LIMIT = 10**7


def scene(width: int, height: int, seed: int) -> Image.Image:
    """Coloured blotches with hard edges, which show every difference of upsampling."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 7 + 1, width // 7 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse.repeat(7, axis=0).repeat(7, axis=1)[:height, :width])


def jpeg(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    # A progressive JPEG has to fit into Pillow's buffer, whose 64 KiB fine blotches at a high quality exceed.
    with patch.object(ImageFile, "MAXBLOCK", 2**20):
        image.save(stream, "JPEG", **options)
    return stream.getvalue()


def pillow(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.fixture
def turbo_calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of TurboJPEG gave pixels."""
    calls: list[bool] = []
    real = simplejpeg.decode_jpeg

    def watched(data: bytes, **options: Any) -> NDArray[np.uint8]:
        calls.append(False)
        pixels: NDArray[np.uint8] = real(data, **options)
        calls[-1] = True
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watched)
    return calls


@settings(max_examples=120, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    seed=st.integers(0, 100),
    mode=st.sampled_from(["RGB", "L"]),
    quality=st.integers(5, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    restart=st.sampled_from([0, 1, 5]),
    keep_rgb=st.booleans(),
    orientation=st.integers(0, 9),
)
def test_pixels_are_those_of_pillow(
    width: int,
    height: int,
    seed: int,
    mode: str,
    quality: int,
    subsampling: int,
    progressive: bool,
    restart: int,
    keep_rgb: bool,
    orientation: int,
) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    keep_rgb = keep_rgb and mode == "RGB" and subsampling == 0
    content = jpeg(
        scene(width, height, seed).convert(mode),
        quality=quality,
        subsampling=subsampling,
        progressive=progressive,
        restart_marker_blocks=restart,
        exif=exif,
        **({"keep_rgb": True} if keep_rgb else {}),
    )
    decoded = decode_image(content, max_pixels=LIMIT)
    assert np.array_equal(decoded, pillow(content))
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_jpegs_go_through_turbo(turbo_calls: list[bool], tmp_path: Path, mode: str) -> None:
    content = jpeg(scene(40, 30, 1).convert(mode))
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert np.array_equal(decode_image(content, max_pixels=LIMIT), decode_image(path, max_pixels=LIMIT))
    assert turbo_calls == [True, True]


def test_cmyk_is_left_to_pillow(turbo_calls: list[bool]) -> None:
    content = jpeg(scene(40, 30, 1).convert("CMYK"))
    assert np.array_equal(decode_image(content, max_pixels=LIMIT), pillow(content))
    assert not turbo_calls


def test_what_turbo_only_warns_of_is_decided_by_pillow(turbo_calls: list[bool]) -> None:
    content = jpeg(scene(80, 60, 1), restart_marker_blocks=2)
    # Bytes between two segments: harmless, and a warning.
    start = content.index(b"\xff\xda")
    odd = content[:start] + b"\0\0\0\0" + content[start:]
    assert np.array_equal(decode_image(odd, max_pixels=LIMIT), pillow(content))
    assert turbo_calls == [False]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_no_truncation_is_accepted(options: dict[str, Any], turbo_calls: list[bool]) -> None:
    content = jpeg(scene(90, 70, 2), quality=90, **options)
    for length in range(len(content) - 39, content.index(b"\xff\xda"), -37):
        with pytest.raises(ImageError, match="truncated or damaged"):
            decode_image(content[:length], max_pixels=LIMIT)
    assert turbo_calls
    assert not any(turbo_calls)


def test_what_follows_the_picture_does_no_harm() -> None:
    content = jpeg(scene(80, 60, 3))
    assert np.array_equal(decode_image(content + b"more" * 500, max_pixels=LIMIT), pillow(content))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow tells of damage that it reads past
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 20),
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    value=st.integers(0, 255),
    progressive=st.booleans(),
)
def test_damage_is_taken_as_pillow_takes_it_unless_rows_are_missing(
    seed: int, places: list[float], value: int, progressive: bool
) -> None:
    content = bytearray(jpeg(scene(64, 48, seed), progressive=progressive))
    for place in places:
        content[int(place * len(content))] = value
    try:
        expected: NDArray[np.uint8] | None = pillow(bytes(content))
    except Exception:  # noqa: BLE001  whatever Pillow raises is a refusal
        expected = None
    try:
        decoded: NDArray[np.uint8] | None = decode_image(bytes(content), max_pixels=LIMIT)
    except ImageError:
        decoded = None
    if decoded is not None and expected is not None:
        assert np.array_equal(decoded, expected)
    elif expected is not None:
        # Pillow shows grey where the decoder met the end, or another marker, before the last row.
        with pytest.raises(ValueError, match=r"[Pp]remature end|[Cc]orrupt|[Uu]nsupported|[Ii]nvalid"):
            simplejpeg.decode_jpeg(bytes(content), strict=True)
    elif decoded is not None:
        # Pillow refuses every file without an end marker.
        assert is_whole(bytes(content))
