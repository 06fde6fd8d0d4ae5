"""The models and photos that the benchmarks work with when none are given: all made here, from the starter weights."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.engine import read_manifest, write_manifest
from transect.imagery import decode_image, encode_jpeg
from transect.registry import build_package, connect
from transect.settings import Settings
from transect.synth import make_survey
from transect.training.runtime import prepare_ultralytics
from transect.training.weights import STARTER, STARTER_ARCHITECTURE

IMAGE_SIZE = 640
CONF, IOU = 0.25, 0.7
"""Ultralytics' own thresholds, for everybody."""

FRAME_SIZE = (4056, 3040)
"""Width and height of a photo from a common drone camera."""

PHOTO_SIZE = (1024, 768)
"""Width and height of the picture that services are asked about."""


def made_package(folder: Path) -> Path:
    """The package `folder`/package: the starter weights, exported at 640 pixels, fp32 alone."""
    prepare_ultralytics(folder)
    from transect.training.checkpoint import load_checkpoint
    from transect.training.export import export_onnx

    onnx = folder / "starter.onnx"
    export_onnx(STARTER, onnx, IMAGE_SIZE, "anchor-free")
    return build_package(
        folder / "package",
        onnx=onnx,
        weights=STARTER,
        names=list(load_checkpoint(STARTER).names.values()),
        image_size=IMAGE_SIZE,
        head_kind="anchor-free",
        architecture=STARTER_ARCHITECTURE,
        conf=CONF,
        iou=IOU,
    )


def made_frames(folder: Path, count: int = 4) -> list[Path]:
    """`count` JPEG photos of 4056 x 3040 pixels in `folder`, from four pictures of the sample survey; kept."""
    paths = [folder / f"frame-{number}.jpg" for number in range(count)]
    if not all(path.is_file() for path in paths):
        pictures = _pictures(folder)
        for number, path in enumerate(paths):
            path.write_bytes(encode_jpeg(_mosaic(pictures[number:] + pictures[:number], *FRAME_SIZE)))
    return paths


def made_photo(folder: Path) -> bytes:
    """One JPEG photo of 1024 x 768 pixels."""
    width, height = PHOTO_SIZE
    return encode_jpeg(np.ascontiguousarray(_pictures(folder)[0][:height, :width]))


def _pictures(folder: Path) -> list[NDArray[np.uint8]]:
    make_survey(folder / "survey", frames=4)
    photos = sorted((folder / "survey" / "images").rglob("*.jpg"))
    return [decode_image(photo, max_pixels=10**8) for photo in photos]


def _mosaic(pictures: list[NDArray[np.uint8]], width: int, height: int) -> NDArray[np.uint8]:
    """Pictures of one size side by side, again and again, until `width` x `height` pixels are full."""
    rows, columns = (-(-want // have) for want, have in zip((height, width), pictures[0].shape[:2], strict=True))
    bands = [
        np.concatenate([pictures[(row + column) % len(pictures)] for column in range(columns)], axis=1)
        for row in range(rows)
    ]
    return np.ascontiguousarray(np.concatenate(bands, axis=0)[:height, :width])


def registered(settings: Settings, package: Path, scratch: Path, versions: int = 1) -> list[str]:
    """Register copies of `package`, each as what a run of its own made, and point the alias at the first."""
    registry = connect(settings)
    experiment = registry.experiment("benchmark")
    made = []
    for number in range(versions):
        run_id = registry.client.create_run(experiment).info.run_id
        copy = shutil.copytree(package, scratch / f"version-{number}")
        write_manifest(copy, read_manifest(copy).model_copy(update={"run_id": run_id}))
        made.append(registry.register(copy, run_id, tags={}).version)
    registry.client.set_registered_model_alias(settings.model_name, settings.model_alias, made[0])
    return made
