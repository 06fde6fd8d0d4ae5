"""ONNX Runtime on an NVIDIA GPU, with CUDA or TensorRT: batches that are gathered from concurrent calls."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.base import BackendName, BackendUnavailableError, check_input
from transect.engine.backends.batcher import Batcher
from transect.engine.backends.cuda_errors import cuda_fault, cuda_reason
from transect.engine.backends.onnxruntime_cpu import import_onnxruntime, input_shape
from transect.engine.backends.prelude import prelude_model
from transect.engine.package import Precision
from transect.errors import TransectError

logger = logging.getLogger(__name__)

GpuName = Literal["cuda", "tensorrt"]
Providers = list[tuple[str, dict[str, Any]]]

_PROVIDER: dict[str, str] = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_CUDA_OPTIONS: dict[str, Any] = {
    # The default tries every algorithm anew for each size of batch, which takes seconds a time.
    "cudnn_conv_algo_search": "HEURISTIC",
    # TF32 keeps 10 bits of the mantissa; fp32 is the reference that others are measured against.
    "use_tf32": "0",
}


def gpu_is_offered(name: str) -> bool:
    """Whether the installed ONNX Runtime was built for it; whether it starts is for Gpu.open to find out."""
    try:
        return _PROVIDER[name] in import_onnxruntime().get_available_providers()
    except ImportError:
        return False


def require_gpu_runtime(name: str) -> None:
    """Raise BackendUnavailableError where the installed ONNX Runtime was not built for it."""
    if not gpu_is_offered(name):
        raise BackendUnavailableError(
            f"Backend {name} needs the ONNX Runtime that is built for NVIDIA GPUs (transect[detect-cuda], or the "
            "detector image built with ACCELERATOR=cuda); install it or choose another TRANSECT_BACKEND."
        )


class Gpu:
    """A session that runs batches; pixels travel as bytes and become numbers on the device."""

    precision: Precision = "fp32"

    def __init__(
        self,
        name: BackendName,
        model: Path,
        image_size: int,
        *,
        providers: Providers,
        device: Literal["cuda", "cpu"],
        max_batch: int,
        wait_s: float,
    ) -> None:
        """`providers` in ONNX Runtime's form; the first one must start, on `device`.

        Raises BackendUnavailableError when it does not, or cannot run the model for a reason that lies with the GPU;
        PackageError for a model of another input size.
        """
        self.name = name
        self._device = device
        self._image_size = image_size
        with _blaming_the_gpu(name):
            self._session = _session(name, str(model), providers)
            check_input(model, input_shape(self._session), image_size)
            self._input = self._session.get_inputs()[0].name
            self._output = self._session.get_outputs()[0].name
            # TensorRT would build an engine for each shape of these three small layers.
            self._prelude = _session(name, prelude_model(), [p for p in providers if p[0] != _PROVIDER["tensorrt"]])
            self._batcher = Batcher(self._run, image_size, max_batch=max_batch, wait_s=wait_s, prepare=self._warm_up)
        # One batch runs while the next is filled.
        self.parallel = 2 * self._batcher.max_batch

    @classmethod
    def open(cls, name: GpuName, model: Path, image_size: int, *, max_batch: int, wait_s: float) -> "Gpu":
        """Start CUDA or TensorRT. Raises as the constructor does, ImportError without ONNX Runtime."""
        onnxruntime = import_onnxruntime()
        require_gpu_runtime(name)
        if name == "tensorrt":
            # NVIDIA's own switch, which its libraries read when they are loaded; TensorRT has no option for it here.
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        # Finds CUDA and cuDNN where pip installed them.
        onnxruntime.preload_dlls(directory="")
        providers: Providers = [(_PROVIDER["cuda"], _CUDA_OPTIONS)]
        if name == "tensorrt":
            providers.insert(0, (_PROVIDER["tensorrt"], _tensorrt_options(model, image_size, max_batch)))
        return cls(name, model, image_size, providers=providers, device="cuda", max_batch=max_batch, wait_s=wait_s)

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As in Backend; waits for its batch."""
        return self._batcher.infer(image)

    def close(self) -> None:
        """As in Backend."""
        self._batcher.close()
        self._session = self._prelude = None

    def _warm_up(self, max_batch: int) -> int:
        """Run the smallest and the largest batch, so that memory and kernels are there before the first request.

        Returns the largest batch that the GPU's memory takes: `max_batch`, or a half of it so often as is needed.
        """
        self._run(self._blank(1))
        count = max_batch
        while count > 1:
            try:
                self._run(self._blank(count))
            except Exception as error:  # ONNX Runtime's errors have no class of their own in common
                if cuda_fault(error) != "memory":
                    raise
                count //= 2
            else:
                break
        if count < max_batch:
            logger.warning(
                "A batch of %d does not fit into the GPU's memory; batches of up to %d are computed "
                "(TRANSECT_MAX_BATCH).",
                max_batch,
                count,
            )
        return count

    def _blank(self, count: int) -> NDArray[np.uint8]:
        return np.zeros((count, self._image_size, self._image_size, 3), np.uint8)

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, S, S, 3) to the raw output of n images; between the two models nothing leaves the device."""
        first = self._prelude.io_binding()
        first.bind_cpu_input("pixels", pixels)
        first.bind_output("images", self._device)
        self._prelude.run_with_iobinding(first)
        second = self._session.io_binding()
        second.bind_ortvalue_input(self._input, first.get_outputs()[0])
        second.bind_output(self._output, "cpu")
        self._session.run_with_iobinding(second)
        output: NDArray[np.float32] = second.copy_outputs_to_cpu()[0]
        return output


@contextmanager
def _blaming_the_gpu(name: BackendName) -> Iterator[None]:
    """Let what goes wrong because of the GPU not look like a fault of the model, which another backend may run."""
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


def _session(name: BackendName, model: str | bytes, providers: Providers) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    # When a provider does not start, ONNX Runtime goes on with the next one and says so in passing.
    if session.get_providers()[0] != providers[0][0]:
        raise BackendUnavailableError(
            f"Backend {name} does not start on this machine (ONNX Runtime fell back to "
            f"{session.get_providers()[0]}): look for an NVIDIA GPU, its driver and the {name} libraries, "
            "or choose another TRANSECT_BACKEND."
        )
    return session


def _tensorrt_options(model: Path, image_size: int, max_batch: int) -> dict[str, Any]:
    """One engine for every size of batch, kept beside the model, because building it takes minutes."""
    shape = f"3x{image_size}x{image_size}"
    name = import_onnxruntime().InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    options: dict[str, Any] = {
        "trt_profile_min_shapes": f"{name}:1x{shape}",
        "trt_profile_opt_shapes": f"{name}:{max_batch}x{shape}",
        "trt_profile_max_shapes": f"{name}:{max_batch}x{shape}",
    }
    folder = model.parent / "tensorrt"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        logger.warning(
            "TensorRT's engine cannot be kept in %s (%s); each start builds it anew.", folder, error.strerror
        )
        return options
    return options | {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }
