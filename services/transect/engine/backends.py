"""The two programs that run the network: OpenVINO and ONNX Runtime."""

import os
import sys
import threading
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transect.errors import InputError, PackageError

BackendName = Literal["openvino", "onnxruntime"]


class Backend(Protocol):
    """A loaded network. Several threads may call infer() at once."""

    name: BackendName
    parallel: int  # calls of infer() that run well at the same time

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run one (S, S, 3) RGB input; returns the raw output with its batch axis of 1."""


def open_backend(model: Path, image_size: int, *, backend: str = "auto", threads: int = 0) -> Backend:
    """Load an ONNX file whose input is float32 NCHW RGB in 0..1 of side `image_size`.

    `backend` is "openvino", "onnxruntime" or "auto" (OpenVINO, and ONNX Runtime where it is not
    installed). `threads` bounds the CPU threads; 0 takes all cores.

    Raises InputError for an unknown or missing backend, PackageError when the file cannot be loaded.
    """
    if backend not in ("auto", "openvino", "onnxruntime"):
        raise InputError(f"Backend {backend!r} is unknown: give auto, openvino or onnxruntime (TRANSECT_BACKEND).")
    if backend == "auto":
        backend = "openvino" if _has_openvino() else "onnxruntime"
    loader = _OpenVino if backend == "openvino" else _OnnxRuntime
    try:
        return loader(model, image_size, threads)
    except ImportError as error:
        raise InputError(
            f"Backend {backend} is not installed; install transect[detect] or choose another TRANSECT_BACKEND."
        ) from error
    except PackageError:
        raise
    except Exception as error:  # both libraries raise plain RuntimeErrors of many lines
        reason = next(
            (line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__
        )
        raise PackageError(f"{model} cannot be loaded by {backend}: {reason}") from error


def _has_openvino() -> bool:
    try:
        _import_openvino()
    except ImportError:
        return False
    return True


def _import_openvino() -> Any:
    # On import OpenVINO reports its use to a web service through this module. None in sys.modules
    # makes that import fail, upon which OpenVINO uses its own silent stand-in.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # documented, but typed as a module
    import openvino

    return openvino


def _check_input(model: Path, shape: list[int | None], image_size: int) -> None:
    """`shape` has None where the model leaves a size open."""
    expected = (1, 3, image_size, image_size)
    if len(shape) != 4 or any(have not in (None, want) for have, want in zip(shape, expected, strict=True)):
        text = " x ".join("any" if size is None else str(size) for size in shape)
        raise PackageError(
            f"{model} takes an input of {text} and its package.json says {' x '.join(map(str, expected))}; "
            "build the package again."
        )


class _OpenVino:
    name: BackendName = "openvino"

    def __init__(self, model: Path, image_size: int, threads: int) -> None:
        ov = _import_openvino()
        core = ov.Core()
        network = core.read_model(model)
        shape = network.inputs[0].get_partial_shape()
        sizes = [None if size.is_dynamic else size.get_length() for size in shape]
        # One tile a request: on a CPU, parallel requests are faster than batches.
        _check_input(model, [None, *sizes[1:]], image_size)
        network.reshape([1, 3, image_size, image_size])
        steps = ov.preprocess.PrePostProcessor(network)
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
        config = {
            # Without this, OpenVINO rounds to bfloat16 where the CPU can.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            # Several processes on one machine must not fight for the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        self._network = core.compile_model(steps.build(), "CPU", config)
        # One more than the network runs at once, so that decoding a tile leaves no core idle.
        self.parallel = int(self._network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
        self._local = threading.local()

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._network.create_infer_request()
        request.infer({0: np.ascontiguousarray(image)[None]}, share_inputs=True)
        output: NDArray[np.float32] = request.get_output_tensor(0).data.copy()
        return output


class _OnnxRuntime:
    name: BackendName = "onnxruntime"

    def __init__(self, model: Path, image_size: int, threads: int) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        # Waiting threads give their core to the other session runs instead of spinning on it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        tensor = self._session.get_inputs()[0]
        sizes = [size if isinstance(size, int) else None for size in tensor.shape]
        _check_input(model, sizes, image_size)
        self._input = tensor.name
        self.parallel = 2

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        tensor = np.multiply(image.transpose(2, 0, 1)[None], np.float32(1 / 255), dtype=np.float32)
        output: NDArray[np.float32] = self._session.run(None, {self._input: np.ascontiguousarray(tensor)})[0]
        return output
