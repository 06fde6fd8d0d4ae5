"""The backend protocol, and checks that all backends share."""

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transect.engine.package import Precision
from transect.errors import InputError, PackageError

BackendName = Literal["openvino", "onnxruntime", "cuda", "tensorrt"]
GPU_BACKENDS: tuple[BackendName, ...] = ("cuda", "tensorrt")


class Backend(Protocol):
    """A loaded network; infer() is thread-safe.

    If `name`, `precision`, `instructions` and `library` are equal, equal inputs give comparable numbers.
    """

    name: BackendName
    precision: Precision
    instructions: str  # the CPU's instruction set and kernels, or the GPU's architecture
    library: str  # the inference library with its version
    parallel: int  # useful number of concurrent infer() calls

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        """Run one (S, S, 3) RGB input; returns the raw output with its batch axis of 1.

        The output may omit anchors whose scores are all at most `least`. Raises PackageError if the model cannot be
        run, DeviceLostError if its device is lost.

        The same thread's next infer() may overwrite the output.
        """

    def close(self) -> None:
        """Free the network; infer() must not be called again. May be called twice."""


class BackendUnavailableError(InputError):
    """This machine or this installation cannot run a backend."""


def check_input(model: Path, shape: list[int | None], image_size: int) -> None:
    """Raise PackageError unless `shape` (None where the model leaves a size open) fits (1, 3, S, S)."""
    expected = (1, 3, image_size, image_size)
    if len(shape) != 4 or any(have not in (None, want) for have, want in zip(shape, expected, strict=True)):
        text = " x ".join("any" if size is None else str(size) for size in shape)
        raise PackageError(
            f"{model} takes an input of {text} and its package.json says {' x '.join(map(str, expected))}; "
            "build the package again."
        )
