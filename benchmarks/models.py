"""The models and photos that the benchmarks work with when none are given: all made here, from the starter weights."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.datasets import load_dataset
from transect.engine import MODEL_FILE, PackageManifest, Precision, read_manifest, write_manifest
from transect.engine.backends.choice import choose_precision, native_precisions
from transect.imagery import decode_image, encode_jpeg
from transect.registry import ExportedModel, ModelMeasurements, build_package, connect
from transect.settings import Settings, load_settings
from transect.synth import make_dataset, make_survey
from transect.training.config.pretrained import STARTER, STARTER_ARCHITECTURE
from transect.training.config.recipe import PrecisionRecipe
from transect.training.packaging.variants import rejection_reasons
from transect.training.trainer.environment import prepare_ultralytics

IMAGE_SIZE = 640
IOU = 0.7
"""Ultralytics' own threshold of suppression, for everybody; the least score is what the package recommends."""

FRAME_SIZE = (4056, 3040)
"""Width and height of a photo from a common drone camera."""

PHOTO_SIZE = (1024, 1024)
"""Width and height of the picture that services are asked about: square, so that all of them compute the same."""


def made_package(folder: Path, work: Path) -> Path:
    """The package `folder`/package: the starter weights, exported at 640 pixels, with every variant.

    Threshold and variants come about as in training, on a synthetic training set that is kept in `work`; but a
    variant that failed its gate is in the package too, so that it can be measured: see `passed`.
    """
    prepare_ultralytics(folder)
    from transect.training.config.safe_load import load_checkpoint
    from transect.training.packaging.evaluation import evaluate_model
    from transect.training.packaging.onnx_export import export_onnx
    from transect.training.packaging.variant_benchmark import DraftPackage, make_variants

    export_onnx(STARTER, folder / MODEL_FILE, IMAGE_SIZE, "anchor-free")
    model = ExportedModel(
        onnx=folder / MODEL_FILE,
        weights=STARTER,
        names=tuple(load_checkpoint(STARTER).names.values()),
        image_size=IMAGE_SIZE,
        head_kind="anchor-free",
        architecture=STARTER_ARCHITECTURE,
        iou=IOU,
    )
    dataset = load_dataset(make_dataset(work / "dataset", train=128, val=240, test=8, tile=IMAGE_SIZE))
    settings = load_settings({}, None)
    found = evaluate_model(model, dataset, settings)
    report = make_variants(DraftPackage.of(model, found.conf), dataset, PrecisionRecipe(), settings)
    variants = tuple(one.variant for one in report.measured)
    measured = ModelMeasurements(conf=found.conf, variants=variants, validation_counts=found.counts)
    return build_package(folder / "package", model, measured)


def passed(manifest: PackageManifest, precision: Precision) -> bool:
    """Whether the precision passed its gate, as every variant of a trained package has."""
    return not any(rejection_reasons(variant) for variant in manifest.variants if variant.precision == precision)


def fastest_passed(manifest: PackageManifest) -> Precision:
    """What the service and a census take by default: the fastest precision that passed and that this CPU computes."""
    good = tuple(variant for variant in manifest.variants if not rejection_reasons(variant))
    return choose_precision(
        manifest.model_copy(update={"variants": good}), "auto", native_precisions("openvino"), "openvino"
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
    """One JPEG photo of 1024 x 1024 pixels."""
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
