"""The validation profile of a package: image statistics and detections that a census compares its photos with."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray
from transect.datasets import Dataset
from transect.engine import DetectOptions, Detector, FeatureSpace, SearchedSplit, ValidationProfile
from transect.engine.metrics import match
from transect.imagery import open_raster
from transect.progress import progress

_MOST_IMAGES, _MOST_TRAINING_IMAGES = 1000, 300
# A covariance of k directions needs several images for each.
_IMAGES_PER_DIRECTION, _MOST_DIRECTIONS = 6, 16
_WHOLE = DetectOptions(tile="off")


def build_profile(
    detector: Detector, dataset: Dataset, searched: SearchedSplit, *, max_pixels: int
) -> ValidationProfile:
    """Describe the validation images and their detections `searched`; training images add to the features' variance.

    At most 1000 of the first and 300 of the second are used. Raises ImageError for an image that cannot be read.
    """
    val, train = dataset.splits["val"].images, dataset.splits["train"].images
    chosen, others = _evenly_spaced(len(val), _MOST_IMAGES), _evenly_spaced(len(train), _MOST_TRAINING_IMAGES)
    described = _describe_images(detector, [*(val[k] for k in chosen), *(train[k] for k in others)], max_pixels)
    statistics, features = (np.stack([one[part].mean(axis=0) for one in described]) for part in (0, 1))
    first = np.arange(len(described)) < len(chosen)
    space = feature_space(features, first)
    projected = np.empty((len(described), 0)) if space is None else space.project(features)
    rows = [tuple(_rounded(row)) for row in np.column_stack([statistics, projected])]
    side = detector.manifest.image_size
    scales = [min(side / width, side / height) for width, height in searched.sizes]
    areas = [width * height * scale**2 / 1e6 for (width, height), scale in zip(searched.sizes, scales, strict=True)]
    return ValidationProfile(
        conf=searched.conf,
        iou=searched.iou,
        mpx=tuple(_rounded(areas)),
        looks=tuple((number, *row) for number, row in zip(chosen, rows, strict=False)),
        training_looks=tuple(rows[len(chosen) :]),
        space=space,
        detections=_detections(searched, scales),
    )


def _evenly_spaced(many: int, most: int) -> list[int]:
    """At most `most` of the numbers below `many`, evenly spaced."""
    numbers: list[int] = np.unique(np.linspace(0, many - 1, min(many, most)).round().astype(int)).tolist()
    return numbers


def _describe_images(
    detector: Detector, images: Sequence[Path], max_pixels: int
) -> list[tuple[FloatArray, FloatArray]]:
    def describe(path: Path) -> tuple[FloatArray, FloatArray]:
        with open_raster(path, max_pixels=max_pixels) as raster:
            return detector.sample_appearance(raster, _WHOLE)

    described = []
    with ThreadPoolExecutor(2) as pool, progress("Describing the images", len(images)) as advance:
        for one in pool.map(describe, images):
            described.append(one)
            advance()
    return described


def feature_space(features: FloatArray, first: NDArray[np.bool_]) -> FeatureSpace | None:
    """The principal components of features (n, d), centred on the mean of the `first` images and that of the others.

    None with too few images or no features.
    """
    n, d = features.shape
    directions = min(n // _IMAGES_PER_DIRECTION, _MOST_DIRECTIONS, d)
    if directions < 1:
        return None
    mean = features[first].mean(axis=0)
    centred = features - mean
    if not first.all():
        centred[~first] = features[~first] - features[~first].mean(axis=0)
    scale = centred.std(axis=0)
    # A constant feature carries no information.
    scale = np.where(scale > 0, scale, 1.0)
    _, strengths, components = np.linalg.svd(centred / scale, full_matrices=False)
    directions = min(directions, int((strengths > 1e-9 * strengths[0]).sum())) if strengths[0] > 0 else 0
    if directions < 1:
        return None
    return FeatureSpace(
        mean=tuple(_rounded(mean)),
        scale=tuple(_rounded(scale)),
        components=tuple(tuple(_rounded(row)) for row in components[:directions]),
    )


def _detections(
    searched: SearchedSplit, scales: Sequence[float]
) -> dict[str, tuple[tuple[int, float, float, int], ...]]:
    rows: dict[str, list[tuple[int, float, float, int]]] = {name: [] for name in searched.names}
    for image, (boxes, truth, scale) in enumerate(zip(searched.operating, searched.truths, scales, strict=True)):
        right = match(boxes, truth)[:, 0]
        sides = np.maximum(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2], 0.1)
        sizes = np.sqrt(sides.prod(axis=1)) * scale
        for number, score, size, good in zip(boxes.class_ids, boxes.scores, sizes, right, strict=True):
            rows[searched.names[number]].append(
                (image, round(float(score), 5), max(round(float(size), 2), 0.01), int(good))
            )
    return {name: tuple(found) for name, found in rows.items()}


def _rounded(values: "Sequence[float] | FloatArray") -> list[float]:
    """The values rounded to six significant digits."""
    return [float(f"{value:.6g}") for value in values]
