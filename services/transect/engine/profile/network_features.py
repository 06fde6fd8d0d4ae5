"""Network features of a picture: the mean of each feature map that reaches the network's head."""

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray
from transect.engine.backends.openvino_cpu import import_openvino, openvino_core

# Names of the layers in an Ultralytics export; the last one is the head.
_LAYER = re.compile(r"/?model\.(\d+)/")


class NetworkFeatures:
    """The part of a model below its head, always run by OpenVINO on the CPU in fp32.

    describe() is thread-safe.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._local = threading.local()

    @classmethod
    def open(cls, model: Path, image_size: int) -> "NetworkFeatures | None":
        """Open an ONNX model with an input of side `image_size`; None without OpenVINO or named layers."""
        try:
            ov, core = import_openvino(), openvino_core()
        except ImportError:
            return None
        whole = core.read_model(model)
        whole.reshape([1, 3, image_size, image_size])
        maps = _maps_below_head(whole)
        if not maps:
            return None
        means = [ov.opset13.reduce_mean(one, np.array([2, 3]), False).output(0) for one in maps]
        part = ov.Model(means, whole.get_parameters(), "features")
        hints = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        return cls(core.compile_model(part, "CPU", hints))

    def describe(self, square: NDArray[np.uint8]) -> FloatArray:
        """The means (d,) of all feature maps for one (S, S, 3) RGB input."""
        if not hasattr(self._local, "request"):
            self._local.request = self._network.create_infer_request()
        request = self._local.request
        planes = np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        request.infer({0: planes})
        means = [np.array(output.data, np.float64).ravel() for output in request.output_tensors]
        return np.concatenate(means)


def _maps_below_head(network: Any) -> list[Any]:
    """The outputs (1, c, h, w) of earlier layers that the last layer reads, in a fixed order."""
    nodes = network.get_ordered_ops()
    head = max((_layer(node) for node in nodes), default=-1)
    found: dict[str, Any] = {}
    for node in nodes:
        if _layer(node) != head or head < 1:
            continue
        for port in node.inputs():
            source = port.get_source_output()
            below = source.get_node()
            rank = source.get_partial_shape().rank
            if 0 <= _layer(below) < head and below.get_type_name() != "Constant" and rank.get_length() == 4:
                found.setdefault(below.get_friendly_name(), source)
    return [found[name] for name in sorted(found, key=lambda name: (_number(name), name))]


def _layer(node: Any) -> int:
    return _number(node.get_friendly_name())


def _number(name: str) -> int:
    match = _LAYER.match(name)
    return int(match[1]) if match else -1
