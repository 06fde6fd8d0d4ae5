"""An fp16 copy of an exported model, whose box decoding stays in float32."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from onnx.compose import add_prefix, merge_models
from onnx.utils import Extractor

from transect.files import atomic_path

_LEARNED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def convert_to_fp16(source: Path, target: Path) -> None:
    """Write the ONNX model `source` as fp16 to `target`; its input and output stay float32.

    The nodes after the last learned layers stay float32 too: from 512 on, fp16 has steps of half a pixel. Raises
    ImportError without ONNX Runtime, and the exceptions of its converter.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    network, decoding = split_off_decoding(onnx.load(source))
    # Nodes excluded from the conversion would still exchange fp16 tensors: so the model is split in two.
    half: ModelProto = convert_float_to_float16(network, keep_io_types=True)
    # The converter puts its casts at the end.
    OnnxModel(half).topological_sort()
    # Both parts may use a constant of the same name.
    others = ("nodes", "edges", "inputs", "outputs", "value_infos", "functions")
    half = add_prefix(half, "half/", **{f"rename_{what}": False for what in others})
    for part in (half, decoding):
        del part.graph.value_info[:]
    joints = [(value.name, value.name) for value in half.graph.output]
    model = merge_models(half, decoding, joints)
    onnx.checker.check_model(model)
    with atomic_path(target) as temporary:
        onnx.save(model, temporary)


def split_off_decoding(model: ModelProto) -> tuple[ModelProto, ModelProto]:
    """Split a model in two: up to the last learned layers, and the decoding of their outputs."""
    network, decoding = _parts(model)
    produced = {name for node in network for name in node.output}
    between = [name for name in dict.fromkeys(name for node in decoding for name in node.input) if name in produced]
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    parts = Extractor(onnx.shape_inference.infer_shapes(model))
    return parts.extract_model(inputs, between), parts.extract_model(between, outputs)


def _parts(model: ModelProto) -> tuple[list[NodeProto], list[NodeProto]]:
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    needed: set[str] = set()
    network, decoding = [], []
    # ONNX keeps nodes in the order in which they can be computed.
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) or _is_learned(node, weights):
            needed.update(node.input)
            network.append(node)
        else:
            decoding.append(node)
    return network[::-1], decoding[::-1]


def _is_learned(node: NodeProto, weights: dict[str, NDArray[np.generic]]) -> bool:
    """Whether a node has learned weights.

    The weights of distribution focal loss, which sums over its bins, are the constants 0, 1, 2, ... (Li et al. 2020,
    "Generalized Focal Loss").
    """
    matrices = [weights[name] for name in node.input if name in weights and weights[name].ndim > 1]
    return node.op_type in _LEARNED and not all(np.array_equal(m.ravel(), np.arange(m.size)) for m in matrices)
