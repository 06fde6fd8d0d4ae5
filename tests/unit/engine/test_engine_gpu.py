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

from transect.engine import DetectOptions, Detector, ModelRef, read_manifest
from transect.engine.backends import (
    BackendUnavailableError,
    check_backend,
    choice,
    expects_gpu,
    open_backend,
    open_package_backend,
)
from transect.engine.backends.best_anchors import best_anchors_model, has_all_above
from transect.engine.backends.cuda import runtime as cuda_runtime
from transect.engine.backends.cuda.errors import CudaFault, cuda_fault
from transect.engine.backends.cuda.runner import GpuRunner
from transect.engine.backends.cuda.runtime import LockedPixels
from transect.engine.backends.cuda.session import Gpu
from transect.engine.backends.prelude import prelude_model
from transect.errors import DeviceLostError, InputError, PackageError

CPU: list[tuple[str, dict[str, object]]] = [("CPUExecutionProvider", {})]


@pytest.fixture
def package(random_package: Path) -> Path:
    return random_package


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
    assert gpu.parallel == 12
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


def test_auto_falls_back_where_the_gpu_does_not_start(
    dot_package: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As with ONNX Runtime's CUDA build on a machine without a GPU; opening it then fails in earnest.
    monkeypatch.setattr(choice, "gpu_is_supported", lambda _name: True)
    with caplog.at_level(logging.WARNING), Detector.open(dot_package) as detector:
        assert detector.backend == "openvino"
    assert "Continuing with openvino" in caplog.text


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
        fault, real = _Fault(text, beyond), GpuRunner._outputs

        def outputs(self: GpuRunner, pixels: np.ndarray[Any, Any], size: int) -> Any:
            fault.asked.append((len(pixels), threading.current_thread().name))
            if len(pixels) > fault.beyond:
                raise RuntimeError(fault.text)
            return real(self, pixels, size)

        monkeypatch.setattr(GpuRunner, "_outputs", outputs)
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
    monkeypatch.setattr(choice, "gpu_is_supported", lambda _name: True)
    monkeypatch.setattr(Gpu, "open", lambda name, model, size, precision, **_: _gpu(model.parent, 4))
    with caplog.at_level(logging.WARNING), Detector.open(dot_package) as detector:
        assert detector.backend == "openvino"
    (record,) = caplog.records
    assert said in record.getMessage()
    assert record.getMessage().endswith("Continuing with openvino.")
    with pytest.raises(BackendUnavailableError, match="does not work with the GPU of this machine") as caught:
        Detector.open(dot_package, backend="cuda")
    assert said in str(caught.value)


def test_a_damaged_model_stays_a_fault_of_the_model(
    faulty: Callable[..., _Fault], dot_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty("Load model from /data/cuda/model.onnx failed: Protobuf parsing failed.")
    monkeypatch.setattr(Gpu, "open", lambda name, model, size, precision, **_: _gpu(model.parent, 4))
    with pytest.raises(PackageError, match=r"cannot be loaded by cuda: .*Protobuf parsing failed"):
        Detector.open(dot_package, backend="cuda")


def test_sizes_are_few_and_their_rest_is_filled(faulty: Callable[..., _Fault], package: Path) -> None:
    fault = faulty("", beyond=99)
    backend = _gpu(package, 16)
    warmed = len(fault.asked)
    assert {count for count, _ in fault.asked} == {1, 4, 16}
    images = np.random.default_rng(2).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    alone = [backend.infer(image).copy() for image in images]
    with ThreadPoolExecutor(backend.parallel) as pool:
        together = list(pool.map(backend.infer, images))
    backend.close()
    assert {count for count, _ in fault.asked[warmed:]} <= {1, 4, 16}
    # Only what warms runs in the thread that computes.
    assert {name for _, name in fault.asked} == {"batcher"}
    for one, other in zip(alone, together, strict=True):
        assert other.shape == one.shape
        np.testing.assert_allclose(other, one, atol=2e-3, rtol=1e-3)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    faulty: Callable[..., _Fault], package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fault = faulty(NO_MEMORY, beyond=3)
    backend = _gpu(package, 16)
    warmed = len(fault.asked)
    assert backend.parallel == 6
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(backend.infer, np.zeros((8, 64, 64, 3), np.uint8)))
    backend.close()
    assert len(outputs) == 8
    assert max(count for count, _ in fault.asked[warmed:]) <= 2
    (record,) = caplog.records
    assert record.getMessage().startswith("A batch of 16 does not fit into the GPU's memory; batches of up to 2 are")


def test_a_batch_that_does_not_fit_any_more_is_computed_in_parts(
    faulty: Callable[..., _Fault], package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fault = faulty(NO_MEMORY, beyond=99)
    backend = _gpu(package, 8)
    images = np.random.default_rng(8).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    expected = [backend.infer(image).copy() for image in images]
    fault.beyond = 2
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(backend.infer, images))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, atol=2e-3, rtol=1e-3)
    assert {record.getMessage().split("; ")[1] for record in caplog.records} == {"batches of up to 2 are computed."}
    fault.beyond = 0
    with pytest.raises(PackageError, match="could not be run"):
        backend.infer(images[0])
    backend.close()


