"""The GPU's code on ONNX Runtime's CPU provider, which runs it all but the GPU."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from transect.engine import Detector, ModelRef, read_manifest
from transect.engine.backends import BackendUnavailableError, choice, open_backend
from transect.engine.backends.gpu import Gpu
from transect.engine.backends.prelude import prelude_model
from transect.errors import PackageError

CPU: list[tuple[str, dict[str, object]]] = [("CPUExecutionProvider", {})]


@pytest.fixture
def package(make_package: Callable[..., Path]) -> Path:
    return make_package(lively=True)


@pytest.fixture
def gpu(package: Path) -> Iterator[Gpu]:
    backend = Gpu("cuda", package / "model.onnx", 64, providers=CPU, device="cpu", max_batch=4, wait_s=0.01)
    yield backend
    backend.close()


def test_the_prelude_is_valid_and_exact() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(prelude_model()), full_check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    (images,) = onnxruntime.InferenceSession(prelude_model()).run(None, {"pixels": pixels})
    assert images.dtype == np.float32
    assert (images == pixels.transpose(0, 3, 1, 2) / np.float32(255)).all()


def test_batches_give_what_one_by_one_gives(package: Path, gpu: Gpu) -> None:
    alone = open_backend(package / "model.onnx", 64, backend="onnxruntime", threads=1)
    images = np.random.default_rng(1).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    assert gpu.parallel == 8
    with ThreadPoolExecutor(gpu.parallel) as pool:
        batched = list(pool.map(lambda image: gpu.infer(image).copy(), images))
    for image, output in zip(images, batched, strict=True):
        np.testing.assert_allclose(output, alone.infer(image), atol=2e-3, rtol=1e-3)
    alone.close()


def test_a_detector_on_it_finds_dots(dot_package: Path) -> None:
    backend = Gpu("cuda", dot_package / "model.onnx", 64, providers=CPU, device="cpu", max_batch=4, wait_s=0.001)
    image = np.zeros((200, 300, 3), np.uint8)
    image[104:112, 200:208, 1] = 255
    with Detector(read_manifest(dot_package), ModelRef("dots"), backend) as detector:
        found = detector.detect(image)
        assert (detector.backend, detector.precision, found.model.precision) == ("cuda", "fp32", "fp32")
    assert "goat" in {detection.class_name for detection in found.detections}
    with pytest.raises(PackageError, match="closed"):
        backend.infer(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there_is_one_clear_sentence(name: str, dot_package: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=rf"Backend {name} needs .*ACCELERATOR=cuda") as caught:
        Detector.open(dot_package, backend=name)
    assert "\n" not in str(caught.value)


def test_a_provider_that_does_not_start_is_no_silent_fallback(package: Path) -> None:
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(BackendUnavailableError, match=r"cuda does not start on this machine .*CPUExecutionProvider"),
    ):
        Gpu(
            "cuda",
            package / "model.onnx",
            64,
            providers=[("CUDAExecutionProvider", {}), *CPU],
            device="cpu",
            max_batch=1,
            wait_s=0.0,
        )


def test_auto_goes_on_where_the_gpu_does_not_start(
    dot_package: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As with ONNX Runtime's CUDA build on a machine without a GPU; opening it then fails in earnest.
    monkeypatch.setattr(choice, "gpu_is_offered", lambda _name: True)
    with caplog.at_level(logging.WARNING), Detector.open(dot_package) as detector:
        assert detector.backend == "openvino"
    assert "Going on with openvino" in caplog.text


def test_a_model_with_another_input_is_refused(dot_package: Path) -> None:
    with pytest.raises(PackageError, match="1 x 3 x 96 x 96"):
        Gpu("cuda", dot_package / "model.onnx", 96, providers=CPU, device="cpu", max_batch=1, wait_s=0.0)
