"""The engine on a GPU: the CPU's numbers, batches of all sizes, many callers, and how busy the GPU is."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from benchmarks.gpu_place import MAX_BATCH, Place, open_gpu, precisions
from benchmarks.gpu_report import Results, Skipped, one_line
from benchmarks.reporting import Bar
from numpy.typing import NDArray

from transect.engine import MODEL_FILE, Detection, DetectOptions, Detector, ModelRef, Precision, read_manifest
from transect.engine.backends import Backend, BackendName, BackendUnavailableError, open_backend
from transect.errors import TransectError

MOST_BOX_PX = 0.5
MOST_SCORE = 0.001
# A training judges a variant by its count on labelled images; this finds what is broken.
MOST_BOX_PX_OF_VARIANT = 1.0
MOST_SCORE_OF_VARIANT = 0.02
"""How far fp32 on a GPU may be from fp32 on a CPU: a box's edge in pixels, and a score of 0..1."""

LEAST_SCORE = 0.1
"""What scores less is no detection to anybody, and its box means nothing."""

CALLERS = (8, 16, 32, 64)

_RANDOM_SIZES = tuple(int(size) for size in np.random.default_rng(0).integers(1, MAX_BATCH + 1, 64))
PATTERNS = {
    "batches of 1": (1,),
    "batches of 4": (4,),
    f"batches of {MAX_BATCH}": (MAX_BATCH,),
    f"batches of 1 and {MAX_BATCH} in turn": (1, MAX_BATCH),
    f"batches of 1 to {MAX_BATCH} at random": _RANDOM_SIZES,
}


def numbers(place: Place, results: Results) -> str:
    """Raw outputs and detections of the GPU against those of the CPU's backends."""
    tiles, package = place.tiles(), place.package()
    references: list[str] = []
    for name in ("openvino", "onnxruntime"):
        try:
            open_backend(package / MODEL_FILE, tiles.shape[1], backend=name).close()
        except BackendUnavailableError as error:
            results.fact(f"compared with {name}", f"no: {error}")
        else:
            references.append(name)
    if not references:
        raise Skipped("There is no backend of the CPU to compare with: install openvino or onnxruntime.")
    for precision, name in itertools.product(precisions(place), references):
        _compare(place, results, tiles, precision, name)
    return f"Compared with {' and '.join(references)} on {len(tiles)} pictures."


def _compare(
    place: Place, results: Results, tiles: NDArray[np.uint8], precision: Precision, reference: BackendName | str
) -> None:
    package = place.package()
    manifest = read_manifest(package)
    what = f"{precision} against {reference}"
    with (
        Detector(manifest, ModelRef("gpu"), open_gpu(place, precision)) as ours,
        Detector(
            manifest, ModelRef("cpu"), open_backend(package / MODEL_FILE, tiles.shape[1], backend=reference)
        ) as theirs,
    ):
        raw = [raw_difference(_infer(ours, tile), _infer(theirs, tile)) for tile in tiles]
        # Not max(), which may pass over a NaN.
        boxes, scores = (float(value) for value in np.max(raw, axis=0))
        # Pictures in a square, which is searched in tiles.
        scene = np.concatenate([np.concatenate(list(pair), axis=1) for pair in (tiles[:2], tiles[2:4])])
        options = DetectOptions(conf=LEAST_SCORE)
        found, expected = (detector.detect(scene, options=options).detections for detector in (ours, theirs))
    difference = detections_difference(found, expected)
    exact = precision == "fp32"
    box, score = (MOST_BOX_PX, MOST_SCORE) if exact else (MOST_BOX_PX_OF_VARIANT, MOST_SCORE_OF_VARIANT)
    for about, value, limit, unit in (
        ("raw boxes", boxes, box, "px"),
        ("raw scores", scores, score, ""),
        ("boxes of detections", difference[0], box, "px"),
        ("scores of detections", difference[1], score, ""),
    ):
        results.bar(Bar(f"{what}: {about}", value, limit, unit))
    only_one = f"{what}: detections that only one of them has"
    if exact:
        results.bar(Bar(only_one, difference[2], 0))
    else:
        results.figure(only_one, difference[2], "")
    # A comparison of nothing proves nothing.
    results.bar(Bar(f"{what}: detections compared", len(expected), 1, at_least=True))


