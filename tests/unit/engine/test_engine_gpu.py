"""The GPU's code on ONNX Runtime's CPU provider, which runs it all but the GPU."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from transect.engine import Detector, ModelRef, read_manifest
from transect.engine.backends import BackendUnavailableError, check_backend, choice, open_backend
from transect.engine.backends.cuda_errors import CudaFault, cuda_fault
from transect.engine.backends.gpu import Gpu
from transect.engine.backends.prelude import prelude_model
from transect.errors import InputError, PackageError

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


def test_a_backend_is_checked_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("auto", "openvino", "onnxruntime"):
        check_backend(name)
    with pytest.raises(BackendUnavailableError, match=r"Backend cuda needs .*ACCELERATOR=cuda"):
        check_backend("cuda")
    with pytest.raises(InputError, match="Backend 'rocm' is unknown"):
        check_backend("rocm")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match="Backend openvino is not installed"):
        check_backend("openvino")


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


NO_KERNEL = (
    "CUDA failure 209: no kernel image is available for execution on the device ; GPU=0 ; hostname=a ; file=/b.cc"
)
ILLEGAL = "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=a ; file=/b.cc ; line=1"
NO_MEMORY = "Status Message: /src/bfc_arena.cc:376 BFCArena::AllocateRawInternal Failed to allocate memory for 64 bytes"
CUDNN = "CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED ; GPU=0 ; hostname=a ; expr=cudnnCreate(&cudnn_handle_);"


class _Fault:
    """What the GPU answers instead of running a batch, and the sizes and threads of what it was asked for."""

    def __init__(self, text: str, beyond: int) -> None:
        self.text = text
        self.beyond = beyond
        self.asked: list[tuple[int, str]] = []


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Fault]:
    """Make the GPU fail with a text at batches larger than `beyond`."""

    def make(text: str, beyond: int = 0) -> _Fault:
        fault, real = _Fault(text, beyond), Gpu._run

        def run(self: Gpu, pixels: np.ndarray[Any, Any]) -> Any:
            fault.asked.append((len(pixels), threading.current_thread().name))
            if len(pixels) > fault.beyond:
                raise RuntimeError(fault.text)
            return real(self, pixels)

        monkeypatch.setattr(Gpu, "_run", run)
        return fault

    return make


def _gpu(package: Path, max_batch: int) -> Gpu:
    return Gpu("cuda", package / "model.onnx", 64, providers=CPU, device="cpu", max_batch=max_batch, wait_s=0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NO_KERNEL, "the installed ONNX Runtime has no code for this GPU"),
        (ILLEGAL, "CUDA failure 700: an illegal memory access was encountered."),
        (NO_MEMORY, "its memory is full: not even one image fits"),
        (CUDNN, "CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED."),
    ],
)
def test_a_gpu_that_fails_at_its_start_is_no_fault_of_the_model(
    text: str,
    said: str,
    faulty: Callable[..., _Fault],
    dot_package: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faulty(text)
    monkeypatch.setattr(choice, "gpu_is_offered", lambda _name: True)
    monkeypatch.setattr(Gpu, "open", lambda name, model, size, **_: _gpu(model.parent, 4))
    with caplog.at_level(logging.WARNING), Detector.open(dot_package) as detector:
        assert detector.backend == "openvino"
    (record,) = caplog.records
    assert said in record.getMessage()
    assert record.getMessage().endswith("Going on with openvino.")
    with pytest.raises(BackendUnavailableError, match="does not work with the GPU of this machine") as caught:
        Detector.open(dot_package, backend="cuda")
    assert said in str(caught.value)


def test_a_damaged_model_stays_a_fault_of_the_model(
    faulty: Callable[..., _Fault], dot_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty("Load model from /data/cuda/model.onnx failed: Protobuf parsing failed.")
    monkeypatch.setattr(Gpu, "open", lambda name, model, size, **_: _gpu(model.parent, 4))
    with pytest.raises(PackageError, match=r"cannot be loaded by cuda: .*Protobuf parsing failed"):
        Detector.open(dot_package, backend="cuda")


def test_the_thread_that_computes_is_the_one_that_is_warmed(faulty: Callable[..., _Fault], package: Path) -> None:
    fault = faulty("", beyond=99)
    backend = _gpu(package, 4)
    backend.infer(np.zeros((64, 64, 3), np.uint8))
    backend.close()
    assert [count for count, _ in fault.asked] == [1, 4, 1]
    assert {name for _, name in fault.asked} == {"batcher"}


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    faulty: Callable[..., _Fault], package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fault = faulty(NO_MEMORY, beyond=3)
    backend = _gpu(package, 16)
    assert [count for count, _ in fault.asked] == [1, 16, 8, 4, 2]
    assert backend.parallel == 4
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(backend.infer, np.zeros((8, 64, 64, 3), np.uint8)))
    backend.close()
    assert len(outputs) == 8
    assert max(count for count, _ in fault.asked[5:]) <= 2
    (record,) = caplog.records
    assert record.getMessage().startswith("A batch of 16 does not fit into the GPU's memory; batches of up to 2 are")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (NO_KERNEL, "unusable"),
        (CUDNN, "unusable"),
        (ILLEGAL, "lost"),
        ("CUDA failure 716: misaligned address ; GPU=0", "lost"),
        ("CUDA failure 719: unspecified launch failure", "lost"),
        ("CUDA failure 2: out of memory ; GPU=0", "memory"),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", "memory"),
        (NO_MEMORY, "memory"),
        ("The model's memory layout is unknown", None),
        ("/data/cuda/model.onnx failed: Protobuf parsing failed.", None),
    ],
)
def test_shortage_of_memory_is_told_from_other_faults(text: str, fault: CudaFault | None) -> None:
    assert cuda_fault(RuntimeError(text)) == fault
