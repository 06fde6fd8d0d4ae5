"""Detection in every photo, resumable: results are kept by the photo's hash, so no photo is searched twice."""

import hashlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from transect import __version__
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.photos import ChangedPhotoError, Content
from transect.census.parts.found import FoundParts, Look, PhotoPart
from transect.census.sightings.candidates import (
    below_threshold,
    candidates_of,
    least_candidate,
    most_candidates,
    records_of,
)
from transect.census.sightings.found import FrameDetections, detections_of, not_searched
from transect.census.sightings.survey_detections import SurveyDetections
from transect.engine import Boxes, DetectOptions, Detector
from transect.engine.backends import GPU_BACKENDS
from transect.errors import ImageError
from transect.imagery import Raster, Rendering, open_raster
from transect.progress import progress
from transect.stores import FolderStore
from transect.wording import count_of

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# Photos that wait for their turn, so that memory does not grow with the survey.
_AHEAD = 64


class Searcher(Protocol):
    """What decides the boxes of a photo, beside the options: a Detector has it, and what was kept of one."""

    @property
    def package_sha256(self) -> str:
        """SHA-256 of the package's manifest, which contains the hash of each of its files."""

    @property
    def backend(self) -> str:
        """The name of the library that runs the network."""

    @property
    def precision(self) -> str:
        """The numeric precision of inference."""

    @property
    def instructions(self) -> str:
        """The CPU's instruction set and kernels, or the GPU's architecture and name."""

    @property
    def library(self) -> str:
        """The inference library with its version."""


def decoding_workers(configured: int | Literal["auto"], backend: str) -> int:
    """Photos decoded at a time: as configured; "auto" is two beside a network on the CPU, all cores beside a GPU."""
    if configured != "auto":
        return configured
    return min(64, max(2, os.cpu_count() or 1)) if backend in GPU_BACKENDS else 2


def package_identity(detector: Searcher) -> str:
    """SHA-256 of the package's manifest, which contains the hash of each of its files."""
    return detector.package_sha256


def search_key(detector: Searcher, options: DetectOptions) -> str:
    """Cache key: hash of everything but the photo that affects its detections, the hardware and precision too."""
    return hashlib.sha256(json.dumps(search_content(detector, options), sort_keys=True).encode()).hexdigest()


def search_content(detector: Searcher, options: DetectOptions) -> dict[str, Any]:
    """Everything but the photo that affects its detections, as JSON takes it."""
    chosen = asdict(options) | {"classes": sorted(options.classes) if options.classes is not None else None}
    return {
        "package": package_identity(detector),
        "backend": detector.backend,
        "precision": detector.precision,
        "instructions": detector.instructions,
        "library": detector.library,
        "options": chosen,
        "transect": __version__,
    }


def search_frames(
    frames: Sequence[Frame],
    *,
    detector: Detector,
    options: DetectOptions,
    parts: FoundParts,
    workers: int,
    max_pixels: int,
    review_conf: float | None = None,
) -> SurveyDetections:
    """Search every photo, in parallel with reading and decoding the next; results in the order of `frames`.

    Each result is kept in `parts`, under the hash of the photo, its scale and the search_key(), within seconds: a run
    that was killed resumes. A photo that cannot be read or decoded, or that is written to while the census runs, gives
    a result with a `failure`. Memory does not grow with the pixels: at most `workers` photos are decoded at a time,
    each of at most `max_pixels`; larger TIFFs are read in windows. Raises OSError or StoreError when `parts` cannot be
    written, and StoreError where the photos' store is away.

    Candidates of `review_conf` and more, at most most_candidates() a photo, are kept beside each result: what counts is
    read from the same output of the network by itself, and is the same for each `review_conf`.
    """
    stop = threading.Event()
    least = least_candidate(detector, options, review_conf)
    search = _Search(detector, options, parts, max_pixels, stop, least)
    with parts, _stopping(stop, workers) as pool, progress("Detecting", len(frames)) as advance:

        def searched() -> Iterator[FrameDetections]:
            for found in _in_order(pool, search.one, frames, workers + _AHEAD):
                advance(resumed=found.reused)
                yield found

        results = SurveyDetections.collect(searched())
    reused = int(results.reused.sum())
    logger.info("%s searched, %d found earlier.", count_of(len(results) - reused, "photo"), reused)
    return results


def kept_detections(
    frames: Sequence[Frame], *, least: float | None, parts: FoundParts
) -> tuple[SurveyDetections, list[Frame]]:
    """The kept results in the order of `frames`, and the photos that nobody has searched yet.

    Where photos are missing, the results are of no use. `least` is the threshold of candidates, None for none. A photo
    is read only where no earlier look says which content it has. Raises StoreError where the photos' store is away.
    """
    search = _Kept(parts, least)
    missing: list[Frame] = []
    with ThreadPoolExecutor(16) as pool, progress("Collecting", len(frames)) as advance:

        def kept() -> Iterator[FrameDetections]:
            for frame, one in zip(frames, _in_order(pool, search.one, frames, _AHEAD), strict=True):
                if one is None:
                    missing.append(frame)
                else:
                    yield one
                advance()

        found = SurveyDetections.collect(kept())
    return found, missing


def parts_below(folder: Path, detector: Searcher, options: DetectOptions) -> FoundParts:
    """The kept results of this search in a folder."""
    return FoundParts(FolderStore(folder), search_key(detector, options))


