"""Plots for a run's pages: labels and predictions of one batch, side by side."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

_PLOTS = ("*.png", "*.jpg")
_LABELS = "_labels.jpg"
_GAP = 12  # white pixels between the two
_TITLE = 40  # height of their titles in pixels


def collect_plots(folder: Path) -> list[Path]:
    """Ultralytics' plots (curves, confusion matrix, labels, predictions), and labels beside predictions.

    `val_batchN_compare.jpg` shows the labels of a validation batch on the left and the predictions
    on the right.
    """
    for labels in folder.glob(f"val_batch*{_LABELS}"):
        found = labels.with_name(labels.name.replace(_LABELS, "_pred.jpg"))
        if found.is_file():
            _put_beside(labels, found, labels.with_name(labels.name.replace(_LABELS, "_compare.jpg")))
    return sorted(_pictures(folder))


def _pictures(folder: Path) -> Iterator[Path]:
    for pattern in _PLOTS:
        yield from folder.glob(pattern)


def _put_beside(left: Path, right: Path, out: Path) -> None:
    first, second = (cv2.imread(str(path)) for path in (left, right))
    if first is None or second is None:
        # A training was killed while it drew: both halves are still logged as they are.
        return
    height = _TITLE + max(first.shape[0], second.shape[0])
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    sides = (_titled(first, "labels", height), gap, _titled(second, "predictions", height))
    cv2.imwrite(str(out), np.hstack(sides))


def _titled(image: np.ndarray, title: str, height: int) -> np.ndarray:
    canvas = np.full((height, image.shape[1], 3), 255, np.uint8)
    canvas[_TITLE : _TITLE + image.shape[0]] = image
    cv2.putText(canvas, title, (4, _TITLE - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2, cv2.LINE_AA)
    return canvas
