"""The bare network: forward passes on prepared inputs, and nothing else. No program can be faster."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchmarks.reporting import cores
from numpy.typing import NDArray

from transect.engine.backends.openvino_cpu import openvino_core


def openvino_passes(model: Path, inputs: NDArray[np.float32], hint: str, *, pinned: bool) -> Callable[[int], None]:
    """A function that runs N forward passes on OpenVINO in throughput mode, with its optimal number of requests.

    `inputs` is (n, 3, S, S), used cyclically; `hint` is the inference precision: f32 or bf16. `pinned` threads stay on
    their cores, which is faster on an idle machine and slower on a busy one.
    """
    import openvino as ov

    core = openvino_core()
    network = core.read_model(model)
    network.reshape([1, *inputs.shape[1:]])
    config = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": pinned}
    compiled = core.compile_model(network, "CPU", config)
    queue = ov.AsyncInferQueue(compiled, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))

    def passes(count: int) -> None:
        for number in range(count):
            queue.start_async({0: inputs[number % len(inputs)][None]}, share_inputs=True)
        queue.wait_all()

    return passes


def onnxruntime_passes(model: Path, inputs: NDArray[np.float32]) -> Callable[[int], None]:
    """As openvino_passes on ONNX Runtime, one pass after the other on all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def passes(count: int) -> None:
        for number in range(count):
            session.run(None, {name: inputs[number % len(inputs)][None]})

    return passes