def _infer(detector: Detector, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    return detector._backend.infer(tile).copy()


def raw_difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[float, float]:
    """The greatest difference of two raw outputs (1, 4 + classes, anchors): of boxes in pixels, of scores.

    Boxes count where either scores at least `LEAST_SCORE`; NaN anywhere gives NaN.
    """
    scores = float(np.abs(ours[0, 4:] - theirs[0, 4:]).max())
    seen = np.maximum(ours[0, 4:].max(axis=0), theirs[0, 4:].max(axis=0)) >= LEAST_SCORE
    boxes = np.abs(ours[0, :4] - theirs[0, :4])[:, seen]
    return float(boxes.max(initial=0)), scores


def detections_difference(
    ours: Sequence[Detection], theirs: Sequence[Detection], least: float = LEAST_SCORE
) -> tuple[float, float, int]:
    """The greatest difference of matched boxes (pixels) and scores, and how many have no match.

    Each is matched with the nearest of its class whose edges are less than 5 pixels off. One that scores within
    `MOST_SCORE` of `least` may be missing from either.
    """
    boxes, scores, unmatched = 0.0, 0.0, 0
    left = list(theirs)
    for one in ours:
        near = [(_apart(one, other), other) for other in left if other.class_id == one.class_id]
        distance, match = min(near, key=lambda pair: pair[0], default=(np.inf, None))
        if match is None or distance >= 5:
            unmatched += one.score > least + MOST_SCORE
            continue
        left.remove(match)
        boxes, scores = max(boxes, distance), max(scores, abs(one.score - match.score))
    return boxes, scores, unmatched + sum(other.score > least + MOST_SCORE for other in left)


def _apart(one: Detection, other: Detection) -> float:
    return max(abs(a - b) for a, b in zip(one.box, other.box, strict=True))


def batches(place: Place, results: Results) -> str:
    """Tiles a second at batches of one size, of two in turn, and of any."""
    tiles = place.tiles()
    seconds = 1.0 if place.rehearse else 2.5
    said = []
    for precision in precisions(place):
        with _opened(place, precision, results) as network:
            if network is None:
                continue
            rates = {what: rate(network, tiles, sizes, seconds) for what, sizes in PATTERNS.items()}
        for what, value in rates.items():
            results.figure(f"{precision}, {what}", value, "tiles/s")
        mixed, large = rates[f"batches of 1 and {MAX_BATCH} in turn"], rates[f"batches of {MAX_BATCH}"]
        alone = expected_in_turn(rates["batches of 1"], large)
        results.figure(f"{precision}, two sizes in turn, of what each alone gives", mixed / alone, "times")
        said.append(f"{precision}: {large:.0f} tiles/s in batches of {MAX_BATCH}, {mixed:.0f} in two sizes in turn")
    if not said:
        raise Skipped("No precision could be opened.")
    return "; ".join(said) + "."


def expected_in_turn(ones: float, many: float) -> float:
    """Tiles a second of batches of 1 and `MAX_BATCH` in turn if a change of size cost nothing."""
    return (1 + MAX_BATCH) / (1 / ones + MAX_BATCH / many)


def rate(network: Backend, tiles: NDArray[np.uint8], sizes: Sequence[int], seconds: float) -> float:
    """Tiles a second when as many threads at once as `sizes` says, one size after the other, each bring one."""
    if any(size > MAX_BATCH for size in sizes):
        raise ValueError(f"batches have at most {MAX_BATCH} tiles")
    with ThreadPoolExecutor(MAX_BATCH) as pool:

        def one_round(size: int) -> None:
            list(pool.map(network.infer, itertools.islice(itertools.cycle(tiles), size)))

        for size in dict.fromkeys(sizes):
            one_round(size)
        done, start = 0, time.perf_counter()
        for size in itertools.cycle(sizes):
            one_round(size)
            done += size
            spent = time.perf_counter() - start
            if spent >= seconds:
                return done / spent
    raise AssertionError  # a cycle has no end


def saturated(
    work: Callable[[NDArray[np.uint8]], object], tiles: NDArray[np.uint8], seconds: float, callers: int
) -> float:
    """Calls of `work` a second by `callers` threads that never wait."""
    start = time.perf_counter()

    def caller(number: int) -> tuple[int, float]:
        done = 0
        while time.perf_counter() < start + seconds:
            work(tiles[(number + done) % len(tiles)])
            done += 1
        return done, time.perf_counter()

    with ThreadPoolExecutor(callers) as pool:
        ended = list(pool.map(caller, range(callers)))
    return sum(done for done, _ in ended) / (max(end for _, end in ended) - start)


@contextmanager
def _opened(place: Place, precision: Precision, results: Results) -> Iterator[Backend | None]:
    """The network in `precision`; None, and a fact, where a variant of fp32 cannot be had."""
    try:
        network = open_gpu(place, precision)
    except TransectError as error:
        if precision == "fp32":
            raise
        results.fact(f"{precision}", f"not measured: {error}")
        yield None
        return
    try:
        yield network
    finally:
        network.close()


def views(tiles: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """`count` different pictures: the tiles, turned and mirrored in all eight ways."""
    turned = (np.rot90(side, turn) for turn in range(4) for tile in tiles for side in (tile, tile[:, ::-1]))
    made = [np.ascontiguousarray(view) for view in itertools.islice(turned, count)]
    if len(made) < count:
        raise ValueError(f"{len(tiles)} tiles have {len(made)} views, not {count}")
    return made


def callers(place: Place, results: Results) -> str:
    """Many callers at once, each with a picture whose answer the CPU's backend has given before."""
    tiles, package = place.tiles(), place.package()
    pictures = views(tiles, 16 if place.rehearse else max(CALLERS))
    seconds = 1.0 if place.rehearse else 2.0
    reference = open_backend(package / MODEL_FILE, tiles.shape[1], backend="onnxruntime")
    answers = np.stack([reference.infer(picture)[0].copy() for picture in pictures])
    reference.close()
    apart = least_apart(answers)
    if apart <= 4 * MOST_SCORE:
        raise ValueError(f"two pictures have answers that differ by {apart:.2g} only, so that a mix-up would not show")
    for precision in precisions(place):
        with _opened(place, precision, results) as network:
            if network is not None:
                for count in CALLERS:
                    _call(network, pictures, answers, count, seconds, f"{precision}, {count} callers", results)
    return f"Each of up to {max(CALLERS)} callers had the answer to its own picture."


def least_apart(answers: NDArray[np.float32]) -> float:
    """By how much the scores of the two most similar answers (n, 4 + classes, anchors) differ at their most."""
    pairs = itertools.combinations(range(len(answers)), 2)
    return min(float(np.abs(answers[a, 4:] - answers[b, 4:]).max()) for a, b in pairs)


def _call(
    network: Backend,
    pictures: Sequence[NDArray[np.uint8]],
    answers: NDArray[np.float32],
    count: int,
    seconds: float,
    what: str,
    results: Results,
) -> None:
    barrier = threading.Barrier(count)
    exact = network.precision == "fp32"

    def caller(number: int) -> tuple[int, int, int]:
        done = mixed = wrong = 0
        own = number % len(pictures)
        barrier.wait()
        end = time.perf_counter() + seconds
        while done < 2 or time.perf_counter() < end:
            output = network.infer(pictures[own])[0]
            done += 1
            if exact and np.abs(output[4:] - answers[own, 4:]).max() <= MOST_SCORE:
                continue
            mixed += nearest(output, answers) != own
            wrong += exact
        return done, mixed, wrong

    with ThreadPoolExecutor(count) as pool:
        done, mixed, wrong = (sum(column) for column in zip(*pool.map(caller, range(count)), strict=True))
    results.figure(f"{what}: answers", done, "")
    results.bar(Bar(f"{what}: answers to another's picture", mixed, 0))
    if exact:
        results.bar(Bar(f"{what}: scores off by more than {MOST_SCORE}", wrong, 0))


def nearest(output: NDArray[np.float32], answers: NDArray[np.float32]) -> int:
    """Whose answer an output (4 + classes, anchors) is most like, by its scores."""
    return int(np.argmin([np.abs(output[4:] - answer[4:]).max() for answer in answers]))


def busy(place: Place, results: Results) -> str:
    """The share of time in which the GPU computes while it has all it can do, by NVML."""
    tiles = place.tiles()
    seconds = 2.0 if place.rehearse else 6.0
    nvml: Any = None
    handle: Any = None
    why = "a CPU has none of NVML"
    if not place.rehearse:
        nvml, handle, why = _nvml()
    said = []
    for precision in precisions(place):
        with _opened(place, precision, results) as network:
            if network is None:
                continue
            # Kernels are chosen and memory is there before anything counts.
            saturated(network.infer, tiles, seconds / 4, network.parallel)
            with _sampled(nvml, handle) as samples:
                measured = saturated(network.infer, tiles, seconds, network.parallel)
        results.figure(f"{precision}, saturated", measured, "tiles/s")
        for name, (unit, values) in samples.items():
            # NVML looks back up to a second, at what was before.
            results.figure(f"{precision}, {name}", float(np.mean(values[len(values) // 4 :])), unit)
        said.append(f"{precision}: {measured:.0f} tiles/s")
    if nvml is None:
        raise Skipped(f"{'; '.join(said)}, but how busy the GPU was is not known: {why}.")
    return "; ".join(said) + "."


def _nvml() -> tuple[Any, Any, str]:
    """NVML and the GPU that CUDA takes first, or why there is none."""
    try:
        import pynvml  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        return None, None, "nvidia-ml-py is not installed"
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
        if first.startswith(("GPU-", "MIG-")):
            return pynvml, pynvml.nvmlDeviceGetHandleByUUID(first), ""
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(first or 0)), ""
    except (pynvml.NVMLError, ValueError) as error:
        return None, None, f"NVML says {one_line(str(error))}"


@contextmanager
def _sampled(nvml: Any, handle: Any) -> Iterator[dict[str, tuple[str, list[float]]]]:
    """What NVML says each tenth of a second while the block runs; a GPU (MIG, vGPU) may not measure all of it."""
    samples: dict[str, tuple[str, list[float]]] = {}
    if nvml is None:
        yield samples
        return
    asked: dict[str, tuple[str, Callable[[], float]]] = {
        "computing": ("%", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "memory used": ("MiB", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20),
        "clock of the multiprocessors": ("MHz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        "power": ("W", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
    }
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.1):
            for name, (unit, ask) in list(asked.items()):
                try:
                    value = float(ask())
                except nvml.NVMLError:
                    del asked[name]
                else:
                    samples.setdefault(name, (unit, []))[1].append(value)

    thread = threading.Thread(target=work, name="nvml", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