def test_what_comes_back_is_small_and_nothing_is_lost(package: Path) -> None:
    # 84 anchors of 64 x 64 pixels: more than are kept.
    whole = Gpu("cuda", package / "model.onnx", 64, providers=CPU, device="cpu", max_batch=4, wait_s=0.0, keep=0)
    some = Gpu("cuda", package / "model.onnx", 64, providers=CPU, device="cpu", max_batch=4, wait_s=0.0, keep=20)
    for image in np.random.default_rng(3).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8):
        full = whole.infer(image)
        best = np.sort(full[0, 4:].max(axis=0))[::-1]
        # The twentieth best is not wanted, so that none of the others is: twenty come, in the order of the whole.
        found = some.infer(image, float(best[19]))
        assert found.shape == (1, full.shape[1], 20)
        wanted = np.flatnonzero(full[0, 4:].max(axis=0) > best[19])
        places = [int(np.flatnonzero((full[0] == column[:, None]).all(axis=0))[0]) for column in found[0].T]
        assert places == sorted(places)
        assert set(wanted) <= set(places)
        # It is wanted: all come.
        np.testing.assert_array_equal(some.infer(image, float(best[19]) * 0.999), full)
        np.testing.assert_array_equal(some.infer(image), full)
    whole.close()
    some.close()


def test_the_candidates_model_is_valid_and_shows_what_is_not_finite() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(best_anchors_model(8)), full_check=True)
    session = onnxruntime.InferenceSession(best_anchors_model(8))
    output = np.random.default_rng(4).random((3, 6, 50), np.float32)
    output[1, 2, 7] = np.nan
    output[2, 0, 7] = np.inf
    _, _, best, total = session.run(None, {"output": output})
    assert [has_all_above(best[k], total[k], 1.0) for k in range(3)] == [True, False, False]
    assert not has_all_above(best[0], total[0], float(best[0, -1]) * 0.99)


@pytest.mark.parametrize("conf", [0.0, 0.001, 0.3, 0.9])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_detector_finds_the_same_with_candidates_alone(package: Path, conf: float, multi_label: bool) -> None:
    image = np.random.default_rng(5).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    options = DetectOptions(conf=conf, multi_label=multi_label)
    found = []
    for keep in (0, 20):
        gpu = Gpu("cuda", package / "model.onnx", 64, providers=CPU, device="cpu", max_batch=1, wait_s=0.0, keep=keep)
        manifest = read_manifest(package)
        with Detector(manifest, ModelRef("a"), gpu, score_shift=[0.3] * len(manifest.names)) as detector:
            found.append(detector.detect(image, options=options).detections)
    assert found[0] == found[1]
    assert conf > 0.5 or found[0]


