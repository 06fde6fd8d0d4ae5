"""Detection in every photo, resumable: results are cached by the photo's hash, so no photo is searched twice."""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transect import __version__
from transect.census.ground.placement.frames import Frame, Stamp, stamp_of
from transect.census.sightings.candidates import (
    NO_CANDIDATES,
    Candidates,
    arrays_of,
    below_threshold,
    least_candidate,
    most_candidates,
    read_candidates,
    records_of,
    write_candidates,
)
from transect.engine import Boxes, DetectOptions, Detector
from transect.engine.backends import GPU_BACKENDS
from transect.errors import ImageError
from transect.files import atomic_write, sha256_file
from transect.imagery import Raster, Rendering, open_raster
from transect.progress import progress
from transect.wording import count_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FrameDetections:
    """The detections in one photo: `boxes` (n, 4) xyxy in pixels, `scores` (n,), `classes` (n,) names.

    `failure` is the reason why the photo could not be searched; `sha256` is its content's, empty if it could not be
    read. `scale` is the network's pixels a pixel of the photo; `appearance` (tiles, k) are statistics of some tiles,
    without rows where the model package has none to compare them with. `candidates` count nowhere.
    """

    sha256: str
    width: int
    height: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: tuple[str, ...]
    tiles: int
    truncated: bool
    failure: str = ""
    reused: bool = False
    scale: float = 1.0
    appearance: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    candidates: Candidates = NO_CANDIDATES

    def of_candidates(self) -> "FrameDetections":
        """The photo with its candidates in place of what counts."""
        chosen = self.candidates
        return replace(self, boxes=chosen.boxes, scores=chosen.scores, classes=chosen.classes)


def decoding_workers(configured: int | Literal["auto"], backend: str) -> int:
    """Photos decoded at a time: as configured; "auto" is two beside a network on the CPU, all cores beside a GPU."""
    if configured != "auto":
        return configured
    return min(64, max(2, os.cpu_count() or 1)) if backend in GPU_BACKENDS else 2


def package_identity(detector: Detector) -> str:
    """SHA-256 of the package's manifest, which contains the hash of each of its files."""
    return detector.package_sha256


