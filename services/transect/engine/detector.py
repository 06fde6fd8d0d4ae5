"""The detector: an opened model package that searches images."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray
from transect.engine.backends import Backend, open_package_backend
from transect.engine.box_reader import BoxReader, box_reader
from transect.engine.boxes.heads import check_output
from transect.engine.boxes.stitch import stitch
from transect.engine.package import (
    MODEL_FILE,
    PackageManifest,
    Precision,
    package_sha256,
    read_manifest,
    verify_package,
)
from transect.engine.profile.appearance import appearance, sample_tiles
from transect.engine.profile.network_features import NetworkFeatures
from transect.engine.profile.validation_profile import PROFILE_FILE, ValidationProfile, read_profile
from transect.engine.tiling import Scaling, SearchPlan, network_scale, plan_search, tile_side
from transect.engine.types import Boxes, DetectOptions, ImageResult, ModelRef, StageSeconds
from transect.errors import PackageError, StoppedError
from transect.imagery import LetterboxTransform, Raster, Tile, as_raster, count_tiles, letterbox
from transect.settings import Settings

# Pixels of a large raster that are read ahead: 96 MB as RGB.
_AHEAD_PIXELS = 32_000_000

_DEFAULT_OPTIONS = DetectOptions()


@dataclass(frozen=True)
class _TileResult:
    """The result of one tile: boxes for each reader, and the seconds of inference and of decoding."""

    boxes: list[Boxes]
    seconds: tuple[float, float]


def _raise_if_stopped(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise StoppedError("The search was stopped before it was done; give it more time, or a smaller image.")


class Detector:
    """A loaded model that searches images. Safe to call from several threads.

    Usage::

        with Detector.open(Path("package")) as detector:
            with open_raster(path, max_pixels=250_000_000) as image:
                result = detector.detect(image, name=path.name)
    """

    def __init__(
        self,
        manifest: PackageManifest,
        ref: ModelRef,
        backend: Backend,
        *,
        package_sha256: str = "",
        score_shift: Sequence[float] = (),
        package: Path | None = None,
    ) -> None:
        """`backend` runs the package's model and is closed with the detector; `score_shift` as in Variant.

        `package` is the folder, from which the profile and the feature network are read on first use.
        """
        self.manifest = manifest
        self.package = package
        self._score_shift = np.array(score_shift, np.float32) if any(score_shift) else None
        self.ref = replace(ref, precision=backend.precision)
        self.package_sha256 = package_sha256  # of package.json; empty for a model outside a package
        self._backend = backend
        self._local = threading.local()
        # Each worker holds one tile, so memory does not grow with the number of tiles.
        self._pool = ThreadPoolExecutor(backend.parallel, thread_name_prefix="detector")

    @classmethod
    def open(
        cls,
        package: Path,
        *,
        ref: ModelRef | None = None,
        backend: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        max_batch: int = 16,
        batch_wait_ms: float = 2.0,
        verify: bool = True,
        cpu_fallback: bool = False,
    ) -> "Detector":
        """Load the model package in folder `package`.

        `ref` is the registered version (default: the folder's name). `precision` is fp32, bf16, int8,
        fp16, tf32, or auto: the fastest of the package that this backend and machine compute in hardware.
        `backend`, `threads`, `max_batch` and `batch_wait_ms` as in open_backend, `cpu_fallback` as in
        open_package_backend. `verify=False` skips the hashes of a package that was just verified. Raises
        PackageError if the package fails verification or lacks the precision, InputError for a backend
        or a precision that is not available here.
        """
        manifest = verify_package(package) if verify else read_manifest(package)
        engine = open_package_backend(
            package,
            manifest,
            backend=backend,
            precision=precision,
            threads=threads,
            max_batch=max_batch,
            batch_wait_ms=batch_wait_ms,
            cpu_fallback=cpu_fallback,
        )
        reference = ref or ModelRef(package.resolve().name, run_id=manifest.run_id)
        detector = cls(
            manifest,
            reference,
            engine,
            package_sha256=package_sha256(package),
            score_shift=manifest.score_shift(engine.precision),
            package=package,
        )
        try:
            detector.probe()
        except BaseException:
            detector.close()
            raise
        return detector

    @classmethod
    def from_settings(
        cls,
        package: Path,
        settings: Settings,
        *,
        ref: ModelRef | None = None,
        verify: bool = True,
        cpu_fallback: bool = False,
    ) -> "Detector":
        """Open `package` with backend, precision, threads and batches of the settings. Raises as open() does."""
        return cls.open(
            package,
            ref=ref,
            backend=settings.backend,
            precision=settings.precision,
            threads=settings.threads,
            max_batch=settings.max_batch,
            batch_wait_ms=settings.batch_wait_ms,
            verify=verify,
            cpu_fallback=cpu_fallback,
        )

    @property
    def backend(self) -> str:
        """ "openvino", "onnxruntime", "cuda" or "tensorrt"."""
        return self._backend.name

    @property
    def precision(self) -> Precision:
        """The numeric precision of inference."""
        return self._backend.precision

    @property
    def instructions(self) -> str:
        """The CPU's instruction set and kernels, or the GPU's architecture and name."""
        return self._backend.instructions

    @property
    def library(self) -> str:
        """The inference library with its version."""
        return self._backend.library

    @property
    def parallel(self) -> int:
        """Number of tiles searched concurrently."""
        return self._backend.parallel

    def detect(
        self,
        image: NDArray[np.uint8] | Raster,
        *,
        name: str = "",
        options: DetectOptions = _DEFAULT_OPTIONS,
        stop: threading.Event | None = None,
        fifo: bool = False,
    ) -> ImageResult:
        """Search a raster or an RGB image of shape (H, W, 3), uint8; boxes are in its pixels, best score first.

        Windows of a large raster are read in the calling thread, just ahead of the search. Once
        `stop` is set, no further tile is started. Concurrent callers share the machine evenly. With
        `fifo`, for batch jobs with many threads, all tiles of an image are queued at once and searched
        after those of earlier images, which limits the number of images in memory.

        Raises StoppedError when stopped, InputError for an array of another shape or type or an unknown class,
        ImageError for a raster that cannot be read completely, PackageError for an unusable model output.
        """
        raster = as_raster(image)
        (boxes,), tiles, seconds = self._detect(raster, [options], stop, fifo)
        width, height = raster.width, raster.height
        return ImageResult(
            image=name,
            width=width,
            height=height,
            detections=boxes.named(self.manifest.names),
            model=self.ref,
            tiles=tiles,
            truncated=boxes.truncated,
            remarks=raster.remarks,
            seconds=seconds,
        )

    def detect_boxes(
        self, image: NDArray[np.uint8] | Raster, options: Sequence[DetectOptions], stop: threading.Event | None = None
    ) -> tuple[list[Boxes], int]:
        """Run the network once and decode its output for each of `options`; returns the boxes, and the tile count.

        Tiles and scale are those of the first of `options`. `stop`, and what is raised, as in detect() with `fifo`.
        """
        boxes, tiles, _ = self._detect(as_raster(image), options, stop, fifo=True)
        return boxes, tiles

    def tile_count(self, width: int, height: int, options: DetectOptions = _DEFAULT_OPTIONS) -> int:
        """The number of tiles for an image of `width` x `height` pixels; does not search."""
        side, overlap = tile_side(width, height, options, self.manifest.image_size)
        return 1 if side is None else count_tiles(width, height, side, overlap)

    def network_scale(self, width: int, height: int, options: DetectOptions = _DEFAULT_OPTIONS) -> float:
        """Pixels of the network for each pixel of an image of `width` x `height`, along a side.

        It is 1 for tiles of the input's size, else the factor that fits a tile, or the whole image, into the input.
        """
        return network_scale(width, height, options, self.manifest.image_size)

    def _detect(
        self, raster: Raster, options: Sequence[DetectOptions], stop: threading.Event | None, fifo: bool
    ) -> tuple[list[Boxes], int, StageSeconds]:
        readers = [box_reader(self.manifest, option, self._score_shift) for option in options]
        width, height = raster.width, raster.height
        plan = plan_search(width, height, options[0], self.manifest.image_size)
        tiles = plan.tiles
        found = list(self._search_tiles(raster, plan, readers, stop, self._queue_limit(raster, tiles, fifo)))
        infer, post = (sum(part.seconds[k] for part in found) for k in (0, 1))
        if len(tiles) == 1:
            return found[0].boxes, 1, StageSeconds(infer, post)
        start = perf_counter()
        scale = 1.0 if options[0].scale is None else options[0].scale
        boxes = [stitch([part.boxes[k] for part in found], tiles, width, height, scale) for k in range(len(options))]
        return boxes, len(tiles), StageSeconds(infer, post + perf_counter() - start)

    @cached_property
    def profile(self) -> ValidationProfile | None:
        """The package's validation profile, None if it has none. Raises PackageError."""
        if self.package is None or PROFILE_FILE not in self.manifest.files:
            return None
        return read_profile(self.package)

    def sample_appearance(
        self, image: NDArray[np.uint8] | Raster, options: DetectOptions = _DEFAULT_OPTIONS
    ) -> tuple[FloatArray, FloatArray]:
        """Appearance of a sample of an image's t tiles: statistics (t, 8), and mean network features (t, d).

        `options` are those of the search. d is 0 if the model's features are not available. Raises ImageError for
        a raster that cannot be read.
        """
        raster = as_raster(image)
        plan = plan_search(raster.width, raster.height, options, self.manifest.image_size)
        statistics, features = [], []
        for number in sample_tiles(len(plan.tiles)):
            tile = plan.tiles[number]
            square, transform = self._letterboxed(raster.read(tile.x, tile.y, tile.width, tile.height), plan.scaling)
            picture = np.array([[0, 0, transform.width, transform.height]], np.float32)
            right, bottom = transform.to_input(picture)[0, 2:]
            statistics.append(appearance(square[transform.top : round(bottom), transform.left : round(right)]))
            features.append(np.empty(0) if self._features is None else self._features.describe(square))
        return np.stack(statistics), np.stack(features)

    @cached_property
    def _features(self) -> NetworkFeatures | None:
        if self.package is None:
            return None
        return NetworkFeatures.open(self.package / MODEL_FILE, self.manifest.image_size)

    def probe(self) -> None:
        """Run one inference on a fixed pattern. Raises PackageError if the output is not usable."""
        size = self.manifest.image_size
        ramp = np.linspace(0, 255, size, dtype=np.uint8)
        pattern = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), axis=2)
        output = self._backend.infer(pattern)
        check_output(output, self.manifest.head_kind, len(self.manifest.names))
        if self.manifest.head_kind == "end-to-end":
            class_ids, known = output[0, :, 5], len(self.manifest.names)
            if ((class_ids < 0) | (class_ids >= known)).any():
                raise PackageError(f"The model names classes beyond the {known} of its package.json; build it again.")

    def close(self) -> None:
        """Finish the tiles in progress and reject new ones. May be called twice."""
        self._pool.shutdown(wait=True)
        self._backend.close()

    def __enter__(self) -> "Detector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _search(
        self,
        view: NDArray[np.uint8],
        tile: Tile,
        scaling: Scaling | None,
        readers: Sequence[BoxReader],
        stop: threading.Event | None,
    ) -> _TileResult:
        """The boxes of one tile in pixels of the image, for each reader."""
        _raise_if_stopped(stop)
        start = perf_counter()
        square, transform = self._letterboxed(view, scaling)
        size = (tile.width / transform.width, tile.height / transform.height)
        output = self._backend.infer(square, min(reader.least for reader in readers))
        inferred = perf_counter()
        check_output(output, self.manifest.head_kind, len(self.manifest.names))
        offset = np.array([tile.x, tile.y, tile.x, tile.y], dtype=np.float32)
        # Pixels of the image for each of the resampled tile's; 1 without resampling.
        pixels = np.array([*size, *size], dtype=np.float32)
        boxes = []
        for found in (reader.read(output) for reader in readers):
            placed = transform.to_image(found.xyxy) * pixels + offset
            boxes.append(Boxes(placed, found.scores, found.class_ids, found.truncated))
        return _TileResult(boxes, (inferred - start, perf_counter() - inferred))

    def _letterboxed(
        self, view: NDArray[np.uint8], scaling: Scaling | None
    ) -> tuple[NDArray[np.uint8], LetterboxTransform]:
        """The letterboxed tile, in this thread's input buffer."""
        fills = None
        if scaling is not None:
            view, fills = scaling.resampled(view), scaling.side
        return letterbox(view, self.manifest.image_size, into=self._square(), fills=fills)

    def _square(self) -> NDArray[np.uint8]:
        """This thread's input buffer; allocating one for every tile costs more than scaling into it."""
        if not hasattr(self._local, "square"):
            self._local.square = np.empty((self.manifest.image_size,) * 2 + (3,), dtype=np.uint8)
        square: NDArray[np.uint8] = self._local.square
        return square

    def _queue_limit(self, raster: Raster, tiles: Sequence[Tile], fifo: bool) -> int:
        """The limit of an image's tiles in the queue: a huge image must not block small ones."""
        few, many = 2 * self.parallel, len(tiles)
        if raster.pixels is None:
            many = max(1, _AHEAD_PIXELS // (tiles[0].width * tiles[0].height))
            few = min(few, many)
        return many if fifo else few

    def _search_tiles(
        self,
        raster: Raster,
        plan: SearchPlan,
        readers: Sequence[BoxReader],
        stop: threading.Event | None,
        ahead: int,
    ) -> Iterator[_TileResult]:
        """Search the tiles on the pool and yield their results in order."""
        waiting: deque[Future[_TileResult]] = deque()
        try:
            for tile in plan.tiles:
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
                _raise_if_stopped(stop)
                view = raster.read(tile.x, tile.y, tile.width, tile.height)
                waiting.append(self._submit(view, tile, plan.scaling, readers, stop))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _submit(
        self,
        view: NDArray[np.uint8],
        tile: Tile,
        scaling: Scaling | None,
        readers: Sequence[BoxReader],
        stop: threading.Event | None,
    ) -> Future[_TileResult]:
        try:
            return self._pool.submit(self._search, view, tile, scaling, readers, stop)
        except RuntimeError as error:
            raise PackageError(f"The detector of {self.ref.name} is closed; open its package again.") from error
