"""Build a model package: files, manifest, MLmodel; verified and run once before its final rename."""

import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from transect.engine import (
    MLMODEL_FILE,
    MODEL_FILE,
    WEIGHTS_FILE,
    BackgroundCounts,
    Detector,
    PackageManifest,
    ValidationCounts,
    ValidationProfile,
    Variant,
    hash_files,
    verify_package,
    write_manifest,
    write_profile,
)
from transect.engine.backends import native_precisions
from transect.errors import PackageError
from transect.registry.client.names import PACKAGE_PATH

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_LOADER = "transect.registry.pyfunc"


def build_package(
    out: Path,
    *,
    onnx: Path,
    weights: Path,
    names: Sequence[str],
    image_size: int,
    head_kind: Literal["anchor-free", "end-to-end"],
    architecture: str,
    conf: float,
    iou: float,
    stride: int = 32,
    training_gsd_m: float | None = None,
    metrics: Mapping[str, float] | None = None,
    class_metrics: Mapping[str, Mapping[str, float]] | None = None,
    dataset_name: str = "",
    dataset_digest: str = "",
    git_commit: str = "",
    git_dirty: bool = False,
    versions: Mapping[str, str] | None = None,
    run_id: str = "",
    created_at: datetime | None = None,
    variants: Sequence[Variant] = (),
    validation_counts: ValidationCounts | None = None,
    profile: ValidationProfile | None = None,
    background_counts: BackgroundCounts | None = None,
) -> Path:
    """Build the model package `out` and return it; see PackageManifest for the fields; `profile` becomes a file.

    `onnx` and `weights` are copied, and the files of `variants` from the folder of `onnx`. The
    finished package is verified and runs one inference in each precision that this machine computes.
    The last step is the rename to `out`, so that `out` is a complete, working package or absent. Raises
    PackageError if `out` exists, a file is missing, a value is unusable, or the model does not run.
    """
    if out.exists():
        raise PackageError(f"{out} exists already; remove it or choose another folder for the package.")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        folder = scratch / out.name
        folder.mkdir()
        _copy(onnx, folder / MODEL_FILE)
        _copy(weights, folder / WEIGHTS_FILE)
        extra = [name for variant in variants for name in variant.files]
        for name in extra:
            _copy(onnx.parent / name, folder / name)
        if profile is not None:
            extra.append(write_profile(folder, profile).name)
        # Before the manifest, which lists it.
        extra.append(_write_mlmodel(folder, run_id).name)
        fields = {
            "names": tuple(names),
            "image_size": image_size,
            "stride": stride,
            "head_kind": head_kind,
            "architecture": architecture,
            "conf": conf,
            "iou": iou,
            "training_gsd_m": training_gsd_m,
            "metrics": dict(metrics or {}),
            "class_metrics": {name: dict(values) for name, values in (class_metrics or {}).items()},
            "dataset_name": dataset_name,
            "dataset_digest": dataset_digest,
            "git_commit": git_commit,
            "git_dirty": git_dirty,
            "versions": dict(versions or {}),
            "run_id": run_id,
            "created_at": created_at or datetime.now(UTC),
            "files": hash_files(folder, (MODEL_FILE, WEIGHTS_FILE, *extra)),
            "variants": tuple(variants),
            "validation_counts": validation_counts,
            "background_counts": background_counts,
        }
        write_manifest(folder, _manifest(out, fields))
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


def _manifest(out: Path, fields: Mapping[str, object]) -> PackageManifest:
    try:
        return PackageManifest.model_validate(fields)
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
