"""Build a model package: files, manifest, MLmodel; verified and run once before its final rename."""

import platform
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from transect.engine import (
    MLMODEL_FILE,
    MODEL_FILE,
    WEIGHTS_FILE,
    Detector,
    PackageFile,
    PackageManifest,
    hash_files,
    verify_package,
    write_manifest,
    write_profile,
)
from transect.engine.backends import native_precisions
from transect.errors import PackageError
from transect.registry.client.names import PACKAGE_PATH
from transect.registry.versions.package_parts import (
    ExportedModel,
    ModelMeasurements,
    PackageOrigin,
    describe_package,
)

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_LOADER = "transect.registry.pyfunc"


def build_package(
    out: Path, model: ExportedModel, measured: ModelMeasurements, origin: PackageOrigin | None = None
) -> Path:
    """Build the package `out` of `model` and return it; without `origin` nothing is known of where it comes from.

    The model's files are copied, and those of the variants from the folder of its ONNX file. The
    finished package is verified and runs one inference in each precision that this machine computes.
    The last step is the rename to `out`, so that `out` is a complete, working package or absent. Raises
    PackageError if `out` exists, a file is missing, a value is unusable, or the model does not run.
    """
    origin = origin or PackageOrigin()
    if out.exists():
        raise PackageError(f"{out} exists already; remove it or choose another folder for the package.")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        folder = scratch / out.name
        folder.mkdir()
        _copy(model.onnx, folder / MODEL_FILE)
        _copy(model.weights, folder / WEIGHTS_FILE)
        extra = [name for variant in measured.variants for name in variant.files]
        for name in extra:
            _copy(model.onnx.parent / name, folder / name)
        if measured.profile is not None:
            extra.append(write_profile(folder, measured.profile).name)
        # Before the manifest, which lists it.
        extra.append(_write_mlmodel(folder, origin.run_id).name)
        files = hash_files(folder, (MODEL_FILE, WEIGHTS_FILE, *extra))
        write_manifest(folder, _manifest(out, model, measured, origin, files))
        _run_each_precision(folder)
        folder.rename(out)
    finally:
        shutil.rmtree(scratch)
    return out


def signature() -> "ModelSignature":
    """The signature: one input column of images (path, base64 text, bytes or RGB array), one Detection record each."""
    # The detector image has mlflow-skinny alone, which lacks these.
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Object, Property, Schema, TensorSpec

    number, text, whole = DataType.double, DataType.string, DataType.long
    detection = Object(
        [
            Property("box", Array(number)),
            Property("score", number),
            Property("class_id", whole),
            Property("class_name", text),
        ]
    )
    model = Object([Property(name, text) for name in ("name", "version", "run_id", "precision")])
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(text, "image"),
        ColSpec(whole, "width"),
        ColSpec(whole, "height"),
        ColSpec(Array(detection), "detections"),
        ColSpec(model, "model"),
        ColSpec(whole, "tiles"),
        ColSpec(DataType.boolean, "truncated"),
        ColSpec(text, "failure", required=False),
        ColSpec(Array(text), "remarks"),
    ]
    # The column has no name: with one, MLflow rejects a plain list of paths.
    image: ColSpec | TensorSpec = ColSpec(AnyType())
    return ModelSignature(inputs=Schema([image]), outputs=Schema(outputs))


def _manifest(
    out: Path,
    model: ExportedModel,
    measured: ModelMeasurements,
    origin: PackageOrigin,
    files: dict[str, PackageFile],
) -> PackageManifest:
    try:
        return describe_package(model, measured, origin, files)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageError(f"The package {out} cannot be described: {where}: {first['msg']}.") from error


def _write_mlmodel(folder: Path, run_id: str) -> Path:
    from mlflow.models import Model

    # No environment files: the loader is this package, which is on no package index.
    model = Model(artifact_path=PACKAGE_PATH, run_id=run_id or None, signature=signature())
    model.add_flavor("python_function", loader_module=_LOADER, python_version=platform.python_version())
    target = folder / MLMODEL_FILE
    model.save(str(target))
    return target


def _run_each_precision(folder: Path) -> None:
    manifest = verify_package(folder)
    fast = native_precisions("openvino") | native_precisions("cuda") if manifest.variants else frozenset()
    for precision in manifest.precisions:
        if precision == "fp32" or precision in fast:
            # Opening runs one inference on a fixed pattern.
            Detector.open(folder, precision=precision, verify=False).close()


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise PackageError(f"{source} is missing; the package needs it as {target.name}.")
    shutil.copyfile(source, target)
