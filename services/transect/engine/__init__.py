"""From a model package to boxes: backends, head decoding, NMS, stitching, metrics."""

from transect.engine.detector import Detector
from transect.engine.evaluate import SearchedSplit, search_split
from transect.engine.metrics import ClassEvaluation, Evaluation, Truth, evaluate_detections
from transect.engine.package import (
    INT8_FILES,
    MANIFEST_FILE,
    MODEL_FILE,
    SCHEMA_VERSION,
    WEIGHTS_FILE,
    LetterboxRule,
    PackageFile,
    PackageManifest,
    Precision,
    Variant,
    VariantLimits,
    hash_files,
    package_sha256,
    read_manifest,
    verify_package,
    write_manifest,
)
from transect.engine.paired import COUNT_ERROR, MAP50_95, RECALL, Gain, PairedComparison, compare_splits
from transect.engine.types import Boxes, Detection, DetectOptions, ImageResult, ModelRef, StageSeconds
from transect.engine.validation import ValidationCounts, count_errors

__all__ = [
    "COUNT_ERROR",
    "INT8_FILES",
    "MANIFEST_FILE",
    "MAP50_95",
    "MODEL_FILE",
    "RECALL",
    "SCHEMA_VERSION",
    "WEIGHTS_FILE",
    "Boxes",
    "ClassEvaluation",
    "DetectOptions",
    "Detection",
    "Detector",
    "Evaluation",
    "Gain",
    "ImageResult",
    "LetterboxRule",
    "ModelRef",
    "PackageFile",
    "PackageManifest",
    "PairedComparison",
    "Precision",
    "SearchedSplit",
    "StageSeconds",
    "Truth",
    "ValidationCounts",
    "Variant",
    "VariantLimits",
    "compare_splits",
    "count_errors",
    "evaluate_detections",
    "hash_files",
    "package_sha256",
    "read_manifest",
    "search_split",
    "verify_package",
    "write_manifest",
]
