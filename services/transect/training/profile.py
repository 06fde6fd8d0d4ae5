"""What a model was judged on, for the package: a census compares its own photos with it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.datasets import Split
from transect.engine import DetectOptions, Detector, FeatureSpace, SearchedSplit, ValidationProfile
from transect.engine.metrics import match
from transect.imagery import open_raster
from transect.progress import progress

FloatArray = NDArray[np.float64]

_MOST_IMAGES = 1000
# A covariance of k directions wants some images for each.
_IMAGES_PER_DIRECTION, _MOST_DIRECTIONS = 6, 16
_WHOLE = DetectOptions(tile="off")


def build_profile(detector: Detector, split: Split, searched: SearchedSplit, *, max_pixels: int) -> ValidationProfile:
    """Describe the images of `split`, of which `searched` is what was found; at most 1000 of them are looked at.

    Raises ImageError for an image that cannot be read.
    """
    many = len(split.images)
    chosen = np.unique(np.linspace(0, many - 1, min(many, _MOST_IMAGES)).round().astype(int)).tolist()

    def look(path: Path) -> tuple[FloatArray, FloatArray]:
        with open_raster(path, max_pixels=max_pixels) as raster:
            return detector.look(raster, _WHOLE)

    looks = []
    with ThreadPoolExecutor(2) as pool, progress("Describing val", len(chosen)) as advance:
        for one in pool.map(look, [split.images[number] for number in chosen]):
            looks.append(one)
            advance()
    images = np.repeat(chosen, [len(statistics) for statistics, _ in looks])
    statistics, features = (np.concatenate([one[part] for one in looks]) for part in (0, 1))
    space = feature_space(features)
    projected = np.empty((len(images), 0)) if space is None else space.project(features)
    rows = np.column_stack([images, statistics, projected])
    side = detector.manifest.image_size
    scales = [min(side / width, side / height) for width, height in searched.sizes]
    areas = [width * height * scale**2 / 1e6 for (width, height), scale in zip(searched.sizes, scales, strict=True)]
    return ValidationProfile(
        conf=searched.conf,
        iou=searched.iou,
        mpx=tuple(_short(areas)),
        looks=tuple((int(row[0]), *_short(row[1:])) for row in rows),
        space=space,
        detections=_detections(searched, scales),
    )


def feature_space(features: FloatArray) -> FeatureSpace | None:
    """The principal components of features (n, d); None where there are too few images or no features."""
    n, d = features.shape
    directions = min(n // _IMAGES_PER_DIRECTION, _MOST_DIRECTIONS, d)
    if directions < 1:
        return None
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # A map that answers to nothing tells nothing.
    scale = np.where(scale > 0, scale, 1.0)
    _, strengths, components = np.linalg.svd((features - mean) / scale, full_matrices=False)
    directions = min(directions, int((strengths > 1e-9 * strengths[0]).sum())) if strengths[0] > 0 else 0
    if directions < 1:
        return None
    return FeatureSpace(
        mean=tuple(_short(mean)),
        scale=tuple(_short(scale)),
        components=tuple(tuple(_short(row)) for row in components[:directions]),
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


def _short(values: "Sequence[float] | FloatArray") -> list[float]:
    """Six digits: what a look is measured to."""
    return [float(f"{value:.6g}") for value in values]
