"""The few calls of the CUDA runtime that ONNX Runtime's Python side does not offer.

ONNX Runtime has loaded the library by then (preload_dlls); where it is not, nothing is locked and nothing is known.
"""

import ctypes
import logging
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_LIBRARY = "libcudart.so.13"
# cudaDevAttrComputeCapabilityMajor and -Minor (CUDA Runtime API, cudaDeviceAttr).
_COMPUTE_CAPABILITY = (75, 76)


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
    """That of the first GPU that this process may use, such as (8, 9); (0, 0) where none is."""
    library, found = _library(), []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int(0)
        if library is None or library.cudaDeviceGetAttribute(ctypes.byref(value), attribute, 0) != 0:
            return 0, 0
        found.append(value.value)
    return found[0], found[1]


class LockedPixels:
    """Page-locked buffers of one shape: the GPU copies from them without a detour (CUDA Runtime API, cudaHostRegister).

    They lie in ordinary memory, so that one that cannot be locked works as well, only slower.
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
        """Unlock all of them, before their memory is given back."""
        library = _library()
        while self._locked:
            library.cudaHostUnregister(ctypes.c_void_p(self._locked.pop().ctypes.data))
