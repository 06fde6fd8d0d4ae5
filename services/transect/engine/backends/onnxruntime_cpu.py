"""ONNX Runtime on the CPU."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.base import BackendName, check_input
from transect.engine.backends.instructions import cpu_instructions
from transect.engine.package import Precision


def import_onnxruntime() -> Any:
    """Import `onnxruntime` with its telemetry disabled. Raises ImportError without it."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def input_shape(session: Any) -> list[int | None]:
    """The sizes of a session's first input, None for a dynamic one."""
    return [size if isinstance(size, int) else None for size in session.get_inputs()[0].shape]


class OnnxRuntime:
    """A session that each caller runs directly: batches gain nothing on a CPU (measured)."""

    name: BackendName = "onnxruntime"
    precision: Precision = "fp32"

    def __init__(self, model: Path, image_size: int, threads: int) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        # Waiting threads yield their core to other session runs instead of spinning.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        check_input(model, input_shape(self._session), image_size)
        self._input = self._session.get_inputs()[0].name
        # It chooses its kernels by the CPU alone and ignores oneDNN's limit.
        self.instructions = cpu_instructions()
        self.library = f"onnxruntime {onnxruntime.__version__}"
        self.parallel = 2

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        """As in Backend."""
        planes = np.empty((1, 3, *image.shape[:2]), np.float32)
        np.multiply(image.transpose(2, 0, 1), np.float32(1 / 255), out=planes[0])
        output: NDArray[np.float32] = self._session.run(None, {self._input: planes})[0]
        return output

    def close(self) -> None:
        """As in Backend."""
        self._session = None
