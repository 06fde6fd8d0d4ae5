"""How much of the raw network's speed tiled detection keeps: python benchmarks/engine.py [IMAGE] [--package FOLDER].

For each backend it times, in turn and several rounds over, (a) the bare forward passes of as many
tiles on the same parallel requests and (b) our whole path: cutting, scaling, forward passes,
decoding, suppression, stitching. It prints the best round of each and their ratio; 1.00 would mean
that everything around the network is free. Without --package it exports yolo11n at 640 pixels with
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

from transect.engine import MODEL_FILE, Detector, PackageManifest, hash_files, write_manifest
from transect.engine.backends import open_backend
from transect.imagery import decode_image

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path)
    parser.add_argument("--package", type=Path)
    arguments = parser.parse_args()
    image = decode_image(arguments.image, max_pixels=10**9) if arguments.image else made_image()
    with tempfile.TemporaryDirectory() as scratch:
        package = arguments.package or made_package(Path(scratch))
        print(f"{'backend':12} {'tiles':>5} {'forward s':>10} {'detect s':>9} {'detect/forward':>15} {'tiles/s':>8}")
        for backend in ("openvino", "onnxruntime"):
            print(measured(package, backend, image), flush=True)


def measured(package: Path, backend: str, image: NDArray[np.uint8]) -> str:
    with Detector.open(package, backend=backend) as detector:
        size = detector.manifest.image_size
        tiles = detector.detect(image).tiles
        network = open_backend(package / MODEL_FILE, size, backend=backend)
        tile = np.ascontiguousarray(image[:size, :size])
        with ThreadPoolExecutor(network.parallel) as pool:

            def forward() -> None:
                list(pool.map(network.infer, [tile] * tiles))

            forward()
            rounds = [(seconds(forward), seconds(lambda: detector.detect(image))) for _ in range(ROUNDS)]
    limit, ours = (min(column) for column in zip(*rounds, strict=True))
    return f"{backend:12} {tiles:5} {limit:10.3f} {ours:9.3f} {ours / limit:15.2f} {tiles / ours:8.1f}"


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
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
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
        files=hash_files(folder, [MODEL_FILE]),
    )
    write_manifest(folder, manifest)
    return folder


if __name__ == "__main__":
    main()