@contextmanager
def _stopping(stop: threading.Event, workers: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        # After an interrupt, do not wait for the rest of a large map.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Answer], items: Iterable[Item], ahead: int
) -> Iterator[Answer]:
    """The answers for each item in their order, of which at most `ahead` wait or are computed at a time."""
    waiting = deque[Future[Answer]]()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@dataclass(frozen=True)
class _Kept:
    """Looks a photo's result up."""

    parts: FoundParts
    least: float | None

    def one(self, frame: Frame) -> FrameDetections | None:
        """The kept result of a photo, or None."""
        if frame.unreadable:
            return not_searched(frame.problem)
        try:
            looked = self.parts.looked(frame.name, frame.photo.tag())
            if looked is not None and looked.failure:
                return not_searched(looked.failure, looked.sha256)
            if looked is not None:
                digest = looked.sha256
            else:
                with frame.photo.content() as content:
                    digest = content.sha256()
        except OSError as error:
            return not_searched(_unreadable(frame, error))
        except ChangedPhotoError:
            return not_searched(_changed(frame))
        return self.found(digest, frame)

    def found(self, digest: str, frame: Frame) -> FrameDetections | None:
        """What is kept of a content as a photo shows it, with its candidates; None where either is missing."""
        part = self.parts.find(digest, _variant(frame))
        if part is None or (self.least is not None and repr(self.least) not in part.candidates):
            return None
        found = replace(detections_of(part.counted, digest), reused=True)
        if self.least is None:
            return found
        return replace(found, candidates=candidates_of(part.candidates[repr(self.least)]))


@dataclass(frozen=True)
class _Search:
    detector: Detector
    options: DetectOptions
    parts: FoundParts
    max_pixels: int
    stop: threading.Event
    least: float | None

    def one(self, frame: Frame) -> FrameDetections:
        """The kept result of a photo, or a new one, which is kept."""
        if frame.unreadable:
            return not_searched(frame.problem)
        digest, tag, part = "", "", None
        kept = _Kept(self.parts, self.least)
        try:
            tag = frame.photo.tag()
            looked = self.parts.looked(frame.name, tag)
            if looked is not None and not looked.failure:
                earlier = kept.found(looked.sha256, frame)
                if earlier is not None:
                    return earlier
            stamp = frame.stamp or frame.photo.stamp()
            with frame.photo.content() as content:
                digest = content.sha256()
                _require_unchanged(frame, stamp)
                earlier = kept.found(digest, frame)
                if earlier is None:
                    part = self._detect(frame, content)
            _require_unchanged(frame, stamp)
        except OSError as error:
            return self._failed(frame, "", digest, _unreadable(frame, error))
        except ChangedPhotoError:
            return self._failed(frame, "", digest, _changed(frame))
        except ImageError as error:
            return self._failed(frame, tag, digest, str(error))
        self.parts.keep(Look(frame.name, tag, digest, _variant(frame)), part)
        # As it was kept; an earlier result of the same content, which another photo has too, stays.
        found = kept.found(digest, frame)
        assert found is not None  # noqa: S101 - it was kept one line before
        return found if part is None else replace(found, reused=False)

    def _failed(self, frame: Frame, tag: str, digest: str, reason: str) -> FrameDetections:
        """Keep the reason for whoever only counts; a search tries again."""
        self.parts.keep(Look(frame.name, tag, digest, _variant(frame), reason), None)
        return not_searched(reason, digest)

    def _detect(self, frame: Frame, content: Content) -> PhotoPart:
        """What counts in a photo, and its candidates where they are asked for."""
        options, names = replace(self.options, scale=frame.scale), self.detector.manifest.names
        conf, _ = self.detector.manifest.thresholds(options)
        readings = [options] if self.least is None else [options, replace(options, conf=self.least)]
        with open_raster(
            content.source, name=frame.name, max_pixels=self.max_pixels, rendering=frame.rendering
        ) as raster:
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
        if self.least is None:
            return PhotoPart(counted=record)
        least = below_threshold(low[0], conf, most_candidates(tiles))
        return PhotoPart(counted=record, candidates={repr(self.least): _candidate_record(least, names)})

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


def _candidate_record(boxes: Boxes, names: Sequence[str]) -> dict[str, Any]:
    return {"detections": records_of(boxes, names), "truncated": boxes.truncated}


def _variant(frame: Frame) -> str:
    """How a photo is shown to the network, beside its content: bands, depth and scale."""
    return f"{_shown_as(frame.rendering)}{_at(frame.scale)}"


def _shown_as(rendering: Rendering) -> str:
    """The rendering of the samples; empty for a picture as it is stored."""
    bands = "" if rendering.bands is None else "-bands" + "-".join(map(str, rendering.bands))
    return bands + ("" if rendering.depth is None else f"-{rendering.depth}bit")


def _at(scale: float | None) -> str:
    """The scale at which a photo is searched; empty where none is configured."""
    return "" if scale is None else f"-scale{scale!r}"


def _require_unchanged(frame: Frame, stamp: tuple[int | str, int]) -> None:
    """Raise ChangedPhotoError if the photo was written to: its position or its boxes are then another photo's."""
    if frame.photo.stamp() != stamp:
        raise ChangedPhotoError(frame.name)


def _changed(frame: Frame) -> str:
    return f"{frame.name} changed while the census ran; run it again when nothing writes to the photos."


def _unreadable(frame: Frame, error: OSError) -> str:
    return f"{frame.name} cannot be read: {error.strerror or error}."
