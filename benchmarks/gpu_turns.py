"""Ours, a plain loop over ONNX Runtime and Ultralytics' predict on one GPU, in turns in one run."""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmarks.gpu_place import MAX_BATCH, Place, load_alone, open_gpu, package_root, precisions
from benchmarks.gpu_report import Results, Skipped, one_line
from numpy.typing import NDArray

Way = Callable[[float], float]
"""Runs for so many seconds and says how many tiles it made a second."""

PLAIN = tuple(f"plain ONNX Runtime loop, batch {count}" for count in (1, MAX_BATCH))
PREDICT = f"Ultralytics' predict, batch {MAX_BATCH}"
CONF, IOU = 0.25, 0.7


def turns(place: Place, results: Results) -> str:
    """All ways, round by round, and by how much ours is faster in a round."""
    ways = _ways(place, results)
    if not ways:
        raise Skipped("Nothing that runs the network is installed here; the facts of this step say what each lacks.")
    rounds, seconds = (2, 0.5) if place.rehearse else (5, 1.5)
    for way in ways.values():
        way(seconds / 3)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in in_order(tuple(ways), number):
            rates[name].append(ways[name](seconds))
    for name, values in rates.items():
        results.figure(f"{name}, median of {rounds} rounds", median(values), "tiles/s")
        results.figure(f"{name}, best round", max(values), "tiles/s")
    for (ours, other), ratio in ratios(rates).items():
        results.figure(f"{ours} against {other}", ratio, "times")
    return f"{len(ways)} ways in turns, {rounds} rounds of {seconds:g} s each."


def in_order(names: Sequence[str], number: int) -> tuple[str, ...]:
    """Who comes first changes from round to round."""
    start = number % len(names)
    return (*names[start:], *names[:start])


def ratios(rates: dict[str, list[float]]) -> dict[tuple[str, str], float]:
    """The median over the rounds of ours to another way: networks to networks, detections to detections."""
    found: dict[tuple[str, str], float] = {}
    for ours, other in itertools.product(rates, rates):
        if (ours.startswith("our network") and other in PLAIN) or (
            ours.startswith("our detector") and other == PREDICT
        ):
            found[ours, other] = median(a / b for a, b in zip(rates[ours], rates[other], strict=True))
    return found


def _ways(place: Place, results: Results) -> dict[str, Way]:
    """What can run here; of the rest a fact says why not."""
    tiles = place.tiles()
    ways: dict[str, Way] = {}
    makers: dict[str, Callable[[], dict[str, Way]]] = {
        "ours": lambda: _ours(place, tiles),
        "plain ONNX Runtime loop": lambda: _plain(place, tiles),
        "Ultralytics' predict": lambda: _predict(place, tiles, results),
    }
    for name, make in makers.items():
        try:
            ways |= make()
        except (ImportError, Skipped) as error:
            results.fact(name, f"not measured: {one_line(str(error))}")
    return ways


def _ours(place: Place, tiles: NDArray[np.uint8]) -> dict[str, Way]:
    """The network alone, from bytes to raw outputs, and whole detections, both asked by as many as suit."""
    from benchmarks.gpu_engine import saturated

    from transect.engine import DetectOptions, Detector, ModelRef, read_manifest

    manifest = read_manifest(place.package())
    options = DetectOptions(conf=CONF, iou=IOU, tile="off")
    ways: dict[str, Way] = {}
    for precision in precisions(place):
        network = open_gpu(place, precision)
        detector = Detector(manifest, ModelRef("ours"), network)

        def detect(tile: NDArray[np.uint8], detector: Detector = detector) -> None:
            detector.detect(tile, options=options)

        def way(work: Callable[[NDArray[np.uint8]], object], parallel: int = network.parallel) -> Way:
            return lambda seconds: saturated(work, tiles, seconds, parallel)

        ways[f"our network, {precision}"] = way(network.infer)
        ways[f"our detector, {precision}"] = way(detect)
    return ways


def _plain(place: Place, tiles: NDArray[np.uint8]) -> dict[str, Way]:
    """What a script does: one session with its default options (TF32 among them), inputs that are floats already."""
    import onnxruntime

    provider = "CPUExecutionProvider" if place.rehearse else "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise Skipped(f"the installed ONNX Runtime has no {provider}.")
    if not place.rehearse:
        # Finds CUDA and cuDNN where pip installed them.
        onnxruntime.preload_dlls(directory="")
    ways: dict[str, Way] = {}
    for name, count in zip(PLAIN, (1, MAX_BATCH), strict=True):
        # A session for each: a change of size would cost what is not meant here.
        session = onnxruntime.InferenceSession(str(place.package() / "model.onnx"), providers=[provider])
        if session.get_providers()[0] != provider:
            raise Skipped(f"{provider} does not start.")
        batch = np.resize(tiles.transpose(0, 3, 1, 2), (count, 3, *tiles.shape[1:3])).astype(np.float32) / 255
        ways[name] = _repeated(lambda s=session, b=batch: s.run(None, {s.get_inputs()[0].name: b}), count)  # type: ignore[misc]
    return ways


def _predict(place: Place, tiles: NDArray[np.uint8], results: Results) -> dict[str, Way]:
    """Ultralytics' own way from pictures to boxes, in torch."""
    load_alone("training/trainer/environment.py").prepare_ultralytics(place.scratch)
    import torch
    from ultralytics.models.yolo import YOLO

    model: Any = YOLO(_starter())
    pictures = [np.ascontiguousarray(tile[..., ::-1]) for tile in itertools.islice(itertools.cycle(tiles), MAX_BATCH)]
    results.fact(PREDICT, f"fp32, TF32 in convolutions: {torch.backends.cudnn.allow_tf32}, as PyTorch has it")

    def predict() -> None:
        model.predict(
            pictures, imgsz=tiles.shape[1], conf=CONF, iou=IOU, device="cpu" if place.rehearse else 0, verbose=False
        )

    return {PREDICT: _repeated(predict, MAX_BATCH)}


def _starter() -> Path:
    return package_root() / "training" / "starter" / "yolo11n-starter.pt"


def _repeated(work: Callable[[], object], tiles: int) -> Way:
    """One call after the other, each of which makes `tiles` tiles."""

    def way(seconds: float) -> float:
        done, start = 0, time.perf_counter()
        while True:
            work()
            done += tiles
            if (spent := time.perf_counter() - start) >= seconds:
                return done / spent

    return way
