"""One opened model package: images in, detections out."""

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
from transect.engine.profile.appearance import appearance, sampled
from transect.engine.profile.network_features import NetworkFeatures
from transect.engine.profile.validation_profile import PROFILE_FILE, ValidationProfile, read_profile
from transect.engine.tiling import Scaling, SearchPlan, network_scale, plan_search, tile_side
from transect.engine.types import Boxes, DetectOptions, ImageResult, ModelRef, StageSeconds
from transect.errors import PackageError, StoppedError
from transect.imagery import LetterboxTransform, Raster, Tile, as_raster, count_tiles, letterbox
from transect.settings import Settings

FloatArray = NDArray[np.float64]

# Windows of a large raster that are read ahead: 96 MB as RGB.
_AHEAD_PIXELS = 32_000_000

_DEFAULT_OPTIONS = DetectOptions()


@dataclass(frozen=True)
class _Part:
    """What one tile gave: boxes for each reader, and the seconds of inference and of reading its output."""

    boxes: list[Boxes]
    seconds: tuple[float, float]


def _go_on(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise StoppedError("The search was stopped before it was done; give it more time, or a smaller image.")


class Detector:
    """A model that is ready to search images. Any number of threads may call it at once.

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

        `package` is the folder, for what is read from it later.
        """
        self.manifest = manifest
        self.package = package
        self._score_shift = np.array(score_shift, np.float32) if any(score_shift) else None
        self.ref = replace(ref, precision=backend.precision)
        self.package_sha256 = package_sha256  # of package.json; empty for a model that is in no package
        self._backend = backend
        self._local = threading.local()
        # Workers hold one tile each, so memory does not grow with the image's number of tiles.
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
        outlive_gpu: bool = False,
    ) -> "Detector":
        """Load the model package in folder `package`.

        `ref` says which registered version it is (default: the folder's name). `precision` is fp32,
        bf16, int8, fp16, tf32, or auto: the fastest of the package that this backend and machine compute in hardware.
        `backend`, `threads`, `max_batch` and `batch_wait_ms` as in open_backend, `outlive_gpu` as in
        open_package_backend. `verify=False` skips the hashes of a package that was just verified. Raises
        PackageError when the package does not hold or lacks the precision, InputError for a backend
        or a precision that cannot be had here.
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
            outlive_gpu=outlive_gpu,
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
        outlive_gpu: bool = False,
    ) -> "Detector":
        """Open `package` as the settings say: backend, precision, threads and batches. Raises as open() does."""
        return cls.open(
            package,
            ref=ref,
            backend=settings.backend,
            precision=settings.precision,
            threads=settings.threads,
            max_batch=settings.max_batch,
            batch_wait_ms=settings.batch_wait_ms,
            verify=verify,
            outlive_gpu=outlive_gpu,
        )

    @property
    def backend(self) -> str:
        """ "openvino", "onnxruntime", "cuda" or "tensorrt"."""
        return self._backend.name

    @property
    def precision(self) -> Precision:
        """What inference runs in."""
        return self._backend.precision

    @property
    def instructions(self) -> str:
        """What inference computes with: the CPU's instruction set and kernels, or the GPU's architecture and name."""
        return self._backend.instructions

    @property
    def library(self) -> str:
        """The program that computes, with its version."""
        return self._backend.library

    @property
    def parallel(self) -> int:
        """Tiles that are searched at the same time."""
        return self._backend.parallel

    def detect(
        self,
        image: NDArray[np.uint8] | Raster,
        *,
        name: str = "",
        options: DetectOptions = _DEFAULT_OPTIONS,
        stop: threading.Event | None = None,
        in_turn: bool = False,
    ) -> ImageResult:
        """Search a raster or an RGB image of shape (H, W, 3), uint8; boxes are in its pixels, best score first.

        Windows of a large raster are read in the calling thread, just ahead of the search. Once
        `stop` is set no further tile is started. Callers at the same time share the machine evenly;
        `in_turn` is for one who brings many images from several threads: each is queued at once and
        searched after those before it, so that not all of them are decoded at the same time.

        Raises StoppedError when stopped, InputError for an array that is no such image or an unknown
        class in `options.classes`, ImageError for a raster that cannot be read to its end,
        PackageError when the model's output is not usable.
        """
        raster = as_raster(image)
        (boxes,), tiles, seconds = self._detect(raster, [options], stop, in_turn)
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
        self, image: NDArray[np.uint8] | Raster, options: Sequence[DetectOptions]
    ) -> tuple[list[Boxes], int]:
        """Search once, read the result several ways: the boxes for each of `options`, and the tile count.

        Tiles and scale are those of the first of `options`. Raises as detect() does.
        """
        boxes, tiles, _ = self._detect(as_raster(image), options, None, in_turn=True)
        return boxes, tiles

    def tile_count(self, width: int, height: int, options: DetectOptions = _DEFAULT_OPTIONS) -> int:
        """How many tiles an image of `width` x `height` pixels would take; costs nothing."""
        side, overlap = tile_side(width, height, options, self.manifest.image_size)
        return 1 if side is None else count_tiles(width, height, side, overlap)

    def network_scale(self, width: int, height: int, options: DetectOptions = _DEFAULT_OPTIONS) -> float:
        """Pixels of the network for each pixel of an image of `width` x `height`, along a side.

        It is 1 for tiles as large as the input, and else what fits a tile, or the whole image, into the input.
        """
        return network_scale(width, height, options, self.manifest.image_size)

    def _detect(
        self, raster: Raster, options: Sequence[DetectOptions], stop: threading.Event | None, in_turn: bool
    ) -> tuple[list[Boxes], int, StageSeconds]:
        readers = [box_reader(self.manifest, option, self._score_shift) for option in options]
        width, height = raster.width, raster.height
        plan = plan_search(width, height, options[0], self.manifest.image_size)
        tiles = plan.tiles
        found = list(self._in_order(raster, plan, readers, stop, self._ahead(raster, tiles, in_turn)))
        infer, post = (sum(part.seconds[k] for part in found) for k in (0, 1))
        if len(tiles) == 1:
            return found[0].boxes, 1, StageSeconds(infer, post)
        start = perf_counter()
        scale = 1.0 if options[0].scale is None else options[0].scale
        boxes = [stitch([part.boxes[k] for part in found], tiles, width, height, scale) for k in range(len(options))]
        return boxes, len(tiles), StageSeconds(infer, post + perf_counter() - start)

    @cached_property
    def profile(self) -> ValidationProfile | None:
        """What the model was judged on; None where the package does not hold it. Raises PackageError."""
        if self.package is None or PROFILE_FILE not in self.manifest.files:
            return None
        return read_profile(self.package)

    def look(
        self, image: NDArray[np.uint8] | Raster, options: DetectOptions = _DEFAULT_OPTIONS
    ) -> tuple[FloatArray, FloatArray]:
        """How some tiles of an image look to the network: statistics (t, 8), and mean features (t, d).

        `options` say how the image is searched. d is 0 where the features of this model are not known. Raises
        ImageError for a raster that cannot be read.
        """
        raster = as_raster(image)
        plan = plan_search(raster.width, raster.height, options, self.manifest.image_size)
        statistics, features = [], []
        for number in sampled(len(plan.tiles)):
            tile = plan.tiles[number]
            square, transform = self._fitted(raster.read(tile.x, tile.y, tile.width, tile.height), plan.scaling)
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
        """Run a real inference on a fixed pattern. Raises PackageError when the output is not usable."""
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
        """Finish the tiles in work and refuse new ones. May be called twice."""
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
    ) -> _Part:
        """The boxes of one tile in pixels of the image, for each reader."""
        _go_on(stop)
        start = perf_counter()
        square, transform = self._fitted(view, scaling)
        size = (tile.width / transform.width, tile.height / transform.height)
        output = self._backend.infer(square, min(reader.least for reader in readers))
        inferred = perf_counter()
        check_output(output, self.manifest.head_kind, len(self.manifest.names))
        offset = np.array([tile.x, tile.y, tile.x, tile.y], dtype=np.float32)
        # Pixels of the image for each of the resampled tile's; 1 where nothing was resampled.
        pixels = np.array([*size, *size], dtype=np.float32)
        boxes = []
        for found in (reader.read(output) for reader in readers):
            placed = transform.to_image(found.xyxy) * pixels + offset
            boxes.append(Boxes(placed, found.scores, found.class_ids, found.truncated))
        return _Part(boxes, (inferred - start, perf_counter() - inferred))

    def _fitted(self, view: NDArray[np.uint8], scaling: Scaling | None) -> tuple[NDArray[np.uint8], LetterboxTransform]:
        """A tile as the network sees it, in this thread's own memory."""
        fills = None
        if scaling is not None:
            view, fills = scaling.resampled(view), scaling.side
        return letterbox(view, self.manifest.image_size, into=self._square(), fills=fills)

    def _square(self) -> NDArray[np.uint8]:
        """This thread's own input; fresh memory for every tile costs more than scaling into it."""
        if not hasattr(self._local, "square"):
            self._local.square = np.empty((self.manifest.image_size,) * 2 + (3,), dtype=np.uint8)
        square: NDArray[np.uint8] = self._local.square
        return square

    def _ahead(self, raster: Raster, tiles: Sequence[Tile], in_turn: bool) -> int:
        """How many tiles of an image may wait or be in work: a huge image must not block small ones."""
        few, many = 2 * self.parallel, len(tiles)
        if raster.pixels is None:
            many = max(1, _AHEAD_PIXELS // (tiles[0].width * tiles[0].height))
            few = min(few, many)
        return many if in_turn else few

    def _in_order(
        self,
        raster: Raster,
        plan: SearchPlan,
        readers: Sequence[BoxReader],
        stop: threading.Event | None,
        ahead: int,
    ) -> Iterator[_Part]:
        """Search the tiles on the pool and yield what each gave, in their order."""
        waiting: deque[Future[_Part]] = deque()
        try:
            for tile in plan.tiles:
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
                _go_on(stop)
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
    ) -> Future[_Part]:
        try:
            return self._pool.submit(self._search, view, tile, scaling, readers, stop)
        except RuntimeError as error:
            raise PackageError(f"The detector of {self.ref.name} is closed; open its package again.") from error
