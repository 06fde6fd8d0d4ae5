"""What every backend is to the engine, and what all of them check."""

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transect.engine.package import Precision
from transect.errors import InputError, PackageError

BackendName = Literal["openvino", "onnxruntime", "cuda", "tensorrt"]
GPU_BACKENDS: tuple[BackendName, ...] = ("cuda", "tensorrt")


class Backend(Protocol):
    """A loaded network. Several threads may call infer() at once.

    Where `name`, `precision`, `instructions` and `library` are equal, equal inputs give comparable numbers.
    """

    name: BackendName
    precision: Precision
    instructions: str  # what it computes with: the CPU's instruction set and kernels, or the GPU's architecture
    library: str  # the program that computes, with its version
    parallel: int  # calls of infer() that run well at the same time

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        """Run one (S, S, 3) RGB input; returns the raw output with its batch axis of 1.

        Anchors whose scores are all at most `least` may be left out of it. Raises PackageError when the model cannot be
        run, DeviceLostError when what it ran on is gone.

        The output may be overwritten by the same thread's next infer(), and must not be used after it.
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
