"""Batch runner on a GPU: ONNX Runtime sessions, one for each of a few batch sizes."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.base import BackendName, BackendUnavailableError, check_input
from transect.engine.backends.best_anchors import OUTPUTS, as_output, best_anchors_model, has_all_above
from transect.engine.backends.cuda.errors import cuda_fault
from transect.engine.backends.onnxruntime_cpu import import_onnxruntime, input_shape
from transect.engine.backends.prelude import prelude_model

logger = logging.getLogger(__name__)

Providers = list[tuple[str, dict[str, Any]]]

# The number of candidates of a crowded tile; an output with fewer anchors is copied whole.
KEEP = 1024


def batch_sizes(max_batch: int) -> tuple[int, ...]:
    """The batch sizes that are computed: one, a quarter of `max_batch`, and all. Other batches are padded."""
    return tuple(sorted({1, max(1, max_batch // 4), max_batch}))


class GpuRunner:
    """Runs batches; pixels are copied as bytes and converted on the device, and only candidates are copied back.

    CUDA's convolutions cache the plan of the last shape only, and rebuild it for another one. So each batch size has
    its own session, whose plans stay. TensorRT's engine covers all sizes: `one_session`.
    """

    def __init__(
        self,
        name: BackendName,
        model: Path,
        image_size: int,
        *,
        providers: Providers,
        device: Literal["cuda", "cpu"],
        one_session: bool = False,
        keep: int = KEEP,
    ) -> None:
        """`providers` in ONNX Runtime's form; the first one must start, on `device`.

        `keep` is the number of an image's anchors to copy back if they include all candidates; 0 copies all.
        """
        self._name = name
        self._model = model
        self._image_size = image_size
        self._providers = providers
        # TensorRT would build an engine for each shape of the few small layers around the network.
        self._around = [p for p in providers if p[0] != "TensorrtExecutionProvider"]
        self._device = device
        self._one_session = one_session
        self._keep = keep
        self._prelude: Any = None
        self._best: Any = None
        self._sessions: dict[int, Any] = {}
        self._input = self._output = ""

    def prepare(self, max_batch: int) -> int:
        """As in Runner: run each size once, so that memory and plans are allocated before the first request.

        A size that does not fit into the GPU's memory is halved until it does. Raises BackendUnavailableError if the
        provider does not start, PackageError for a model of another input size, and ONNX Runtime's exceptions.
        """
        self._prelude = self._prelude or open_session(self._name, prelude_model(), self._around)
        while True:
            size = 1
            try:
                for size in batch_sizes(max_batch):
                    self._warm_up(size)
            except Exception as error:  # ONNX Runtime's errors have no common base class
                if size == 1 or cuda_fault(error) != "memory":
                    raise
                max_batch = size // 2
                self._sessions = {one: self._sessions[one] for one in batch_sizes(max_batch) if one in self._sessions}
            else:
                return max_batch

    def run(self, pixels: NDArray[np.uint8], count: int, least: float) -> Sequence[NDArray[np.float32]]:
        """As in Runner; replaces a size that no longer fits into the GPU's memory by a smaller one."""
        while True:
            size = min((size for size in self._sessions if size >= count), default=max(self._sessions))
            try:
                parts = [
                    self._run(pixels[k : k + size], size, min(size, count - k), least) for k in range(0, count, size)
                ]
            except Exception as error:  # ONNX Runtime's errors have no common base class
                if size == 1 or cuda_fault(error) != "memory":
                    raise
                del self._sessions[size]
                logger.warning(
                    "A batch of %d does not fit into the GPU's memory any more; batches of up to %d are computed.",
                    size,
                    max(self._sessions),
                )
            else:
                return [output for part in parts for output in part]

    def _run(self, pixels: NDArray[np.uint8], size: int, count: int, least: float) -> list[NDArray[np.float32]]:
        """`count` images in a batch of `size`; intermediate values stay on the device."""
        if len(pixels) < size and not self._one_session:
            pixels = np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), np.uint8)])
        whole = self._outputs(pixels[: count if self._one_session else size], size)
        if self._best is None:
            return np.split(whole.numpy()[:count], count)
        binding = self._best.io_binding()
        binding.bind_ortvalue_input("output", whole)
        for name in OUTPUTS:
            binding.bind_output(name, "cpu")
        self._best.run_with_iobinding(binding)
        kept, anchors, best, total = binding.copy_outputs_to_cpu()
        complete = [has_all_above(best[k], total[k], least) for k in range(count)]
        full = None if all(complete) else whole.numpy()
        return [
            as_output(kept[k], anchors[k]) if full is None or complete[k] else full[k : k + 1].copy()
            for k in range(count)
        ]

    def close(self) -> None:
        """Free the sessions; run() must not be called again."""
        self._sessions = {}
        self._prelude = self._best = None

    def _warm_up(self, size: int) -> None:
        if size not in self._sessions:
            shared = next(iter(self._sessions.values()), None) if self._one_session else None
            session = shared or open_session(self._name, str(self._model), self._providers)
            check_input(self._model, input_shape(session), self._image_size)
            self._input, self._output = session.get_inputs()[0].name, session.get_outputs()[0].name
            self._sessions[size] = session
        blank = np.zeros((size, self._image_size, self._image_size, 3), np.uint8)
        if self._best is None and self._keep:
            shape = self._outputs(blank, size).shape()
            # An end-to-end head has a few rows of six numbers.
            if len(shape) == 3 and shape[2] > self._keep:
                self._best = open_session(self._name, best_anchors_model(self._keep), self._around)
        self.run(blank, size, 0.0)

    def _outputs(self, pixels: NDArray[np.uint8], size: int) -> Any:
        """The network's output on the device, as ONNX Runtime's value."""
        first = self._prelude.io_binding()
        first.bind_cpu_input("pixels", pixels)
        first.bind_output("images", self._device)
        self._prelude.run_with_iobinding(first)
        session = self._sessions[size]
        second = session.io_binding()
        second.bind_ortvalue_input(self._input, first.get_outputs()[0])
        second.bind_output(self._output, self._device)
        session.run_with_iobinding(second)
        return second.get_outputs()[0]


def open_session(name: BackendName, model: str | bytes, providers: Providers) -> Any:
    """A session on the first of `providers`. Raises BackendUnavailableError if that one does not start."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    # If a provider does not start, ONNX Runtime falls back to the next one and only logs it.
    if session.get_providers()[0] != providers[0][0]:
        raise BackendUnavailableError(
            f"Backend {name} does not start on this machine (ONNX Runtime fell back to "
            f"{session.get_providers()[0]}): look for an NVIDIA GPU, its driver and the {name} libraries, "
            "or choose another TRANSECT_BACKEND."
        )
    return session
