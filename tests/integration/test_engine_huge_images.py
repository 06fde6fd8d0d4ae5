"""An image of 30,000 x 30,000 pixels, 2.7 GB as an array, is searched in a bounded amount of memory."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from toy_model import CELL, COLOURS, SIZE, build_toy_package

pytest.importorskip("rasterio")
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc")

SIDE = 30_000
# A model's cell of 16 px sees this many pixels of the image, since tiles are scaled to the model's 64.
TILE = 2048
MARK = TILE * CELL // SIZE
# Left and top in pixels, on the cells of their tiles: the image's corners, the seam of two tiles.
MARKS = [(0, 0, "red"), (1536, 3584, "green"), (5 * TILE, 4 * TILE, "blue"), (SIDE - MARK, SIDE - MARK, "red")]
GREY = 60
# The largest growth of the process while it searches: twice the band of 192 MB, windows that wait 96, the model's own.
MOST_MB = 700

SEARCH = """
import json, re, sys
from pathlib import Path
from transect.engine import DetectOptions, Detector
from transect.imagery import open_raster

def memory_mb(kind):
    # Not getrusage, whose peak a new program inherits from the one that started it.
    return int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

tile = int(sys.argv[3])
options = DetectOptions(tile=tile, overlap=0, conf=0.5)
with Detector.open(Path(sys.argv[1]), backend="openvino", threads=2) as detector:
    before = memory_mb("VmRSS")
    with open_raster(Path(sys.argv[2]), max_pixels=250_000_000) as raster:
        result = detector.detect(raster, options=options, fifo=True)
print(json.dumps({"growth": memory_mb("VmHWM") - before, "result": result.to_json()}))
"""


def write_huge_tiff(path: Path, block: tuple[int, int]) -> Path:
    """A deflated TIFF of blocks of (width, height): tiles, or strips where they are as wide as the image.

    All blocks without a mark are one and the same block of the file, so that it is written in no time
    while a reader decompresses every one of them.
    """
    width, height = block
    across, down = -(-SIDE // width), -(-SIDE // height)
    content = bytearray(8)

    def put(data: bytes) -> int:
        content.extend(bytes(len(content) % 2))
        content.extend(data)
        return len(content) - len(data)

    ground = np.full((height, width, 3), GREY, np.uint8)
    empty = zlib.compress(ground.tobytes(), 1)
    offsets = [put(empty)] * (across * down)
    lengths = [len(empty)] * (across * down)
    touched: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}
    for left, top, colour in MARKS:
        for block_row in range(top // height, (top + MARK - 1) // height + 1):
            for block_column in range(left // width, (left + MARK - 1) // width + 1):
                pixels = touched.setdefault(block_row * across + block_column, ground.copy())
                x, y = left - block_column * width, top - block_row * height
                pixels[max(y, 0) : max(y + MARK, 0), max(x, 0) : max(x + MARK, 0)] = COLOURS[colour]
    for number, pixels in touched.items():
        data = zlib.compress(pixels.tobytes(), 1)
        offsets[number], lengths[number] = put(data), len(data)

    many = len(offsets)
    bits, starts, sizes = (
        put(struct.pack("<3H", 8, 8, 8)),
        put(struct.pack(f"<{many}I", *offsets)),
        put(struct.pack(f"<{many}I", *lengths)),
    )
    # Tags of TIFF 6.0: size, 8 bits, deflate, RGB, 3 samples, interleaved; then the blocks.
    tags = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 3, bits), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3)]
    tags.append((284, 3, 1, 1))
    if width == SIDE:
        tags += [(273, 4, many, starts), (278, 4, 1, height), (279, 4, many, sizes)]
    else:
        tags += [(322, 4, 1, width), (323, 4, 1, height), (324, 4, many, starts), (325, 4, many, sizes)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    first = put(struct.pack("<H", len(tags)) + entries + bytes(4))
    content[:8] = struct.pack("<2sHI", b"II", 42, first)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("block", [(512, 512), (SIDE, 16)], ids=["tiles", "strips"])
def test_memory_does_not_grow_with_the_image(tmp_path: Path, block: tuple[int, int]) -> None:
    path = write_huge_tiff(tmp_path / "map.tif", block)
    assert path.stat().st_size < 5_000_000
    package = build_toy_package(tmp_path / "package")
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, package, path, str(TILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    result = answer["result"]
    assert (result["width"], result["height"], result["tiles"]) == (SIDE, SIDE, 225)
    found = {(round(d["box"][0]), round(d["box"][1]), d["class_name"]) for d in result["detections"]}
    assert found == set(MARKS)
    assert answer["growth"] < MOST_MB
