"""The programs that run the network: OpenVINO, and ONNX Runtime on CPU and GPU."""

from transect.engine.backends.base import GPU_BACKENDS, Backend, BackendName, BackendUnavailableError
from transect.engine.backends.choice import (
    check_backend,
    choose_precision,
    expects_gpu,
    native_precisions,
    open_backend,
    open_package_backend,
    wants_gpu,
)

__all__ = [
    "GPU_BACKENDS",
    "Backend",
    "BackendName",
    "BackendUnavailableError",
    "check_backend",
    "choose_precision",
    "expects_gpu",
    "native_precisions",
    "open_backend",
    "open_package_backend",
    "wants_gpu",
]
