"""Which backend runs a model on this machine, and in which precision."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transect.engine.backends.base import GPU_BACKENDS, Backend, BackendName, BackendUnavailableError
from transect.engine.backends.cuda.session import Gpu, gpu_is_offered, gpu_is_there, require_gpu_runtime
from transect.engine.backends.cuda.session import native_precisions as gpu_precisions
from transect.engine.backends.onnxruntime_cpu import OnnxRuntime, import_onnxruntime
from transect.engine.backends.openvino_cpu import OpenVino, import_openvino
from transect.engine.backends.openvino_cpu import native_precisions as openvino_precisions
from transect.engine.backends.replaceable import Replaceable
from transect.engine.package import PackageManifest, Precision
from transect.errors import InputError, PackageError

logger = logging.getLogger(__name__)

_BACKENDS: tuple[BackendName, ...] = ("openvino", "onnxruntime", "cuda", "tensorrt")
_PRECISIONS = ("auto", "fp32", "bf16", "int8", "fp16", "tf32")
# Nobody else computes these.
_ONLY: dict[str, BackendName] = {"bf16": "openvino", "int8": "openvino", "fp16": "cuda", "tf32": "cuda"}


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
    outlive_gpu: bool = False,
) -> Backend:
    """Load the model of a package in the precision that choose_precision() finds; arguments as in open_backend.

    With `outlive_gpu` and "auto", a GPU that is lost later is replaced by the CPU, which computes fp32 within 0.001 of
    it; without, infer() raises DeviceLostError.

    Raises InputError for an unknown or unavailable backend or precision, PackageError for a precision
    that the package lacks and for a file that cannot be loaded.
    """
    _check_names(backend, precision)
    tuning = _Tuning(threads, max_batch, batch_wait_ms / 1000)

    def load(name: BackendName) -> Backend:
        chosen = choose_precision(manifest, precision, native_precisions(name), name)
        return _load(name, package / manifest.model_file(chosen), manifest.image_size, chosen, tuning)

    return _first(_candidates(backend, precision), load, outlive_gpu=outlive_gpu)


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
    IR. `backend` is "openvino", "onnxruntime", "cuda", "tensorrt" or "auto": cuda where it works, else
    openvino, and onnxruntime where that is not installed. `threads` bounds the CPU threads; 0 takes all
    cores. On a GPU, concurrent calls are gathered into batches of up to `max_batch`, for at most
    `batch_wait_ms`.

    Raises InputError for an unknown or unavailable backend, PackageError when the file cannot be loaded.
    """
    _check_names(backend, precision)
    tuning = _Tuning(threads, max_batch, batch_wait_ms / 1000)
    return _first(_candidates(backend, precision), lambda name: _load(name, model, image_size, precision, tuning))


def check_backend(backend: str) -> None:
    """Raise InputError for a backend that is unknown, or that this installation does not have.

    Loads no model: whether a GPU starts is found out by opening one.
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
    """Whether these settings, with what is installed, mean a GPU; it need not be there."""
    return any(name in GPU_BACKENDS for name in _candidates(backend, precision))


def expects_gpu(backend: str, precision: str) -> bool:
    """Whether a package will likely be run on a GPU, before one is opened."""
    return wants_gpu(backend, precision) and gpu_is_there()


def choose_precision(
    manifest: PackageManifest, wanted: str, native: frozenset[Precision], backend: BackendName
) -> Precision:
    """What to run the package in, with `backend` that computes `native` in hardware.

    "auto" is the variant with the greatest speedup in the package among those in `native`, or fp32
    where none is faster: it depends on package and kind of machine alone, so that replicas agree and
    a census can be repeated. Raises PackageError for a precision that the package lacks, InputError
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
    """What `backend` computes in hardware on this machine; InputError when it is not installed.

    For cuda, fp32 alone where no GPU is found.
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
    """What to try, in this order; the last one's failure is the user's."""
    if backend != "auto":
        return tuple(name for name in _BACKENDS if name == backend)
    if precision in _ONLY:
        return (_ONLY[precision],)
    cpu: BackendName = "openvino" if _has_openvino() else "onnxruntime"
    return ("cuda", cpu) if gpu_is_offered("cuda") else (cpu,)


def _first(
    candidates: tuple[BackendName, ...], load: Callable[[BackendName], Backend], *, outlive_gpu: bool = False
) -> Backend:
    *others, last = candidates
    for name in others:
        try:
            backend = load(name)
            return Replaceable(backend, lambda: load(last)) if outlive_gpu else backend
        except BackendUnavailableError as error:
            logger.warning("%s Going on with %s.", error, last)
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
