"""Opening packages and searching images, on both backends."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from transect.engine import DetectOptions, Detector, ImageResult, ModelRef
from transect.errors import InputError, PackageError, StoppedError
from transect.imagery import Raster, open_raster

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
DOT = 8


def field_with_dots(width: int, height: int, dots: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Grey ground with (x, y, class) dots; positions are multiples of 8."""
    image = np.full((height, width, 3), 120, np.uint8)
    for x, y, k in dots:
        image[y : y + DOT, x : x + DOT] = COLOURS[k]
    return image


def found(result: ImageResult) -> set[tuple[int, int, int]]:
    return {(round(d.box[0]), round(d.box[1]), d.class_id) for d in result.detections}


@pytest.fixture(params=["openvino", "onnxruntime"])
def dots(request: pytest.FixtureRequest, dot_package: Path) -> Iterator[Detector]:
    with Detector.open(dot_package, ref=ModelRef("dots", "3", "r"), backend=request.param, threads=2) as detector:
        assert detector.backend == request.param
        yield detector


def test_a_small_image_is_one_tile(dots: Detector) -> None:
    truth = {(8, 16, 0), (40, 48, 2), (16, 16, 1)}
    result = dots.detect(field_with_dots(64, 64, sorted(truth)), name="a.jpg")
    assert found(result) == truth
    assert result.tiles == 1
    assert (result.width, result.height, result.image, result.failure) == (64, 64, "a.jpg", None)
    assert result.model == ModelRef("dots", "3", "r", "fp32")
    assert {d.class_name for d in result.detections} == {"sheep", "goat", "cow"}


def test_boxes_come_back_in_pixels_of_a_scaled_image(dots: Detector) -> None:
    image = field_with_dots(64, 32, [(16, 8, 1)]).repeat(3, axis=0).repeat(3, axis=1)
    result = dots.detect(image, options=DetectOptions(tile="off", conf=0.5))
    assert [d.box for d in result.detections] == [pytest.approx((48, 24, 72, 48), abs=0.01)]


