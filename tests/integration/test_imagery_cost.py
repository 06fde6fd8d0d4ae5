"""What opening a picture holds, by its header, against what a process grows by."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from transect.imagery import UNKNOWN_COST_BYTES, WHOLE_BELOW, picture_cost

SIDE = 2000

GROWTH = """
import io, sys
from PIL import Image
from transect.imagery import open_raster
def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
path = sys.argv[1]
small = io.BytesIO()
Image.open(path).crop((0, 0, 64, 64)).save(small, sys.argv[2])
open_raster(small.getvalue(), max_pixels=None).close()
with open(path, "rb") as stream:
    data = stream.read()
open("/proc/self/clear_refs", "w").write("5")
before = peak()
raster = open_raster(data, max_pixels=None)
print(peak() - before)
"""


def picture() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE))


def deep(bands: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint16]]":
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    return grey if bands == 1 else np.dstack([grey] * bands)


def write(kind: str, folder: Path) -> tuple[Path, str]:
    """A picture of the kind, and Pillow's name of its format."""
    name, _, mode = kind.partition(" ")
    path = folder / f"picture.{name}"
    if mode.startswith("16"):
        cv2.imwrite(str(path), deep(int(mode[-1])))
    else:
        picture().convert(mode or "RGB").save(path)
    return path, {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP", "jp2": "JPEG2000"}[name]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "kind",
    ["jpg", "jpg CMYK", "png", "png L", "png LA", "png RGBA", "png P", "png 16x1", "png 16x3", "png 16x4", "webp",
     "jp2", "tif", "tif 16x1", "tif 16x3"],
)  # fmt: skip
def test_no_picture_takes_more_memory_than_estimated_from_its_header(kind: str, tmp_path: Path) -> None:
    path, told = write(kind, tmp_path)
    cost = picture_cost(path.read_bytes(), "picture")
    assert cost is not None
    assert (cost.width, cost.height) == (SIDE, SIDE)
    grown = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path), told], capture_output=True, text=True, check=True, timeout=120
    )
    # Buffers of fixed size stand beside the pixels.
    assert int(grown.stdout) < cost.held_bytes + (12 << 20)
    assert int(grown.stdout) > 0.2 * cost.held_bytes


def test_a_large_tiff_takes_what_its_windows_take(tmp_path: Path) -> None:
    sizes = []
    for width in (8_001, 30_000):
        header = io.BytesIO()
        Image.new("1", (width, 8_000)).save(header, "TIFF", compression="group4")
        cost = picture_cost(header.getvalue(), "ortho")
        assert cost is not None
        assert cost.width * cost.height > WHOLE_BELOW
        sizes.append(cost.held_bytes)
    assert sizes == [450 << 20] * 2


def test_what_is_no_picture_has_no_cost() -> None:
    assert picture_cost(b"no image", "x") is None
    assert UNKNOWN_COST_BYTES > WHOLE_BELOW
