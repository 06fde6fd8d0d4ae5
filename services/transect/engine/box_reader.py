"""Decode the network's output with the options of a request: thresholds, classes, number of boxes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from transect.engine.boxes.heads import decode, least_score
from transect.engine.package import PackageManifest
from transect.engine.types import Boxes, DetectOptions
from transect.errors import InputError


@dataclass(frozen=True)
class BoxReader:
    """Decodes boxes from an output; ignores anchors whose raw scores are all at most `least`."""

    read: Callable[[NDArray[np.float32]], Boxes]
    least: float


def box_reader(manifest: PackageManifest, options: DetectOptions, score_shift: NDArray[np.float32] | None) -> BoxReader:
    """The reader for a package and options. Raises InputError for a class that the model does not have."""
    conf, iou = manifest.thresholds(options)
    read = partial(
        decode,
        head_kind=manifest.head_kind,
        conf=conf,
        iou=iou,
        class_ids=_class_ids(manifest.names, options.classes),
        max_det=options.max_det,
        multi_label=options.multi_label,
        score_shift=score_shift,
    )
    return BoxReader(read, least_score(conf, score_shift))


def _class_ids(names: tuple[str, ...], classes: frozenset[str] | None) -> NDArray[np.int64] | None:
    if classes is None:
        return None
    if unknown := sorted(classes - set(names)):
        raise InputError(f"The model has no class {', '.join(map(repr, unknown))}; it has {', '.join(names)}.")
    return np.array([k for k, name in enumerate(names) if name in classes], dtype=np.int64)