def test_every_dot_of_a_large_image_is_found_once(dots: Detector) -> None:
    rng = np.random.default_rng(1)
    cells = rng.choice(50 * 38, size=300, replace=False)
    truth = {(int(c % 50) * DOT, int(c // 50) * DOT, int(rng.integers(3))) for c in cells}
    image = field_with_dots(400, 304, sorted(truth))
    result = dots.detect(image, options=DetectOptions(tile=64, overlap=16))
    assert found(result) == truth
    assert len(result.detections) == len(truth)
    assert result.tiles > 20
    assert not result.truncated


def test_auto_tiles_only_images_much_larger_than_the_input(dots: Detector) -> None:
    assert dots.detect(field_with_dots(96, 64, [])).tiles == 1
    assert dots.detect(field_with_dots(97, 64, [])).tiles == 2
    assert dots.detect(field_with_dots(500, 500, []), options=DetectOptions(tile="off")).tiles == 1


def test_max_det_marks_the_result_as_truncated(dots: Detector) -> None:
    image = field_with_dots(64, 64, [(0, 0, 0), (32, 0, 0), (0, 32, 0)])
    assert dots.detect(image, options=DetectOptions(max_det=4)).truncated is False
    cut = dots.detect(image, options=DetectOptions(max_det=2))
    assert cut.truncated is True
    assert len(cut.detections) == 2


def test_classes_are_chosen_by_name(dots: Detector) -> None:
    image = field_with_dots(64, 64, [(0, 0, 0), (32, 0, 1)])
    result = dots.detect(image, options=DetectOptions(classes=frozenset({"goat"})))
    assert found(result) == {(32, 0, 1)}
    with pytest.raises(InputError, match="'wolf'; it has sheep, goat, cow"):
        dots.detect(image, options=DetectOptions(classes=frozenset({"wolf"})))


def test_no_detection_is_not_a_failure(dots: Detector) -> None:
    result = dots.detect(field_with_dots(64, 64, []))
    assert result.detections == ()
    assert result.failure is None
    assert result.to_json()["failure"] is None


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_image_is_refused(dots: Detector, image: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="shape"):
        dots.detect(image)


def test_many_threads_get_their_own_answers(dots: Detector) -> None:
    scenes = [{(DOT * (k % 20), DOT * (k // 20 + j), k % 3) for j in range(3)} for k in range(40)]

    def search(truth: set[tuple[int, int, int]]) -> bool:
        return (
            found(dots.detect(field_with_dots(160, 160, sorted(truth)), options=DetectOptions(tile=64, overlap=16)))
            == truth
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(search, scenes))


def test_a_search_is_stopped(dots: Detector) -> None:
    stop = threading.Event()
    image = field_with_dots(400, 304, [])
    options = DetectOptions(tile=64, overlap=16)
    assert dots.detect(image, options=options, stop=stop).tiles > 20
    stop.set()
    with pytest.raises(StoppedError, match="stopped"):
        dots.detect(image, options=options, stop=stop)


class Endless(Raster):
    """A raster of any size whose windows are made as they are read; it stops the search after some of them."""

    def __init__(self, stop: threading.Event, windows: int) -> None:
        super().__init__(8_000, 8_000)
        self.stop, self.left, self.threads = stop, windows, set[int]()

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        self.threads.add(threading.get_ident())
        self.left -= 1
        if not self.left:
            self.stop.set()
        return np.zeros((height, width, 3), np.uint8)


def test_a_stop_in_the_middle_ends_a_search_soon(dots: Detector) -> None:
    raster = Endless(threading.Event(), 50)
    with pytest.raises(StoppedError):
        dots.detect(raster, stop=raster.stop)
    assert raster.left == 0
    assert raster.threads == {threading.get_ident()}


def test_windows_are_read_just_ahead_of_the_search(dots: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = Endless(threading.Event(), 0)
    done, most = 0, 0
    real = dots._backend.infer

    def infer(image: NDArray[np.uint8], least: float) -> NDArray[np.float32]:
        nonlocal done, most
        most = max(most, -raster.left - done)
        done += 1
        return real(image)

    def read(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        if done > 300:
            raster.stop.set()
        return Endless.read(raster, x, y, width, height)

    monkeypatch.setattr(dots._backend, "infer", infer)
    monkeypatch.setattr(raster, "read", read)
    with pytest.raises(StoppedError):
        dots.detect(raster, stop=raster.stop)
    assert 1 < most <= 2 * dots.parallel + dots.parallel


@pytest.mark.parametrize("fifo", [False, True])
def test_a_raster_gives_what_its_array_gives(dots: Detector, fifo: bool, tmp_path: Path) -> None:
    truth = {(8, 16, 0), (200, 248, 2), (320, 16, 1)}
    image = field_with_dots(400, 304, sorted(truth))
    Image.fromarray(image).save(tmp_path / "a.tif")
    options = DetectOptions(tile=64, overlap=16)
    with open_raster(tmp_path / "a.tif", max_pixels=10**6, whole_below=1000) as raster:
        assert raster.pixels is None
        result = dots.detect(raster, name="a", options=options, fifo=fifo)
    assert found(result) == truth
    assert result == dots.detect(image, name="a", options=options, fifo=fifo)


def test_images_in_turn_are_searched_one_after_another(dots: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, order = threading.Event(), list[int]()
    real = dots._backend.infer

    def infer(image: NDArray[np.uint8], least: float) -> NDArray[np.float32]:
        gate.wait(60)
        order.append(int(image[0, 0, 0]))
        return real(image)

    monkeypatch.setattr(dots._backend, "infer", infer)
    options = DetectOptions(tile=64, overlap=0)
    with ThreadPoolExecutor(2) as callers:
        results = []
        for shade in (10, 20):
            image = np.full((256, 256, 3), shade, np.uint8)
            results.append(callers.submit(dots.detect, image, options=options, fifo=True))
            deadline = time.monotonic() + 60
            while dots._pool._work_queue.qsize() < len(results) * 16 - dots.parallel and time.monotonic() < deadline:
                time.sleep(0.005)
        gate.set()
        assert [result.result().tiles for result in results] == [16, 16]
    first = order[: 16 - dots.parallel]
    assert set(first) == {10}
    assert len(order) == 32


@pytest.mark.parametrize("size", [(400, 304), (64, 64), (97, 64), (96, 96)])
@pytest.mark.parametrize(
    "options", [DetectOptions(), DetectOptions(tile="off"), DetectOptions(tile=64, overlap=10), DetectOptions(tile=200)]
)
def test_the_number_of_tiles_is_known_before(dots: Detector, size: tuple[int, int], options: DetectOptions) -> None:
    assert dots.tile_count(*size, options) == dots.detect(field_with_dots(*size, []), options=options).tiles


def test_the_time_of_each_stage_is_reported(dots: Detector) -> None:
    seconds = dots.detect(field_with_dots(400, 304, []), options=DetectOptions(tile=64)).seconds
    assert seconds.infer > 0
    assert seconds.post > 0


def test_a_closed_detector_raises(dot_package: Path) -> None:
    detector = Detector.open(dot_package)
    detector.close()
    detector.close()
    with pytest.raises(PackageError, match="closed"):
        detector.detect(field_with_dots(64, 64, []))


def test_an_unknown_backend_is_named(dot_package: Path) -> None:
    with pytest.raises(InputError, match="'tpu' is unknown"):
        Detector.open(dot_package, backend="tpu")


@pytest.mark.parametrize(
    ("architecture", "head_kind"),
    [("yolov8n", "anchor-free"), ("yolo11n", "anchor-free"), ("yolo26n", "anchor-free"), ("yolo26n", "end-to-end")],
)
def test_backends_agree(make_package: Callable[..., Path], architecture: str, head_kind: str) -> None:
    package = make_package(architecture, head_kind=head_kind)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    options = DetectOptions(conf=0.0, iou=1.0, max_det=100_000)
    outputs = []
    for backend in ("openvino", "onnxruntime"):
        # Several threads for one small picture would only wait for one another.
        with Detector.open(package, backend=backend, threads=1) as detector:
            outputs.append(detector.detect(image, options=options).detections)
    assert outputs[0]
    boxes, scores = ([np.array([getattr(d, f) for d in o]) for o in outputs] for f in ("box", "score"))
    assert np.allclose(np.sort(scores[0]), np.sort(scores[1]), atol=1e-4)
    if head_kind == "end-to-end":
        return  # random weights give equal scores, among which its top 300 are any
    assert np.allclose(np.sort(boxes[0], axis=0), np.sort(boxes[1], axis=0), atol=0.05)
