"""How much of the raw network's speed tiled detection keeps: python benchmarks/engine.py [IMAGE] [--package FOLDER].

For each backend and precision it times, in turn and several rounds over, (a) the bare forward passes of
as many tiles on the same parallel requests and (b) our whole path: cutting, scaling, forward passes,
decoding, suppression, stitching. It prints the best round of each and their ratio; 1.00 would mean
that everything around the network is free. A last line for each tells what reading the outputs costs
when they are crowded: the same search, in which the network runs but its outputs are replaced by those
of 1,000 animals with twenty candidates each. Without --package it exports yolo11n at 640 pixels with
random weights (which needs the extra `train`); without IMAGE it makes a 4000 x 3000 one.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.engine import (
    MODEL_FILE,
    DetectOptions,
    Detector,
    ModelRef,
    PackageManifest,
    Precision,
    hash_files,
    read_manifest,
    write_manifest,
)
from transect.engine.backends import Backend, BackendName, native_precisions, open_backend
from transect.imagery import decode_image, plan_tiles

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path)
    parser.add_argument("--package", type=Path)
    arguments = parser.parse_args()
    image = decode_image(arguments.image, max_pixels=10**9) if arguments.image else made_image()
    with tempfile.TemporaryDirectory() as scratch:
        package = arguments.package or made_package(Path(scratch) / "package")
        print(f"{'backend':18} {'tiles':>5} {'forward s':>10} {'detect s':>9} {'detect/forward':>15} {'tiles/s':>8}")
        backends: tuple[BackendName, ...] = ("openvino", "onnxruntime")
        for backend in backends:
            for precision in sorted(native_precisions(backend) - {"int8"}, reverse=True):
                print(measured(package, backend, precision, image), flush=True)
                print(crowded(package, backend, precision), flush=True)


def measured(package: Path, backend: BackendName, precision: Precision, image: NDArray[np.uint8]) -> str:
    manifest = read_manifest(package)
    size = manifest.image_size
    network = open_backend(package / MODEL_FILE, size, backend=backend, precision=precision)
    with Detector(manifest, ModelRef("benchmark"), network) as detector:
        tiles = detector.tile_count(image.shape[1], image.shape[0])
        tile = np.ascontiguousarray(image[:size, :size])
        with ThreadPoolExecutor(network.parallel) as pool:

            def forward() -> None:
                list(pool.map(network.infer, [tile] * tiles))

            forward()
            rounds = [(seconds(forward), seconds(lambda: detector.detect(image))) for _ in range(ROUNDS)]
    limit, ours = (min(column) for column in zip(*rounds, strict=True))
    name = f"{backend} {precision}"
    return f"{name:18} {tiles:5} {limit:10.3f} {ours:9.3f} {ours / limit:15.2f} {tiles / ours:8.1f}"


def crowded(package: Path, backend: BackendName, precision: Precision) -> str:
    manifest = read_manifest(package)
    if manifest.head_kind != "anchor-free":
        return "  (an end-to-end head needs no suppression)"
    network = Crowd(
        open_backend(package / MODEL_FILE, manifest.image_size, backend=backend, precision=precision), manifest
    )
    options = DetectOptions(tile=manifest.image_size, overlap=round(0.2 * manifest.image_size), conf=0.25)
    with Detector(manifest, ModelRef("benchmark"), network) as detector:
        detector.detect(network.image, options=options)
        results, cpu = [], []
        for _ in range(ROUNDS):
            start = time.process_time()
            results.append(detector.detect(network.image, options=options))
            cpu.append(time.process_time() - start)
    best = int(np.argmin(cpu))
    # Seconds of the wall in one thread, which other work on the machine makes longer: at worst too much.
    post = min(result.seconds.post for result in results)
    return (
        f"  {len(results[best].detections)} boxes: {1000 * post:.0f} ms of {1000 * cpu[best]:.0f} ms of CPU "
        f"for reading the outputs, {post / cpu[best]:.1%}"
    )


class Crowd:
    """A backend that runs the network and then gives the outputs of a crowd of animals on `image`."""

    WIDTH, HEIGHT, ANIMALS, CANDIDATES = 4000, 3000, 1000, 20

    def __init__(self, network: Backend, manifest: PackageManifest) -> None:
        self.name, self.precision, self.parallel = network.name, network.precision, network.parallel
        self.instructions, self.library = network.instructions, network.library
        self._network = network
        size, classes = manifest.image_size, len(manifest.names)
        tiles = plan_tiles(self.WIDTH, self.HEIGHT, size, round(0.2 * size))
        self.image = np.full((self.HEIGHT, self.WIDTH, 3), 120, np.uint8)
        rng = np.random.default_rng(0)
        middle = rng.random((self.ANIMALS, 2)) * [self.WIDTH - 60, self.HEIGHT - 60] + 30
        half = rng.uniform(8, 24, (self.ANIMALS, 2))
        class_ids = rng.integers(0, classes, self.ANIMALS)
        anchors = sum((size // stride) ** 2 for stride in (8, 16, 32))
        self._outputs: list[NDArray[np.float32]] = []
        for number, tile in enumerate(tiles):
            # The first pixel of a tile, which no other tile has first, says which it is.
            self.image[tile.y, tile.x] = (number // 256, number % 256, 0)
            corner, far = np.array([tile.x, tile.y]), np.array([tile.right, tile.bottom])
            start, end = np.maximum(middle - half, corner) - corner, np.minimum(middle + half, far) - corner
            seen = np.flatnonzero((end - start > 4).all(axis=1))
            rows = np.repeat(seen, self.CANDIDATES)[:anchors]
            place = rng.permutation(anchors)[: len(rows)]
            output = (rng.random((1, 4 + classes, anchors)) * 0.1).astype(np.float32)
            output[0, :4] = rng.random((4, anchors)) * size
            first, last = (side[rows] + rng.normal(0, 1.5, (len(rows), 2)) for side in (start, end))
            output[0, :4, place] = np.concatenate([(first + last) / 2, np.maximum(last - first, 2)], axis=1)
            output[0, 4 + class_ids[rows], place] = rng.uniform(0.26, 0.95, len(rows))
            self._outputs.append(output)

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        self._network.infer(image)
        return self._outputs[int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])]

    def close(self) -> None:
        self._network.close()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def made_image() -> NDArray[np.uint8]:
    """Ground-like noise with bright dots."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(60, 140, (375, 500, 3), dtype=np.uint8), 8, axis=0), 8, axis=1)
    for x, y in rng.integers(0, [3970, 2970], (200, 2)):
        image[y : y + 24, x : x + 24] = 230
    return image


def made_package(folder: Path) -> Path:
    # Not in the package, which holds nothing but what it lists.
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder.parent))
    folder.mkdir()
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    from ultralytics.models import YOLO

    model = YOLO("yolo11n.yaml")
    model.save(folder / "weights.pt")
    exported = YOLO(folder / "weights.pt").export(format="onnx", imgsz=640, dynamic=True, simplify=False)
    Path(exported).rename(folder / MODEL_FILE)
    manifest = PackageManifest(
        names=tuple(f"class {k}" for k in range(80)),
        image_size=640,
        head_kind="anchor-free",
        architecture="yolo11n",
        conf=0.25,
        iou=0.5,
        created_at=datetime.now(UTC),
        files=hash_files(folder, [MODEL_FILE, "weights.pt"]),
    )
    write_manifest(folder, manifest)
    return folder


if __name__ == "__main__":
    main()