def search_key(detector: Detector, options: DetectOptions) -> str:
    """Cache key: hash of everything but the photo that affects its detections, the hardware and precision too."""
    chosen = asdict(options) | {"classes": sorted(options.classes) if options.classes is not None else None}
    content = {
        "package": package_identity(detector),
        "backend": detector.backend,
        "precision": detector.precision,
        "instructions": detector.instructions,
        "library": detector.library,
        "options": chosen,
        "transect": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def search_frames(
    frames: Sequence[Frame],
    *,
    detector: Detector,
    options: DetectOptions,
    work: Path,
    workers: int,
    max_pixels: int,
    review_conf: float | None = None,
) -> list[FrameDetections]:
    """Search every photo, in parallel with reading and decoding the next; results in the order of `frames`.

    Each result is written to `work` atomically, under the hash of the photo, its scale and the search_key(), as soon as
    it is known: a run that was killed resumes. A photo that cannot be read or decoded, or that is written to while the
    census runs, gives a result with a `failure`. Memory does not grow with the pixels: at most `workers` photos are
    decoded at a time, each of at most `max_pixels`; larger TIFFs are read in windows. Raises OSError when `work`
    cannot be written.

    Candidates of `review_conf` and more, at most most_candidates() a photo, are kept beside each result, in a file of
    their own: what counts is read from the same output of the network by itself, and is the same for each
    `review_conf`.
    """
    stop = threading.Event()
    least = least_candidate(detector, options, review_conf)
    search = _Search(detector, options, work / search_key(detector, options)[:16], max_pixels, stop, least)
    results: list[FrameDetections] = []
    pool = ThreadPoolExecutor(workers)
    try:
        with progress("Detecting", len(frames)) as advance:
            for found in pool.map(search.one, frames):
                results.append(found)
                advance(resumed=found.reused)
    finally:
        # After an interrupt, do not wait for the rest of a large map.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    reused = sum(found.reused for found in results)
    logger.info("%s searched, %d found earlier.", count_of(len(results) - reused, "photo"), reused)
    return results


@dataclass(frozen=True)
class _Search:
    detector: Detector
    options: DetectOptions
    folder: Path
    max_pixels: int
    stop: threading.Event
    least: float | None

    def one(self, frame: Frame) -> FrameDetections:
        """The cached result of a photo, or a new one, which is cached."""
        if frame.unreadable:
            return _failed(frame.problem)
        try:
            stamp = frame.stamp or stamp_of(frame.path)
            digest = sha256_file(frame.path)
            _require_unchanged(frame, stamp)
            kept = self.folder / digest[:2] / f"{digest}{_shown_as(frame.rendering)}{_at(frame.scale)}.json"
            earlier = _read(kept, digest)
            candidates = NO_CANDIDATES if self.least is None else read_candidates(self._beside(kept))
            if earlier is not None and candidates is not None:
                return replace(earlier, candidates=candidates, reused=True)
            try:
                record, low = self._detect(frame)
            except ImageError as error:
                _require_unchanged(frame, stamp)
                return _failed(str(error), digest)
            _require_unchanged(frame, stamp)
        except OSError as error:
            return _failed(f"{frame.name} cannot be read: {error.strerror or error}.")
        except ImageError as error:
            return _failed(str(error))
        candidates = NO_CANDIDATES
        if low is not None:
            # First, so that what is kept of a photo has its candidates, whenever the census is killed.
            candidates = write_candidates(self._beside(kept), low, self.detector.manifest.names)
        if earlier is None:
            atomic_write(kept, json.dumps(record, allow_nan=False))
            earlier = _found(record, digest)
        return replace(earlier, candidates=candidates)

    def _beside(self, kept: Path) -> Path:
        """The file of a photo's candidates, beside what counts."""
        return kept.with_name(f"{kept.name.removesuffix('.json')}-from{self.least!r}.candidates")

    def _detect(self, frame: Frame) -> tuple[dict[str, Any], Boxes | None]:
        """The record of a photo's result, and its candidates where they are asked for."""
        options, names = self._options(frame), self.detector.manifest.names
        conf, _ = self.detector.manifest.thresholds(options)
        readings = [options] if self.least is None else [options, replace(options, conf=self.least)]
        with open_raster(frame.path, name=frame.name, max_pixels=self.max_pixels, rendering=frame.rendering) as raster:
            (counted, *low), tiles = self.detector.detect_boxes(raster, readings, self.stop)
            record = {
                "width": raster.width,
                "height": raster.height,
                "detections": records_of(counted, names),
                "tiles": tiles,
                "truncated": counted.truncated,
                "scale": self.detector.network_scale(raster.width, raster.height, options),
                "look": self._appearance(raster, options).tolist(),
            }
        return record, below_threshold(low[0], conf, most_candidates(tiles)) if low else None

    def _options(self, frame: Frame) -> DetectOptions:
        return replace(self.options, scale=frame.scale)

    def _appearance(self, raster: Raster, options: DetectOptions) -> NDArray[np.float64]:
        profile = self.detector.profile
        if profile is None:
            return np.empty((0, 0))
        statistics, features = self.detector.sample_appearance(raster, options)
        if profile.space is None:
            return statistics
        if features.shape[1] != len(profile.space.mean):
            # Without OpenVINO, or of a model that names no layers.
            return np.empty((0, 0))
        return np.column_stack([statistics, profile.space.project(features)])


def _shown_as(rendering: Rendering) -> str:
    """The part of a cache file's name for the rendering of the samples; empty for a picture as it is stored."""
    bands = "" if rendering.bands is None else "-bands" + "-".join(map(str, rendering.bands))
    return bands + ("" if rendering.depth is None else f"-{rendering.depth}bit")


def _at(scale: float | None) -> str:
    """The part of a cache file's name for the scale at which a photo was searched; empty where none is configured."""
    return "" if scale is None else f"-scale{scale!r}"


def _require_unchanged(frame: Frame, stamp: Stamp) -> None:
    """Raise ImageError if the photo was written to, since its position or its boxes are then another photo's."""
    if stamp_of(frame.path) != stamp:
        raise ImageError(f"{frame.name} changed while the census ran; run it again when nothing writes to the photos.")


def _read(path: Path, digest: str) -> FrameDetections | None:
    try:
        return _found(json.loads(path.read_text(encoding="utf-8")), digest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # Damaged from outside: the photo is searched again.
        return None


def _found(record: dict[str, Any], digest: str) -> FrameDetections:
    boxes, scores, classes = arrays_of(record["detections"])
    return FrameDetections(
        sha256=digest,
        width=int(record["width"]),
        height=int(record["height"]),
        boxes=boxes,
        scores=scores,
        classes=classes,
        tiles=int(record["tiles"]),
        truncated=bool(record["truncated"]),
        scale=float(record["scale"]),
        appearance=np.array(record["look"], np.float64) if record["look"] else np.empty((0, 0)),
    )


def _failed(reason: str, digest: str = "") -> FrameDetections:
    return FrameDetections(
        sha256=digest,
        width=0,
        height=0,
        boxes=np.empty((0, 4)),
        scores=np.empty(0),
        classes=(),
        tiles=0,
        truncated=False,
        failure=reason,
    )
