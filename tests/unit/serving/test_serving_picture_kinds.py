"""The service and `transect detect` find the same animals in every kind of picture that is read."""

import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from serving_app import BOTH, OneModel, assert_problem, dots, found, raw, running, settings_of
from transect.cli.detecting import detect_files, find_images
from transect.engine import DetectOptions, Detector
from transect.serving import create_app


@pytest.fixture(scope="module")
def client(dot_package: Path) -> Iterator[httpx.Client]:
    with running(create_app(settings_of(), OneModel(dot_package))) as client:
        yield client


def _tiff(bands: int = 3, bits: int = 8, **options: Any) -> bytes:
    """The dots, and a bright last band where there are more than three."""
    samples: np.ndarray = dots().transpose(2, 0, 1).astype(np.uint16)
    samples = np.concatenate([samples, np.full((bands - 3, 64, 64), 255, np.uint16)])
    samples = samples << (bits - 8) | samples >> max(16 - bits, 0) if bits > 8 else samples
    samples = samples.astype(np.uint8 if bits == 8 else np.uint16)
    shape = {"width": 64, "height": 64, "count": bands, "dtype": samples.dtype.name}
    with warnings.catch_warnings(), MemoryFile() as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(driver="GTiff", **shape, **options) as dataset:
            dataset.write(samples)
        return bytes(file.read())


def _pillow(name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(dots()).save(stream, name, **options)
    return stream.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "planar, not marked RGB": lambda: _tiff(interleave="band", photometric="minisblack", compress="lzw"),
    "planar of 16 bits": lambda: _tiff(bits=16, interleave="band", photometric="rgb"),
    "12 of 16 bits": lambda: _tiff(bits=12, photometric="rgb", compress="deflate"),
    "12 bits by NBITS": lambda: _tiff(bits=12, photometric="rgb", nbits=12),
    "RGBN of 16 bits": lambda: _tiff(4, bits=16, photometric="rgb", tiled=True, blockxsize=32, blockysize=32),
    "four bands without names": lambda: _tiff(4, photometric="minisblack"),
    "BigTIFF": lambda: _tiff(bigtiff="yes", photometric="rgb", endianness="big"),
    "LERC": lambda: _tiff(photometric="rgb", compress="lerc"),
    "WebP in TIFF": lambda: _tiff(photometric="rgb", compress="webp", webp_lossless=True),
    "WebP": lambda: _pillow("WEBP", lossless=True),
    "JPEG 2000": lambda: _pillow("JPEG2000"),
    "BMP": lambda: _pillow("BMP"),
    "GIF": lambda: _pillow("GIF"),
    "JPEG without its end marker": lambda: _pillow("JPEG", quality=95, subsampling=0)[:-2],
}


# Remarks on decisions that the file leaves open.
REMARKED = {
    "planar, not marked RGB": "which of its 3 bands",
    "12 of 16 bits": "12 bits",
    "four bands without names": "which of its 4 bands",
    "JPEG without its end marker": "end marker",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_searched_in_its_colours(
    kind: str, client: httpx.Client, dot_package: Path, tmp_path: Path
) -> None:
    content = KINDS[kind]()
    answer = raw(client, content)
    assert answer.status_code == 200, answer.text
    assert found(answer.json()) == BOTH
    assert any(REMARKED.get(kind, "") in one for one in answer.json()["remarks"]) == (kind in REMARKED)
    path = tmp_path / "ohne Endung"
    path.write_bytes(content)
    with Detector.open(dot_package, threads=1) as detector:
        (line,) = detect_files(detector, find_images([path]), DetectOptions(), out=None, max_pixels=10**6)
    assert found(json.loads(line.text)) == BOTH
    assert json.loads(line.text)["remarks"] == answer.json()["remarks"]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (lambda: _tiff(5, photometric="minisblack"), "has 5 bands and none is named a colour"),
        (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "of a kind that is not read (HEIF); convert it"),
        (lambda: _pillow("JPEG")[:-20], "is truncated or damaged"),
    ],
)
def test_an_unreadable_kind_is_refused_with_the_remedy(
    content: Callable[[], bytes], detail: str, client: httpx.Client
) -> None:
    answer = raw(client, content())
    problem = assert_problem(answer, answer.status_code, answer.json()["type"].rpartition(":")[2])
    assert 400 <= answer.status_code < 500
    assert detail in problem["detail"]
