"""The model package on disk: its manifest, files and verification."""

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from transect.engine.onnx_references import refuse_external_data
from transect.engine.types import DetectOptions
from transect.engine.validation import BackgroundCounts, ValidationCounts
from transect.errors import PackageError
from transect.files import atomic_write, sha256_file

SCHEMA_VERSION = 3
MANIFEST_FILE = "package.json"
MLMODEL_FILE = "MLmodel"
MODEL_FILE = "model.onnx"
INT8_FILES = ("model.int8.xml", "model.int8.bin")
FP16_FILES = ("model.fp16.onnx",)
WEIGHTS_FILE = "weights.pt"

HeadKind = Literal["anchor-free", "end-to-end"]
FastPrecision = Literal["bf16", "int8", "fp16", "tf32"]
Precision = Literal["fp32"] | FastPrecision

# A backend opens the first file. The other precisions run the fp32 model with other arithmetic.
VARIANT_FILES: dict[Precision, tuple[str, ...]] = {"int8": INT8_FILES, "fp16": FP16_FILES}

# MLflow's client writes it into the folder from which it opens a registered version, in the embedded store too.
# Transect does not read it.
_MLFLOW_NOTE = "registered_model_meta"

_Share = Annotated[float, Field(ge=0, le=1)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class PackageFile(_Value):
    """Size in bytes and SHA-256 (64 lower-case hexadecimal digits) of one file of a package."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class LetterboxRule(_Value):
    """How an image is fitted into the square input: scaled to fit, then padded on both sides."""

    pad_value: Literal[114] = 114
    center: Literal[True] = True
    scale_up: Literal[True] = True
    interpolation: Literal["linear"] = "linear"


class VariantLimits(_Value):
    """The greatest loss of a variant against fp32: mAP50-95 and recall in points of 0..1, the count as a share."""

    map50_95_loss: _Share = 0.005
    recall_loss: _Share = 0.005
    count_error: _Share = 0.005


class Variant(_Value):
    """A faster way to run the model, with its measured differences from fp32.

    Measured on the validation split by this engine: `map50_95_change` and `recall_change` (at the
    recommended threshold) are the variant's value less fp32's; `count_error` is
    |variant's detections - fp32's| / labelled objects, at the recommended threshold. The split has
    `images` and `objects`. `speedup` is throughput over fp32's on the machine that trained, in the same
    backend. `limits` are those that it was checked against: a package contains only variants within them. `files` are
    its own files; bf16 and tf32 have none, because they run the fp32 model. `score_shift` is added to the logits of
    the scores, one value for each class: rounded weights shift all scores of a class in one direction, which
    changes the count. It is fitted on training images; empty for none.
    """

    precision: FastPrecision
    files: tuple[str, ...] = ()
    score_shift: tuple[float, ...] = ()
    map50_95_change: float
    recall_change: float
    count_error: float = Field(ge=0)
    images: int = Field(ge=0)
    objects: int = Field(ge=0)
    speedup: float = Field(gt=0)
    limits: VariantLimits = VariantLimits()

    @property
    def summary(self) -> str:
        """The measurements on one line, for users."""
        return (
            f"mAP50-95 {self.map50_95_change:+.4f}, recall {self.recall_change:+.4f}, "
            f"count error {self.count_error:.2%}, {self.speedup:.2f} times as fast as fp32 "
            f"({self.images} images, {self.objects} animals)"
        )

    @model_validator(mode="after")
    def _has_its_files(self) -> "Variant":
        expected = VARIANT_FILES.get(self.precision, ())
        if self.files != expected:
            raise ValueError(f"a variant of {self.precision} has the files {list(expected)}, not {list(self.files)}")
        return self


class PackageManifest(_Value):
    """The content of package.json.

    `image_size` and `stride` are in pixels; `conf` and `iou` are the recommended thresholds;
    `training_gsd_m` is the ground sample distance of the training images in metres a pixel, if
    known; `metrics` and `class_metrics` come from the test split; `files` maps the name of every file in the
    package's folder except package.json; `variants` are the faster ways to run the model that passed their test;
    a census corrects its counts with `validation_counts` and `background_counts`, which are None in packages from
    before they were stored, and the latter also without empty ground. Schema 1 had no variants and is read as 2
    without any; schema 2 did not list MLmodel.
    """

    schema_version: Literal[2, 3] = 3
    names: tuple[str, ...] = Field(min_length=1)
    image_size: int = Field(ge=32)
    stride: int = Field(default=32, ge=1)
    letterbox: LetterboxRule = LetterboxRule()
    head_kind: HeadKind
    architecture: str
    conf: _Share
    iou: _Share
    training_gsd_m: float | None = Field(default=None, gt=0)
    metrics: dict[str, float] = {}
    class_metrics: dict[str, dict[str, float]] = {}
    dataset_name: str = ""
    dataset_digest: str = ""
    git_commit: str = ""
    git_dirty: bool = False
    versions: dict[str, str] = {}
    run_id: str = ""
    created_at: AwareDatetime
    files: dict[str, PackageFile]
    variants: tuple[Variant, ...] = ()
    validation_counts: ValidationCounts | None = None
    background_counts: BackgroundCounts | None = None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions in which the model can run: fp32, and those of its variants."""
        return ("fp32", *(variant.precision for variant in self.variants))

    @field_validator("names")
    @classmethod
    def _names_are_distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name.strip() for name in names) or len(set(names)) != len(names):
            raise ValueError("class names must be distinct and not empty")
        return names

    @field_validator("files")
    @classmethod
    def _files_stay_inside(cls, files: dict[str, PackageFile]) -> dict[str, PackageFile]:
        for name in files:
            if not _is_plain(name):
                raise ValueError(f"{name!r} is not a plain relative file name")
        if MODEL_FILE not in files:
            raise ValueError(f"{MODEL_FILE} is missing from the list")
        return files

    @model_validator(mode="after")
    def _size_fits_stride(self) -> "PackageManifest":
        if self.image_size % self.stride:
            raise ValueError(f"image_size {self.image_size} is not a multiple of stride {self.stride}")
        return self

    @model_validator(mode="after")
    def _variants_are_whole(self) -> "PackageManifest":
        if len(set(self.precisions)) < len(self.precisions):
            raise ValueError("two variants have the same precision")
        for variant in self.variants:
            missing = [name for name in variant.files if name not in self.files]
            if missing:
                raise ValueError(f"the variant {variant.precision} needs {', '.join(missing)}, which is not listed")
            if len(variant.score_shift) not in (0, len(self.names)):
                raise ValueError(f"the variant {variant.precision} needs a score shift for each class, or none")
        return self

    def thresholds(self, options: DetectOptions) -> tuple[float, float]:
        """The score and IoU thresholds of a search with `options`; the package's recommendation is the default."""
        return (
            self.conf if options.conf is None else options.conf,
            self.iou if options.iou is None else options.iou,
        )

    def model_file(self, precision: Precision) -> str:
        """The file that a backend opens for a precision, relative to the package's folder."""
        return VARIANT_FILES.get(precision, (MODEL_FILE,))[0]

    def score_shift(self, precision: Precision) -> tuple[float, ...]:
        """The shift that a precision adds to the logits of its scores, one for each class; empty for none."""
        return next((one.score_shift for one in self.variants if one.precision == precision), ())


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, PackageFile]:
    """Size and SHA-256 of the named files of `folder`, for PackageManifest.files.

    Raises PackageError for a file that is missing.
    """
    entries = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise PackageError(f"Model package {folder} has no file {name}; build it again.")
        entries[name] = PackageFile(sha256=sha256_file(path), size=path.stat().st_size)
    return entries


