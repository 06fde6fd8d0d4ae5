"""How fast photos are searched: ours, SAHI with torch, SAHI with ONNX, and the bare forward passes.

    python -m benchmarks.census [--frames FOLDER] [--package FOLDER] [--rounds N] [--markdown]

Everybody has the same weights, tiles of 640 pixels with an overlap of a fifth, the same thresholds and all cores.
Ours and SAHI start from JPEG files and end with stitched boxes; ours goes the way of a census, without what it
keeps from an earlier one. The ways take turns, round by round, so that a noisy moment hits all alike; a way's
figure is its best round. Run it in .venv-bench (`make bench-census`), which has SAHI.
"""

import argparse
import io
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.bare_forward import onnxruntime_passes, openvino_passes
from benchmarks.models import IOU, fastest_passed, made_frames, made_package, passed
from benchmarks.reporting import Bar, Report, Table, cores, number
from benchmarks.sahi_peer import sahi_search, ultralytics_onnx
from numpy.typing import NDArray

from transect.census.ground.placement.frames import Frame
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.photos import LocalPhoto
from transect.census.sightings.detect import decoding_workers, parts_below, search_frames
from transect.engine import MODEL_FILE, WEIGHTS_FILE, DetectOptions, Detector, PackageManifest, read_manifest
from transect.engine.package import INT8_FILES, Precision
from transect.imagery import IMAGE_SUFFIXES, decode_image, plan_tiles
from transect.training.trainer.environment import logged_to, prepare_ultralytics

SAHI_TORCH, SAHI_TORCH_TUNED, SAHI_ONNX = "SAHI with torch", "SAHI with torch, all cores", "SAHI with ONNX"
RAW, RAW_PINNED, RAW_ORT = (f"raw passes, {how}" for how in ("OpenVINO", "OpenVINO, pinned threads", "ONNX Runtime"))
OVERLAP = 0.2
# Threads that wait by spinning, as those of ONNX Runtime and OpenMP do, are asleep after it.
SETTLE_S = 0.3
_MANY_PIXELS = 10**9


@dataclass(frozen=True)
class Way:
    """One way to do the work on all photos; gives tiles and, where it makes boxes, how many."""

    name: str
    precision: str
    run: Callable[[], tuple[int, int | None]]


