"""ONNX Runtime on an NVIDIA GPU, with CUDA or TensorRT, and dynamic batching of concurrent calls."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.base import BackendName, BackendUnavailableError
from transect.engine.backends.batcher import Batcher
from transect.engine.backends.cuda.errors import cuda_fault, cuda_reason
from transect.engine.backends.cuda.runner import KEEP, GpuRunner, Providers
from transect.engine.backends.cuda.runtime import (
    LockedPixels,
    compute_capability,
    device_count,
    gpu_instructions,
    gpu_libraries,
)
from transect.engine.backends.instructions import cpu_instructions
from transect.engine.backends.onnxruntime_cpu import import_onnxruntime
from transect.engine.package import Precision, tensorrt_folder
from transect.errors import DeviceLostError, PackageError, TransectError
from transect.files import sha256_file

logger = logging.getLogger(__name__)

GpuName = Literal["cuda", "tensorrt"]

_PROVIDER: dict[str, str] = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_CUDA_OPTIONS: dict[str, Any] = {
    # The default tries every algorithm for each convolution and size of batch, which takes seconds.
    "cudnn_conv_algo_search": "HEURISTIC",
    # By default memory grows by doubling: a model would take up to twice the memory that it needs, and the next one,
    # which is loaded beside it in a swap, might not fit.
    "arena_extend_strategy": "kSameAsRequested",
}

# The lowest compute capability with hardware support (CUDA C++ Programming Guide, "Compute Capabilities").
_SINCE: dict[Precision, tuple[int, int]] = {"fp16": (7, 0), "tf32": (8, 0)}

_LOST: list[GpuRunner] = []


def gpu_is_supported(name: str) -> bool:
    """Whether the installed ONNX Runtime was built with it; only Gpu.open checks that it starts."""
    try:
        return _PROVIDER[name] in import_onnxruntime().get_available_providers()
    except ImportError:
        return False


def require_gpu_runtime(name: str) -> None:
    """Raise BackendUnavailableError if the installed ONNX Runtime was not built with it."""
    if not gpu_is_supported(name):
        raise BackendUnavailableError(
            f"Backend {name} needs the ONNX Runtime that is built for NVIDIA GPUs (transect[detect-cuda], or the "
            "detector image built with ACCELERATOR=cuda); install it or choose another TRANSECT_BACKEND."
        )


def gpu_is_present() -> bool:
    """Whether CUDA is installed and finds a GPU that this process may use."""
    if not gpu_is_supported("cuda"):
        return False
    import_onnxruntime().preload_dlls(directory="")
    return device_count() > 0


def native_precisions() -> frozenset[Precision]:
    """The precisions that the GPU computes in hardware; only fp32 without a GPU."""
    capability = compute_capability() if gpu_is_present() else (0, 0)
    return frozenset({"fp32", *(precision for precision, since in _SINCE.items() if capability >= since)})


class Gpu:
    """A GPU backend with two concurrent batches, each on its own sessions and stream, while a third is filled."""

    def __init__(
        self,
        name: BackendName,
        model: Path,
        image_size: int,
        precision: Precision = "fp32",
        *,
        providers: Providers,
        device: Literal["cuda", "cpu"],
        max_batch: int,
        wait_s: float,
        keep: int = KEEP,
    ) -> None:
        """`providers`, `device` and `keep` as GpuRunner takes them; `model` and `providers` determine the `precision`.

        Raises BackendUnavailableError if the provider does not start, or cannot run the model because of the GPU;
        PackageError for a model of another input size.
        """
        self.name = name
        self.precision: Precision = precision
        tensorrt = name == "tensorrt"
        self._runners = [
            GpuRunner(name, model, image_size, providers=providers, device=device, one_session=tensorrt, keep=keep)
            # A second TensorRT engine would take minutes to build.
            for _ in range(1 if tensorrt else 2)
        ]
        self._pixels = LockedPixels()
        self._lost = False
        with _gpu_errors_as_unavailable(name):
            self._batcher = Batcher(
                self._runners, image_size, max_batch=max_batch, wait_s=wait_s, new_pixels=self._pixels.new
            )
        if self._batcher.max_batch < max_batch:
            logger.warning(
                "A batch of %d does not fit into the GPU's memory; batches of up to %d are computed "
                "(TRANSECT_MAX_BATCH).",
                max_batch,
                self._batcher.max_batch,
            )
        on_gpu = device == "cuda"
        self.instructions = gpu_instructions() if on_gpu else cpu_instructions()
        below = gpu_libraries(tensorrt=tensorrt) if on_gpu else ()
        self.library = ", ".join([f"onnxruntime {import_onnxruntime().__version__}", *below])
        # Some batches run while the next is filled.
        self.parallel = (self._batcher.in_flight + 1) * self._batcher.max_batch

    @classmethod
    def open(
        cls,
        name: GpuName,
        model: Path,
        image_size: int,
        precision: Precision = "fp32",
        *,
        max_batch: int,
        wait_s: float,
    ) -> "Gpu":
        """Start CUDA or TensorRT. Raises as the constructor does, ImportError without ONNX Runtime."""
        require_gpu_runtime(name)
        if name == "tensorrt":
            # NVIDIA's switch, read when its libraries are loaded; ONNX Runtime has no TensorRT option for it.
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        # Finds CUDA and cuDNN where pip installed them.
        import_onnxruntime().preload_dlls(directory="")
        providers: Providers = [(_PROVIDER["cuda"], cuda_options(precision))]
        if name == "tensorrt":
            providers.insert(0, (_PROVIDER["tensorrt"], _tensorrt_options(model, image_size, max_batch)))
        return cls(
            name, model, image_size, precision, providers=providers, device="cuda", max_batch=max_batch, wait_s=wait_s
        )

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        """As in Backend; waits for its batch. Raises DeviceLostError if the GPU is lost to this process."""
        try:
            return self._batcher.infer(image, least)
        except PackageError as error:
            if error.__cause__ is not None and cuda_fault(error.__cause__) == "lost":
                self._lost = True
                raise DeviceLostError(
                    f"The GPU stopped computing ({cuda_reason(error.__cause__)}), and this process cannot use it any "
                    "more: start it again; where that does not help, look at nvidia-smi and the kernel's log for Xid."
                ) from error
            raise

    def close(self) -> None:
        """As in Backend."""
        self._batcher.close()
        if self._lost:
            # Resources of a lost GPU cannot be freed, and the attempt may end the process.
            _LOST.extend(self._runners)
            return
        for runner in self._runners:
            runner.close()
        self._pixels.close()


@contextmanager
def _gpu_errors_as_unavailable(name: BackendName) -> Iterator[None]:
    """Convert GPU errors to BackendUnavailableError: they are no fault of the model, which another backend may run."""
    try:
        yield
    except TransectError:
        raise
    except Exception as error:
        if cuda_fault(error) is None:
            raise
        raise BackendUnavailableError(
            f"Backend {name} does not work with the GPU of this machine: {cuda_reason(error)}."
        ) from error


def cuda_options(precision: Precision) -> dict[str, Any]:
    """Options of ONNX Runtime's CUDA provider for `precision`.

    The provider uses TF32, which keeps 10 bits of the mantissa, by default. It is off for fp32, the reference of the
    other precisions, and for fp16, whose remaining fp32 layers must be exact.
    """
    return _CUDA_OPTIONS | {"use_tf32": "1" if precision == "tf32" else "0"}


def _tensorrt_options(model: Path, image_size: int, max_batch: int) -> dict[str, Any]:
    """One engine for all batch sizes, cached beside the package, because building it takes minutes."""
    shape = f"3x{image_size}x{image_size}"
    name = import_onnxruntime().InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    options: dict[str, Any] = {
        "trt_profile_min_shapes": f"{name}:1x{shape}",
        "trt_profile_opt_shapes": f"{name}:{max_batch}x{shape}",
        "trt_profile_max_shapes": f"{name}:{max_batch}x{shape}",
    }
    # TensorRT checks only the network's structure and would reuse an engine of other weights.
    folder = tensorrt_folder(model.parent) / sha256_file(model)[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("TensorRT's engine cannot be kept in %s (%s); each start rebuilds it.", folder, error.strerror)
        return options
    return options | {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }
