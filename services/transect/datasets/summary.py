"""Summary table of a training set."""

from typing import Any

import numpy as np

from transect.datasets.dataset import Dataset, Split
from transect.datasets.labels import boxes_in_pixels

ALL_CLASSES = "all"


def dataset_summary(dataset: Dataset) -> list[dict[str, Any]]:
    """One row per split and class, and one per split for all classes together.

    `images` counts images with at least one such box (for all classes: all images of the split),
    `empty_images` those without; box sizes are the square root of the area in pixels of the original image, at the
    quantiles 5%, 50% and 95% (empty without boxes).
    """
    rows = []
    for name, split in dataset.splits.items():
        total = len(split.images)
        classes, sizes, owners = _boxes(split)
        rows.append(_row(name, ALL_CLASSES, images=total, total=total, owners=owners, sizes=sizes))
        for class_id, class_name in enumerate(dataset.names):
            mine = classes == class_id
            images = len(np.unique(owners[mine]))
            rows.append(_row(name, class_name, images=images, total=total, owners=owners[mine], sizes=sizes[mine]))
    return rows


def _boxes(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class ids (n,), sizes in pixels (n,) and image numbers (n,) of all boxes of a split."""
    classes, sizes, owners = [], [], []
    for index, (rows, size) in enumerate(zip(split.rows, split.sizes, strict=True)):
        class_ids, boxes = boxes_in_pixels(rows, size)
        classes.append(class_ids)
        sizes.append(np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
        owners.append(np.full(len(class_ids), index))
    return np.concatenate(classes), np.concatenate(sizes), np.concatenate(owners)


def _row(
    split: str, class_name: str, *, images: int, owners: np.ndarray, sizes: np.ndarray, total: int
) -> dict[str, Any]:
    quantiles = [round(float(value), 1) for value in np.quantile(sizes, (0.05, 0.5, 0.95))] if len(sizes) else [""] * 3
    return {
        "split": split,
        "class": class_name,
        "images": images,
        "empty_images": total - len(np.unique(owners)),
        "boxes": len(owners),
        "box_px_05": quantiles[0],
        "box_px_50": quantiles[1],
        "box_px_95": quantiles[2],
    }