def write_manifest(folder: Path, manifest: PackageManifest) -> Path:
    """Write `manifest` as package.json into `folder`, atomically; returns its path."""
    target = folder / MANIFEST_FILE
    atomic_write(target, manifest.model_dump_json(indent=2) + "\n")
    return target


def read_manifest(folder: Path) -> PackageManifest:
    """Read and check package.json of `folder`; does not open the files that it lists.

    Raises PackageError if it is missing, is not JSON, has another schema version or a bad value.
    """
    path = folder / MANIFEST_FILE
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise PackageError(f"{path} is not a regular file; fetch or build the package again.")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError as error:
        raise PackageError(f"{folder} is not a model package: it has no {MANIFEST_FILE}.") from error
    except OSError as error:
        raise PackageError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    except ValueError as error:
        raise PackageError(f"{path} is not valid JSON; fetch or build the package again.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in (1, 2, SCHEMA_VERSION) or isinstance(version, bool):
        raise PackageError(
            f"{path} has schema version {version!r} and this program reads 1 to {SCHEMA_VERSION}; "
            "use the release that made it, or train again."
        )
    if version == 1 and "variants" in content:
        raise PackageError(f"{path} is not usable: variants: schema version 1 has none.")
    try:
        return PackageManifest.model_validate(content | {"schema_version": max(version, 2)})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        reason = first["msg"].removeprefix("Value error, ")
        raise PackageError(f"{path} is not usable: {field}: {reason}.") from error


def verify_package(folder: Path) -> PackageManifest:
    """Check that `folder` matches its package.json exactly; returns the manifest.

    Checks the schema, and size and SHA-256 of every listed file; rejects unlisted files, subfolders, links, and ONNX
    models with tensors in another file. Raises PackageError with the file and the reason.

    Two files may be unlisted, because Transect does not read them: the note of MLflow's own client, and MLmodel in
    packages of schema 1 and 2, which never listed it. `unlisted_files` returns them.
    """
    manifest = read_manifest(folder)
    for name in unlisted_files(folder, manifest):
        if name != _MLFLOW_NOTE and not (name == MLMODEL_FILE and manifest.schema_version < SCHEMA_VERSION):
            raise PackageError(
                f"{folder / name} is not listed in {MANIFEST_FILE}, so nothing vouches for it; "
                "fetch or build the package again."
            )
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise PackageError(f"Model package {folder} has no regular file {name}; fetch or build it again.")
        size = path.stat().st_size
        if size != expected.size:
            raise PackageError(
                f"{path} has {size} bytes and should have {expected.size}; fetch or build the package again."
            )
        if sha256_file(path) != expected.sha256:
            raise PackageError(
                f"{path} does not have the SHA-256 that {MANIFEST_FILE} promises; fetch or build the package again."
            )
        if name.endswith(".onnx"):
            refuse_external_data(path)
    return manifest


def unlisted_files(folder: Path, manifest: PackageManifest) -> list[str]:
    """Names of the files in `folder` that `manifest`, its package.json, does not list, sorted.

    Raises PackageError for a link, a subfolder, and anything else that is not a regular file.
    """
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in entries)
    for name, mode in found:
        if stat.S_ISLNK(mode):
            raise PackageError(f"{folder / name} is a link, which a package may not contain; fetch or build it again.")
        if stat.S_ISDIR(mode):
            raise PackageError(
                f"{folder / name} is a subfolder, which a package may not contain; fetch or build it again."
            )
        if not stat.S_ISREG(mode):
            raise PackageError(f"{folder / name} is not a regular file; fetch or build the package again.")
    return [name for name, _ in found if name not in manifest.files and name != MANIFEST_FILE]


def package_sha256(folder: Path) -> str:
    """SHA-256 of package.json, which contains the hash of every file: the package's identity."""
    return sha256_file(folder / MANIFEST_FILE)


def tensorrt_folder(package: Path) -> Path:
    """The cache of TensorRT's engines for `package`, beside it because it may not contain unlisted files."""
    whole = package.resolve()
    return whole.with_name(f".{whole.name}.tensorrt")


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and "\\" not in name and not path.is_absolute() and ".." not in path.parts and str(path) == name
