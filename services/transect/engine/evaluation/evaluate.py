"""Evaluate a detector on a labelled split."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from transect.datasets import Split, boxes_in_pixels
from transect.engine.detector import Detector
from transect.engine.metrics import Evaluation, Truth, evaluate_detections
from transect.engine.types import Boxes, DetectOptions
from transect.engine.validation import BackgroundCounts, ValidationCounts, count_alarms, count_errors
from transect.imagery import decode_image
from transect.progress import progress

# Ultralytics' validation settings, so that both report the same average precision.
_CURVE_CONF = 0.001
_CURVE_IOU = 0.7
_CURVE_MAX_DET = 300

_WHOLE = DetectOptions(tile="off")

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class SearchedSplit:
    """A model's detections in each image of a labelled split, and the labels; class ids index `names`.

    `curve` are the detections for average precision, `operating` those at the thresholds `conf` and
    `iou`, both best first; `truths` are the labels; `sizes` are the images' widths and heights in pixels.
    """

    names: tuple[str, ...]
    curve: tuple[Boxes, ...]
    operating: tuple[Boxes, ...]
    truths: tuple[Truth, ...]
    conf: float
    iou: float
    sizes: tuple[tuple[int, int], ...] = ()

    def at(self, conf: float) -> "SearchedSplit":
        """The same images as if searched whole at a higher score threshold.

        Exact without a second search: only better boxes of its class suppress a box, so those above `conf` do not
        depend on the others, and the limit on boxes keeps the best. (Not exact for stitched boxes of several
        tiles.) Raises ValueError for a lower threshold.
        """
        if conf < self.conf:
            raise ValueError(f"searched at {self.conf:g}, so results at {conf:g} are not known")
        operating = tuple(boxes.take(boxes.scores > conf) for boxes in self.operating)
        return replace(self, operating=operating, conf=conf)

    def evaluation(self) -> Evaluation:
        """The metrics of the detections."""
        return evaluate_detections(self.curve, self.operating, self.truths, self.names, self.conf)

    def validation_counts(self) -> ValidationCounts:
        """True positives, false positives and false negatives by image at the working thresholds."""
        return count_errors(self.operating, self.truths, self.names, conf=self.conf, iou=self.iou)


def search_split(
    detector: Detector,
    split: Split,
    names: Sequence[str],
    *,
    options: DetectOptions = _WHOLE,
    max_pixels: int = 250_000_000,
    title: str = "Evaluating",
) -> SearchedSplit:
    """Search every image of `split`; shows progress under `title`.

    `names` are the dataset's classes in the order of its class ids. They are matched to the
    model's by name: a class that the model does not have counts as never found, and the model's
    other classes are ignored. `options` are those of normal use (threshold, IoU, tiling; default:
    whole images at the package's own thresholds); curves use the same tiling.

    Raises ImageError for an image that cannot be read.
    """
    to_dataset = _class_numbers(detector, names)

    def search(pair: tuple[Path, NDArray[np.float64]]) -> tuple[Boxes, Boxes, Truth, tuple[int, int]]:
        image = decode_image(pair[0], max_pixels=max_pixels)
        height, width = image.shape[:2]
        class_ids, xyxy = boxes_in_pixels(pair[1], (width, height))
        curve = DetectOptions(
            conf=_CURVE_CONF,
            iou=_CURVE_IOU,
            tile=options.tile,
            overlap=options.overlap,
            max_det=max(_CURVE_MAX_DET, len(class_ids)),
            multi_label=True,
        )
        (low, working), _ = detector.detect_boxes(image, [curve, options])
        return _renamed(low, to_dataset), _renamed(working, to_dataset), Truth(xyxy, class_ids), (width, height)

    found = _map_in_order(search, list(zip(split.images, split.rows, strict=True)), detector, title)
    curve, operating, truths, sizes = zip(*found, strict=True) if found else ((), (), (), ())
    conf, iou = detector.manifest.thresholds(options)
    return SearchedSplit(
        names=tuple(names), curve=curve, operating=operating, truths=truths, conf=conf, iou=iou, sizes=sizes
    )


def search_background(
    detector: Detector,
    images: Sequence[Path],
    names: Sequence[str],
    *,
    options: DetectOptions,
    max_pixels: int = 250_000_000,
    title: str = "Searching empty ground",
) -> BackgroundCounts:
    """The false alarms of each class of `names` on `images` without animals, searched with `options`.

    Shows progress under `title`. Raises ImageError for an image that cannot be read.
    """
    to_dataset = _class_numbers(detector, names)

    def search(path: Path) -> tuple[Boxes, float]:
        image = decode_image(path, max_pixels=max_pixels)
        height, width = image.shape[:2]
        (boxes,), _ = detector.detect_boxes(image, [options])
        searched = width * height * detector.network_scale(width, height, options) ** 2 / 1e6
        return _renamed(boxes, to_dataset), searched

    found = _map_in_order(search, images, detector, title)
    conf, iou = detector.manifest.thresholds(options)
    return count_alarms([boxes for boxes, _ in found], [mpx for _, mpx in found], names, conf=conf, iou=iou)


def _class_numbers(detector: Detector, names: Sequence[str]) -> NDArray[np.intp]:
    """For each class of the model its index in `names`, or -1."""
    return np.array([names.index(name) if name in names else -1 for name in detector.manifest.names])


def _map_in_order(
    work: Callable[[_Item], _Result], items: Sequence[_Item], detector: Detector, title: str
) -> list[_Result]:
    """The results of `work` in the order of `items`, with the detector's parallelism."""
    found = []
    with ThreadPoolExecutor(detector.parallel) as pool, progress(title, len(items)) as advance:
        for result in pool.map(work, items):
            found.append(result)
            advance()
    return found


def _renamed(boxes: Boxes, to_dataset: NDArray[np.intp]) -> Boxes:
    class_ids = to_dataset[boxes.class_ids]
    known = class_ids >= 0
    return Boxes(boxes.xyxy[known], boxes.scores[known], class_ids[known], boxes.truncated)
