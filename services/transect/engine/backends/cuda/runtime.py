"""The few calls to CUDA's libraries that ONNX Runtime's Python API lacks.

ONNX Runtime loads the libraries first (preload_dlls); without them, no memory is locked and values are unknown.
"""

import ctypes
import logging
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_LIBRARY = "libcudart.so.13"
_DRIVER = "libcuda.so.1"
# cudnn.h, NvInferRuntimeBase.h
_VERSIONS = {
    "cuDNN": ("libcudnn.so.9", "cudnnGetVersion"),
    "TensorRT": ("libnvinfer.so.10", "getInferLibVersion"),
}
# The compute capability, in the runtime (cudaDeviceAttr) and in the driver (CUdevice_attribute).
_MAJOR, _MINOR = 75, 76


@cache
def _library() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        logger.debug("Without the CUDA runtime (%s), buffers are not page-locked.", error)
        return None


def device_count() -> int:
    """GPUs that this process may use; 0 where there is no driver. Needs ONNX Runtime's CUDA libraries loaded."""
    library, count = _library(), ctypes.c_int(0)
    if library is None or library.cudaGetDeviceCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def compute_capability() -> tuple[int, int]:
    """Compute capability of the first GPU that this process may use, such as (8, 9); (0, 0) without a GPU."""
    library, found = _library(), []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int(0)
        if library is None or library.cudaDeviceGetAttribute(ctypes.byref(value), attribute, 0) != 0:
            return 0, 0
        found.append(value.value)
    return found[0], found[1]


def gpu_instructions() -> str:
    """Compute capability and name of the first GPU, which ONNX Runtime uses, such as `sm_90 NVIDIA H200`.

    The choice of kernels depends on both. Logs a warning and returns `unknown` if the driver does not report them.
    """
    try:
        driver = _open(_DRIVER)
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        statuses = (
            driver.cuInit(0),
            driver.cuDeviceGet(ctypes.byref(device), 0),
            driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
            driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
            driver.cuDeviceGetName(name, len(name), device),
        )
        if not any(statuses):
            return f"sm_{major.value}{minor.value} {name.value.decode(errors='replace')}"
        reason = f"CUDA error {max(statuses)}"
    except OSError as error:
        reason = str(error)
    logger.warning(
        "The GPU's driver does not report its GPU (%s): a census cannot distinguish its boxes from another GPU's.",
        reason,
    )
    return "unknown"


def gpu_libraries(*, tensorrt: bool) -> tuple[str, ...]:
    """The libraries below ONNX Runtime with their own version numbers, if known."""
    found = []
    runtime, version = _library(), ctypes.c_int(0)
    if runtime is not None and runtime.cudaRuntimeGetVersion(ctypes.byref(version)) == 0:
        found.append(f"CUDA {version.value}")
    for name in ("cuDNN", "TensorRT") if tensorrt else ("cuDNN",):
        library, function = _VERSIONS[name]
        try:
            found.append(f"{name} {getattr(_open(library), function)()}")
        except OSError as error:
            logger.debug("The version of %s is not known (%s).", name, error)
    return tuple(found)


def _open(library: str) -> Any:
    return ctypes.CDLL(library)


class LockedPixels:
    """Page-locked buffers of one shape: the GPU copies from them directly (CUDA Runtime API, cudaHostRegister).

    They are ordinary memory, so one that cannot be locked works too, only slower.
    """

    def __init__(self) -> None:
        self._locked: list[NDArray[np.uint8]] = []

    def new(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A buffer of zeros."""
        buffer = np.zeros(shape, np.uint8)
        library = _library()
        if library is not None:
            status = library.cudaHostRegister(ctypes.c_void_p(buffer.ctypes.data), ctypes.c_size_t(buffer.nbytes), 0)
            if status == 0:
                self._locked.append(buffer)
            else:
                logger.debug("A buffer of %d bytes cannot be page-locked (CUDA error %d).", buffer.nbytes, status)
        return buffer

    def close(self) -> None:
        """Unlock all of them before their memory is freed."""
        library = _library()
        while self._locked:
            library.cudaHostUnregister(ctypes.c_void_p(self._locked.pop().ctypes.data))
