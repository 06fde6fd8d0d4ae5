"""The parts that a model package is built from: the exported model, its measurements and its origin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from transect.engine import (
    BackgroundCounts,
    HeadKind,
    PackageFile,
    PackageManifest,
    ValidationCounts,
    ValidationProfile,
    Variant,
)


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """An exported model: its files, and how an engine runs it.

    `onnx` lies in the folder that has the files of its variants too. `image_size` and `stride` are in pixels, `iou`
    is the recommended threshold of suppression.
    """

    onnx: Path
    weights: Path
    names: tuple[str, ...]
    image_size: int
    stride: int = 32
    head_kind: HeadKind
    architecture: str
    iou: float


@dataclass(frozen=True, kw_only=True)
class ModelMeasurements:
    """Measurements of an exported model: its score threshold `conf`, its quality and errors, its faster variants.

    The fields are described by PackageManifest; `profile` becomes a file of the package.
    """

    conf: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    class_metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    validation_counts: ValidationCounts | None = None
    background_counts: BackgroundCounts | None = None
    profile: ValidationProfile | None = None


@dataclass(frozen=True, kw_only=True)
class PackageOrigin:
    """The dataset, code and run that a model comes from; the fields are described by PackageManifest."""

    training_gsd_m: float | None = None
    dataset_name: str = ""
    dataset_digest: str = ""
    git_commit: str = ""
    git_dirty: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""


def describe_package(
    model: ExportedModel, measured: ModelMeasurements, origin: PackageOrigin, files: dict[str, PackageFile]
) -> PackageManifest:
    """The manifest of a package, made now, that has `files`. Raises pydantic's ValidationError for a bad value."""
    return PackageManifest(
        names=model.names,
        image_size=model.image_size,
        stride=model.stride,
        head_kind=model.head_kind,
        architecture=model.architecture,
        conf=measured.conf,
        iou=model.iou,
        training_gsd_m=origin.training_gsd_m,
        metrics=dict(measured.metrics),
        class_metrics={name: dict(values) for name, values in measured.class_metrics.items()},
        dataset_name=origin.dataset_name,
        dataset_digest=origin.dataset_digest,
        git_commit=origin.git_commit,
        git_dirty=origin.git_dirty,
        versions=dict(origin.versions),
        run_id=origin.run_id,
        created_at=datetime.now(UTC),
        files=files,
        variants=measured.variants,
        validation_counts=measured.validation_counts,
        background_counts=measured.background_counts,
    )