class _Lost:
    """A GPU that is lost after `lose`."""

    def __init__(self, faulty: Callable[..., _Fault]) -> None:
        self._fault = faulty(ILLEGAL, beyond=99)

    def lose(self) -> None:
        self._fault.beyond = 0


@pytest.fixture
def gpu_machine(faulty: Callable[..., _Fault], monkeypatch: pytest.MonkeyPatch) -> _Lost:
    """A machine whose GPU works until the test loses it."""
    monkeypatch.setattr(choice, "gpu_is_supported", lambda _name: True)
    monkeypatch.setattr(Gpu, "open", lambda name, model, size, precision, **_: _gpu(model.parent, 4))
    return _Lost(faulty)


def test_a_lost_gpu_is_replaced_once_and_no_call_fails(
    gpu_machine: _Lost, package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = open_package_backend(package, read_manifest(package), cpu_fallback=True)
    images = np.random.default_rng(6).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    expected = [backend.infer(image).copy() for image in images]
    names, said = [backend.name], (backend.instructions, backend.library)
    gpu_machine.lose()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: backend.infer(image).copy(), images))
    assert [*names, backend.name] == ["cuda", "openvino"]
    assert backend.instructions != said[0]
    assert [said[1].split()[0], backend.library.split()[0]] == ["onnxruntime", "openvino"]
    backend.close()
    (record,) = caplog.records
    assert "The GPU stopped computing (CUDA failure 700: an illegal memory access was encountered)" in record.message
    assert record.message.endswith("Continuing with openvino until then.")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, atol=2e-3, rtol=1e-3)


def test_a_lost_gpu_is_an_error_for_who_must_not_change_in_between(gpu_machine: _Lost, package: Path) -> None:
    with Detector.open(package) as detector:
        gpu_machine.lose()
        with pytest.raises(DeviceLostError, match=r"The GPU stopped computing .*start it again") as caught:
            detector.detect(np.zeros((64, 64, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_gpu_is_expected_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not expects_gpu("auto", "auto")
    monkeypatch.setattr(choice, "gpu_is_supported", lambda _name: True)
    monkeypatch.setattr(choice, "gpu_is_present", lambda: True)
    assert expects_gpu("auto", "auto")
    assert expects_gpu("cuda", "fp32")
    assert not expects_gpu("auto", "int8")
    assert not expects_gpu("openvino", "fp32")


class _Runtime:
    """The calls of libcudart, recorded."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.locked: list[int] = []

    def cudaHostRegister(self, address: Any, size: Any, flags: int) -> int:  # noqa: N802 - NVIDIA's name
        assert (size.value, flags) == (48, 0)
        if self.status == 0:
            self.locked.append(address.value)
        return self.status

    def cudaHostUnregister(self, address: Any) -> int:  # noqa: N802 - NVIDIA's name
        self.locked.remove(address.value)
        return 0

    def cudaGetDeviceCount(self, count: Any) -> int:  # noqa: N802 - NVIDIA's name
        count._obj.value = 2
        return self.status


@pytest.mark.parametrize(("status", "locked"), [(0, 1), (2, 0)])
def test_buffers_are_page_locked_where_that_works(status: int, locked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = _Runtime(status)
    monkeypatch.setattr(cuda_runtime, "_library", lambda: runtime)
    pixels = LockedPixels()
    assert pixels.new((1, 4, 4, 3)).tolist() == np.zeros((1, 4, 4, 3)).tolist()
    assert len(runtime.locked) == locked
    assert cuda_runtime.device_count() == (0 if status else 2)
    pixels.close()
    assert runtime.locked == []


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
def test_shortage_of_memory_is_distinguished_from_other_faults(text: str, fault: CudaFault | None) -> None:
    assert cuda_fault(RuntimeError(text)) == fault