@dataclass(frozen=True)
class Timed:
    """Seconds of each round for all photos, and what the last one gave."""

    seconds: tuple[float, ...]
    tiles: int
    objects: int | None

    @property
    def best(self) -> float:
        """The round that was disturbed least."""
        return min(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, help="folder of JPEG photos (default: four made ones, 4056 x 3040)")
    parser.add_argument("--package", type=Path, help="model package (default: the starter weights at 640 pixels)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    frames = _photos(arguments.frames) if arguments.frames else made_frames(arguments.work)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.work) as scratch, ExitStack() as stack:
        prepare_ultralytics(Path(scratch))
        stack.enter_context(logged_to(Path(scratch) / "ultralytics.log"))
        package = arguments.package or made_package(Path(scratch), arguments.work)
        manifest = read_manifest(package)
        ways, served = _ways(package, manifest, frames, Path(scratch), stack)
        timed = run_interleaved(ways, arguments.rounds)
    report = Report(
        "Census", _said(frames, manifest, arguments.rounds), (table(timed, len(frames)),), bars(timed, served)
    )
    print(report.show(markdown=arguments.markdown))


def run_interleaved(ways: Sequence[Way], rounds: int) -> dict[Way, Timed]:
    """Each way once to warm up, then every way in each round."""
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    given: dict[Way, tuple[int, int | None]] = {}
    for turn in range(rounds + 1):
        for way in ways:
            time.sleep(SETTLE_S)
            start = time.perf_counter()
            given[way] = way.run()
            if turn:
                seconds[way].append(time.perf_counter() - start)
        print(f"round {turn} of {rounds}" if turn else "warmed up", file=sys.stderr, flush=True)
    return {way: Timed(tuple(seconds[way]), *given[way]) for way in ways}


def table(timed: dict[Way, Timed], frames: int) -> Table:
    """One line a way."""
    torch = _best(timed, SAHI_TORCH)
    rows = []
    for way, figures in timed.items():
        limit = _limit(timed, way.precision)
        own = figures.best / figures.tiles
        rows.append(
            (
                way.name,
                way.precision,
                number(figures.best / frames),
                number(float(np.median(figures.seconds)) / frames),
                number(max(figures.seconds) / frames),
                number(1 / own),
                f"{number(torch / own)}x",
                number(limit / own),
                f"{figures.tiles:,}",
                "-" if figures.objects is None else f"{figures.objects:,}",
            )
        )
    columns = ("", "precision", "s a frame", "median", "slowest", "tiles/s", "to SAHI with torch", "of the raw limit")
    return Table((*columns, "tiles", "objects"), tuple(rows))


def bars(timed: dict[Way, Timed], served: Precision) -> tuple[Bar, ...]:
    """What the second issue asks for."""
    fp32, fastest = _best(timed, "ours", "fp32"), _best(timed, "ours", served)
    torch, onnx = _best(timed, SAHI_TORCH), _best(timed, SAHI_ONNX)
    raw, raw_fastest = (_limit(timed, precision) for precision in ("fp32", served))
    name = f"ours in {served}, the fastest precision that passed its gate"
    return (
        Bar("ours in fp32 against SAHI with torch", torch / fp32, 3.0, "times", at_least=True),
        Bar("ours in fp32 against SAHI with ONNX", onnx / fp32, 1.6, "times", at_least=True),
        Bar("ours in fp32, share of the raw limit", raw / fp32, 0.90, at_least=True),
        Bar(f"{name}, against SAHI with torch", torch / fastest, 5.0, "times", at_least=True),
        Bar(f"{name}, share of its raw limit", raw_fastest / fastest, 0.85, at_least=True),
    )


def _best(timed: dict[Way, Timed], name: str, precision: str = "fp32") -> float:
    """Seconds a tile of a way; NaN where it was not measured."""
    found = (
        figures.best / figures.tiles for way, figures in timed.items() if (way.name, way.precision) == (name, precision)
    )
    return next(found, float("nan"))


def _limit(timed: dict[Way, Timed], precision: str) -> float:
    """Seconds a tile of the bare network, however it was fastest."""
    return float(np.nanmin([_best(timed, name, precision) for name in (RAW, RAW_PINNED)]))


def _ways(
    package: Path, manifest: PackageManifest, frames: Sequence[Path], scratch: Path, stack: ExitStack
) -> tuple[list[Way], Precision]:
    """Every way, and the precision that `auto` takes: the fastest that passed."""
    side, images = manifest.image_size, [decode_image(frame, max_pixels=_MANY_PIXELS) for frame in frames]
    tiles = sum(len(plan_tiles(image.shape[1], image.shape[0], side, round(OVERLAP * side))) for image in images)
    inputs = _inputs(images[0], side)
    models = [("fp32", MODEL_FILE, "f32"), ("bf16", MODEL_FILE, "bf16"), ("int8", INT8_FILES[0], "f32")]
    ways = [
        Way(name, precision, _passes(openvino_passes(package / file, inputs, hint, pinned=name == RAW_PINNED), tiles))
        for precision, file, hint in models
        for name in (RAW, RAW_PINNED)
        if (package / file).is_file()
    ]
    ways.append(Way(RAW_ORT, "fp32", _passes(onnxruntime_passes(package / MODEL_FILE, inputs), tiles)))
    for precision in manifest.precisions:
        detector = stack.enter_context(Detector.open(package, precision=precision))
        ways.append(Way("ours", precision, _ours(detector, frames, scratch)))
    onnx = ultralytics_onnx(package / WEIGHTS_FILE, scratch, side)
    for name, weights, threads in (
        (SAHI_TORCH, package / WEIGHTS_FILE, 0),
        (SAHI_TORCH_TUNED, package / WEIGHTS_FILE, cores()),
        (SAHI_ONNX, onnx, 0),
    ):
        search = sahi_search(weights, frames, side, OVERLAP, manifest.conf, threads=threads)
        ways.append(Way(name, "fp32", search))
    return ways, fastest_passed(manifest)


def _inputs(image: NDArray[np.uint8], side: int, count: int = 8) -> NDArray[np.float32]:
    tiles = plan_tiles(image.shape[1], image.shape[0], side, 0)[:count]
    cut = np.stack([image[tile.y : tile.bottom, tile.x : tile.right] for tile in tiles])
    return np.ascontiguousarray(cut.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def _passes(passes: Callable[[int], None], tiles: int) -> Callable[[], tuple[int, None]]:
    def run() -> tuple[int, None]:
        passes(tiles)
        return tiles, None

    return run


def _ours(detector: Detector, frames: Sequence[Path], scratch: Path) -> Callable[[], tuple[int, int]]:
    options = DetectOptions(conf=detector.manifest.conf, iou=IOU, tile="auto")
    numbers = itertools.count()
    photos = [
        Frame(name=path.name, photo=LocalPhoto(path), transect=None, taken_at=None, width=0, height=0, placement=None)
        for path in frames
    ]

    def run() -> tuple[int, int]:
        # A folder of its own, so that nothing is there already.
        work = scratch / f"work-{detector.precision}-{next(numbers)}"
        with redirect_stderr(io.StringIO()):
            found = search_frames(
                photos,
                detector=detector,
                options=options,
                parts=parts_below(work, detector, options),
                workers=decoding_workers(CensusConfig().workers, detector.backend),
                max_pixels=_MANY_PIXELS,
            )
        failures = [one.failure for one in found if one.failure]
        if failures:
            raise SystemExit(failures[0])
        return sum(one.tiles for one in found), sum(len(one.scores) for one in found)

    return run


def _photos(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return found or sys.exit(f"{folder} holds no photos; give --frames a folder of JPEG files.")


def _said(frames: Sequence[Path], manifest: PackageManifest, rounds: int) -> str:
    gates = [
        f"{variant.precision} {'passed' if passed(manifest, variant.precision) else 'FAILED'} (mAP50-95 "
        f"{100 * variant.map50_95_change:+.2f} points, recall {100 * variant.recall_change:+.2f} points, count error "
        f"{variant.count_error:.2%} on {variant.objects} animals in {variant.images} images)"
        for variant in manifest.variants
    ]
    return (
        f"{manifest.architecture} at {manifest.image_size} pixels, {len(frames)} photos, tiles of that size "
        f"that overlap by {OVERLAP:.0%}, score at least {manifest.conf:g}, NMS at IoU {IOU}, {rounds} rounds in turns; "
        f"'s a frame' is the best round. Gates: {', '.join(gates) or 'no variants in the package'}."
    )


if __name__ == "__main__":
    main()
