"""Detection in one uploaded image, on a worker thread, with the time of each stage."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transect.engine import DetectOptions, Detector, ImageResult
from transect.errors import ImageError, ImageTooLargeError, StoppedError
from transect.imagery import (
    LONGEST_JPEG_SIDE,
    UNKNOWN_COST_BYTES,
    PictureCost,
    Raster,
    annotate,
    as_raster,
    encode_jpeg,
    open_raster,
    picture_cost,
)
from transect.serving.detection.decode_budget import DecodeBudget
from transect.serving.http.deadline import Deadline
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import Upload
from transect.serving.models.slot import ServedModel

OutputFormat = Literal["result", "json", "image"]

_MIB = 1 << 20


@dataclass(frozen=True)
class ImageLimits:
    """Limits for one image, and the decode budget that all images share."""

    pixels: int
    tiles: int
    budget: DecodeBudget


@dataclass(frozen=True)
class DetectionOutput:
    """A result, its encoding as JSON or as JPEG with boxes if requested (else empty), and the seconds of each stage."""

    result: ImageResult
    encoded: bytes
    stages: dict[str, float]


def detect_upload(
    model: ServedModel,
    upload: Upload,
    options: DetectOptions,
    *,
    limits: ImageLimits,
    deadline: Deadline,
    output: OutputFormat,
    submitted: float,
) -> DetectionOutput:
    """Decode, detect and encode. `submitted` is perf_counter() when the work was queued.

    Raises ImageError for an image that cannot be read or drawn, ProblemError (422) for one with too many tiles,
    StoppedError when `deadline` has passed or was stopped.
    """
    if deadline.over:
        raise StoppedError("The request ended before its image was decoded.")
    detector = model.detector
    with _opened(upload, detector, options, limits, deadline, draw=output == "image") as (raster, began):
        decoded = perf_counter()
        drawable = _drawable(raster, upload.name) if output == "image" else None
        result = detector.detect(raster, name=upload.name, options=options, stop=deadline.stop)
        detected = perf_counter()
        encoded = b""
        if drawable is not None:
            encoded = encode_jpeg(annotate(drawable, result.detections))
    if output == "json":
        # Encode here and not on the event loop: a thousand boxes take milliseconds.
        encoded = as_json(result)
    stages = {
        "queue": began - submitted,
        "decode": decoded - began,
        "infer": result.seconds.infer,
        "post": result.seconds.post,
    }
    if encoded:
        stages["encode"] = perf_counter() - detected
    return DetectionOutput(result, encoded, stages)


def as_json(result: ImageResult) -> bytes:
    """Return the result of one image as compact JSON."""
    return json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@contextmanager
def _opened(
    upload: Upload, detector: Detector, options: DetectOptions, limits: ImageLimits, deadline: Deadline, *, draw: bool
) -> Iterator[tuple[Raster, float]]:
    """Open the image with its reservation in the decode budget; yield it and the time when decoding began."""

    def check(width: int, height: int) -> None:
        _check_pixels(upload.name, width, height, limits.pixels)
        _check_tiles(upload.name, detector.tile_count(width, height, options), limits.tiles)

    if not isinstance(upload.data, bytes):
        raster = as_raster(upload.data)
        check(raster.width, raster.height)
        yield raster, perf_counter()
        return
    cost = picture_cost(upload.data, upload.name)
    if cost is not None:
        check(cost.width, cost.height)
    with limits.budget.reserve(_decode_bytes(upload.name, cost, limits.budget.total, draw=draw), deadline):
        began = perf_counter()
        with open_raster(upload.data, name=upload.name, max_pixels=limits.pixels) as raster:
            if cost is None:
                check(raster.width, raster.height)
            yield raster, began


def _decode_bytes(name: str, cost: PictureCost | None, total: int, *, draw: bool) -> int:
    """Return the bytes to reserve. Raises ImageTooLargeError if they exceed the `total` budget."""
    if cost is None:
        # Most files of unknown cost are not images, which cost nothing to decode.
        return min(UNKNOWN_COST_BYTES, total)
    # Boxes are drawn on a copy.
    size = cost.held_bytes + (3 * cost.width * cost.height if draw else 0)
    if size > total:
        raise ImageTooLargeError(
            f"{name} has {cost.width} x {cost.height} pixels of a kind that takes {size / _MIB:.0f} MiB to decode, "
            f"more than the {total / _MIB:.0f} MiB that all images share (TRANSECT_DECODE_MB); save it as JPEG of "
            "8 bits, or cut it into smaller files."
        )
    return size


def _check_pixels(name: str, width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise ImageTooLargeError(
            f"{name} has {width} x {height} pixels, more than the limit of {limit} (TRANSECT_MAX_PIXELS)."
        )


def _check_tiles(name: str, tiles: int, limit: int) -> None:
    if tiles > limit:
        raise ProblemError(
            422,
            "too-many-tiles",
            f"{name} would take {tiles} tiles, more than the limit of {limit} (TRANSECT_MAX_TILES); "
            "use a larger tile=N or tile=off, or cut the image into smaller files.",
        )


def _drawable(raster: Raster, name: str) -> NDArray[np.uint8]:
    if raster.pixels is None or max(raster.width, raster.height) > LONGEST_JPEG_SIDE:
        raise ImageError(f"{name} is too large to be drawn as JPEG; use format=json.")
    return raster.pixels
