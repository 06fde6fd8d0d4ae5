"""Choice of the backend and precision for a model on this machine."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transect.engine.backends.base import GPU_BACKENDS, Backend, BackendName, BackendUnavailableError
from transect.engine.backends.cuda.session import Gpu, gpu_is_present, gpu_is_supported, require_gpu_runtime
from transect.engine.backends.cuda.session import native_precisions as gpu_precisions
from transect.engine.backends.onnxruntime_cpu import OnnxRuntime, import_onnxruntime
from transect.engine.backends.openvino_cpu import OpenVino, import_openvino
from transect.engine.backends.openvino_cpu import native_precisions as openvino_precisions
from transect.engine.backends.replaceable import CpuFallbackBackend
from transect.engine.package import PackageManifest, Precision
from transect.errors import InputError, PackageError

logger = logging.getLogger(__name__)

_BACKENDS: tuple[BackendName, ...] = ("openvino", "onnxruntime", "cuda", "tensorrt")
_PRECISIONS = ("auto", "fp32", "bf16", "int8", "fp16", "tf32")
# The only backend of each of these precisions.
_SOLE_BACKEND: dict[str, BackendName] = {"bf16": "openvino", "int8": "openvino", "fp16": "cuda", "tf32": "cuda"}


@dataclass(frozen=True)
class _Tuning:
    threads: int
    max_batch: int
    wait_s: float


def open_package_backend(
    package: Path,
    manifest: PackageManifest,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    max_batch: int = 16,
    batch_wait_ms: float = 2.0,
    cpu_fallback: bool = False,
) -> Backend:
    """Load the model of a package in the precision that choose_precision() finds; arguments as in open_backend.

    With `cpu_fallback` and "auto", the CPU replaces a GPU that is lost later; its fp32 results agree within 0.001.
    Without it, infer() raises DeviceLostError.

    Raises InputError for an unknown or unavailable backend or precision, PackageError for a precision
    that the package lacks and for a file that cannot be loaded.
    """
    _check_names(backend, precision)
    tuning = _Tuning(threads, max_batch, batch_wait_ms / 1000)

    def load(name: BackendName) -> Backend:
        chosen = choose_precision(manifest, precision, native_precisions(name), name)
        return _load(name, package / manifest.model_file(chosen), manifest.image_size, chosen, tuning)

    return _open_first_available(_candidates(backend, precision), load, cpu_fallback=cpu_fallback)


def open_backend(
    model: Path,
    image_size: int,
    *,
    backend: str = "auto",
    precision: Precision = "fp32",
    threads: int = 0,
    max_batch: int = 16,
    batch_wait_ms: float = 2.0,
) -> Backend:
    """Load a model file whose input is float32 NCHW RGB in 0..1 of side `image_size`.

    `model` is an ONNX file (for fp16 the one that computes in it), or for int8 the .xml of an OpenVINO
    IR. `backend` is "openvino", "onnxruntime", "cuda", "tensorrt" or "auto": cuda if it works, else
    openvino, and onnxruntime if that is not installed. `threads` bounds the CPU threads; 0 takes all
    cores. On a GPU, concurrent calls are gathered into batches of up to `max_batch`, for at most
    `batch_wait_ms`.

    Raises InputError for an unknown or unavailable backend, PackageError if the file cannot be loaded.
    """
    _check_names(backend, precision)
    tuning = _Tuning(threads, max_batch, batch_wait_ms / 1000)
    return _open_first_available(
        _candidates(backend, precision), lambda name: _load(name, model, image_size, precision, tuning)
    )


def check_backend(backend: str) -> None:
    """Raise InputError for a backend that is unknown, or that this installation does not have.

    Loads no model, so it does not check that a GPU starts.
    """
    _check_names(backend, "auto")
    if backend in GPU_BACKENDS:
        require_gpu_runtime(backend)
    try:
        if backend == "openvino":
            import_openvino()
        elif backend == "onnxruntime":
            import_onnxruntime()
    except ImportError as error:
        raise _not_installed(backend) from error


def wants_gpu(backend: str, precision: str) -> bool:
    """Whether these settings and the installed libraries select a GPU; it need not be present."""
    return any(name in GPU_BACKENDS for name in _candidates(backend, precision))


def expects_gpu(backend: str, precision: str) -> bool:
    """Whether a package will likely be run on a GPU, before one is opened."""
    return wants_gpu(backend, precision) and gpu_is_present()


def choose_precision(
    manifest: PackageManifest, wanted: str, native: frozenset[Precision], backend: BackendName
) -> Precision:
    """The precision for the package on `backend`, which computes `native` in hardware.

    "auto" is the variant in `native` with the greatest speedup in the package, or fp32 if none is
    faster: it depends only on the package and the kind of machine, so that replicas agree and a
    census is reproducible. Raises PackageError for a precision that the package lacks, InputError
    for one that is not native.
    """
    if wanted == "auto":
        faster = [variant for variant in manifest.variants if variant.precision in native and variant.speedup > 1]
        best = max(faster, key=lambda variant: (variant.speedup, variant.precision), default=None)
        return "fp32" if best is None else best.precision
    for precision in manifest.precisions:
        if precision == wanted:
            if precision in native:
                return precision
            raise InputError(
                f"Precision {wanted} is not what backend {backend} computes in hardware on this machine "
                f"(it has {', '.join(sorted(native))}); set TRANSECT_PRECISION=auto or fp32."
            )
    raise PackageError(
        f"The model package has no variant {wanted} that passed its test in training (it has "
        f"{', '.join(manifest.precisions)}); set TRANSECT_PRECISION=auto, or train again."
    )


def native_precisions(backend: BackendName) -> frozenset[Precision]:
    """The precisions that `backend` computes in hardware here. Raises InputError if it is not installed.

    For cuda without a GPU, only fp32.
    """
    if backend == "cuda":
        return gpu_precisions()
    if backend != "openvino":
        return frozenset({"fp32"})
    try:
        return openvino_precisions()
    except ImportError as error:
        raise _not_installed(backend) from error


def _check_names(backend: str, precision: str) -> None:
    if backend != "auto" and backend not in _BACKENDS:
        raise InputError(f"Backend {backend!r} is unknown: give auto, {', '.join(_BACKENDS)} (TRANSECT_BACKEND).")
    if precision not in _PRECISIONS:
        raise InputError(f"Precision {precision!r} is unknown: give {', '.join(_PRECISIONS)} (TRANSECT_PRECISION).")


def _candidates(backend: str, precision: str) -> tuple[BackendName, ...]:
    """The backends to try in order; only the failure of the last one is raised."""
    if backend != "auto":
        return tuple(name for name in _BACKENDS if name == backend)
    if precision in _SOLE_BACKEND:
        return (_SOLE_BACKEND[precision],)
    cpu: BackendName = "openvino" if _has_openvino() else "onnxruntime"
    return ("cuda", cpu) if gpu_is_supported("cuda") else (cpu,)


def _open_first_available(
    candidates: tuple[BackendName, ...], load: Callable[[BackendName], Backend], *, cpu_fallback: bool = False
) -> Backend:
    *others, last = candidates
    for name in others:
        try:
            backend = load(name)
            return CpuFallbackBackend(backend, lambda: load(last)) if cpu_fallback else backend
        except BackendUnavailableError as error:
            logger.warning("%s Continuing with %s.", error, last)
    return load(last)


def _load(name: BackendName, model: Path, image_size: int, precision: Precision, tuning: _Tuning) -> Backend:
    if precision not in native_precisions(name):
        raise InputError(f"Backend {name} does not compute {precision} on this machine; choose fp32.")
    try:
        if name == "openvino":
            return OpenVino(model, image_size, precision, tuning.threads)
        if name == "onnxruntime":
            return OnnxRuntime(model, image_size, tuning.threads)
        return Gpu.open(name, model, image_size, precision, max_batch=tuning.max_batch, wait_s=tuning.wait_s)
    except ImportError as error:
        raise _not_installed(name) from error
    except (InputError, PackageError):
        raise
    except Exception as error:  # both libraries raise plain RuntimeErrors of many lines
        reason = next(
            (line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__
        )
        raise PackageError(f"{model} cannot be loaded by {name}: {reason}") from error


def _not_installed(backend: str) -> BackendUnavailableError:
    extra = "detect-cuda" if backend in GPU_BACKENDS else "detect"
    return BackendUnavailableError(
        f"Backend {backend} is not installed; install transect[{extra}] or choose another TRANSECT_BACKEND."
    )


def _has_openvino() -> bool:
    try:
        import_openvino()
    except ImportError:
        return False
    return True
