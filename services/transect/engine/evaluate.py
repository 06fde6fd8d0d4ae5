"""Running a package over a labelled split."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.datasets import Split, read_labels
from transect.engine.detector import Detector
from transect.engine.metrics import Evaluation, Truth, evaluate_detections
from transect.engine.types import Boxes, DetectOptions
from transect.imagery import decode_image
from transect.progress import progress

# What Ultralytics validates with, so that both report the same average precision.
_CURVE_CONF = 0.001
_CURVE_IOU = 0.7
_CURVE_MAX_DET = 300

_WHOLE = DetectOptions(tile="off")


def evaluate_package(
    detector: Detector,
    split: Split,
    names: Sequence[str],
    *,
    options: DetectOptions = _WHOLE,
    max_pixels: int = 250_000_000,
    title: str = "Evaluating",
) -> Evaluation:
    """Search every image of `split` and compare with its labels; shows progress under `title`.

    `names` are the dataset's classes in the order of its class ids. They are matched to the
    model's by name: a class that the model does not know counts as never found, and the model's
    other classes are ignored. `options` is how images are searched when in use (threshold, IoU,
    tiling; default: whole images at the package's own thresholds); curves use the same tiling.

    Raises ImageError for an image that cannot be read and DatasetError for a bad label file.
    """
    to_dataset = np.array([names.index(name) if name in names else -1 for name in detector.manifest.names])

    def search(pair: tuple[Path, Path]) -> tuple[Boxes, Boxes, Truth]:
        image = decode_image(pair[0], max_pixels=max_pixels)
        height, width = image.shape[:2]
        class_ids, xyxy = read_labels(pair[1], width, height, len(names))
        curve = DetectOptions(
            conf=_CURVE_CONF,
            iou=_CURVE_IOU,
            tile=options.tile,
            overlap=options.overlap,
            max_det=max(_CURVE_MAX_DET, len(class_ids)),
            multi_label=True,
        )
        (low, working), _ = detector.detect_boxes(image, [curve, options])
        return _renamed(low, to_dataset), _renamed(working, to_dataset), Truth(xyxy, class_ids)

    pairs = list(zip(split.images, split.labels, strict=True))
    found = []
    with ThreadPoolExecutor(detector.parallel) as pool, progress(title, len(pairs)) as advance:
        for result in pool.map(search, pairs):
            found.append(result)
            advance()
    conf = detector.manifest.conf if options.conf is None else options.conf
    return evaluate_detections([f[0] for f in found], [f[1] for f in found], [f[2] for f in found], names, conf)


def _renamed(boxes: Boxes, to_dataset: NDArray[np.intp]) -> Boxes:
    class_ids = to_dataset[boxes.class_ids]
    known = class_ids >= 0
    return Boxes(boxes.xyxy[known], boxes.scores[known], class_ids[known], boxes.truncated)
