"""ONNX models whose tensors lie elsewhere are refused, wherever in the model the tensor is."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from transect.engine import MODEL_FILE, Detector, hash_files, read_manifest, verify_package, write_manifest
from transect.engine.onnx_references import _PATHS, refuse_external_data
from transect.errors import PackageError


def _messages_below(message: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Descriptors of `message` and of all that its fields hold, by name."""
    if message.name not in found:
        found[message.name] = message
        for field in message.fields:
            if field.message_type is not None:
                _messages_below(field.message_type, found)
    return found


def _ways_to_a_tensor() -> dict[str, dict[int, str]]:
    messages = _messages_below(onnx.ModelProto.DESCRIPTOR, {})
    reach = {"TensorProto"}
    for _ in messages:
        reach |= {
            name
            for name, one in messages.items()
            if any(f.message_type and f.message_type.name in reach for f in one.fields)
        }
    return {
        name: {
            f.number: f.message_type.name
            for f in messages[name].fields
            if f.message_type and f.message_type.name in reach
        }
        for name in reach
    }


def test_every_way_to_a_tensor_is_walked() -> None:
    """Against the description of ONNX that the installed package has: a new way to a tensor fails here."""
    assert _ways_to_a_tensor() == _PATHS
    tensor = TensorProto.DESCRIPTOR.fields_by_name
    assert (tensor["external_data"].number, tensor["data_location"].number) == (13, 14)


def _external(tensor: TensorProto) -> TensorProto:
    tensor.CopyFrom(helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]))
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.pt"
    return tensor


def _in_attribute(model: Any) -> None:
    _external(model.graph.node[0].attribute.add(name="t", type=onnx.AttributeProto.TENSOR).t)


def _in_subgraph(model: Any) -> None:
    inner = model.graph.node[0].attribute.add(name="g", type=onnx.AttributeProto.GRAPH).g
    deeper = inner.node.add(op_type="If").attribute.add(name="gs", type=onnx.AttributeProto.GRAPHS).graphs.add()
    _external(deeper.initializer.add())


def _in_function(model: Any) -> None:
    _external(model.functions.add(name="f").node.add(op_type="Constant").attribute.add(name="ts").tensors.add())


_PLACES: list[Callable[[Any], Any]] = [
    lambda model: _external(model.graph.initializer[0]),
    lambda model: _external(model.graph.sparse_initializer.add().values),
    lambda model: _external(model.graph.node[0].attribute.add(name="s").sparse_tensor.indices),
    lambda model: _external(model.training_info.add().algorithm.initializer.add()),
    _in_attribute,
    _in_subgraph,
    _in_function,
]


@pytest.mark.parametrize("place", _PLACES)
def test_a_tensor_in_another_file_is_found_wherever_it_is(dot_package: Path, tmp_path: Path, place: Any) -> None:
    model = onnx.load(dot_package / MODEL_FILE)
    path = tmp_path / MODEL_FILE
    onnx.save(model, path)
    refuse_external_data(path)
    place(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(PackageError, match=r"model\.onnx keeps tensors in another file") as caught:
        refuse_external_data(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("half", ["external_data", "data_location"])
def test_half_of_what_names_another_file_is_enough(tmp_path: Path, half: str) -> None:
    model = onnx.ModelProto()
    _external(model.graph.initializer.add()).ClearField("data_location" if half == "external_data" else "external_data")
    path = tmp_path / MODEL_FILE
    path.write_bytes(model.SerializeToString())
    with pytest.raises(PackageError, match="another file"):
        refuse_external_data(path)


def test_the_graph_may_come_in_pieces(tmp_path: Path) -> None:
    """Protobuf merges what is given twice, so the second piece counts as much as the first."""
    whole, piece = onnx.ModelProto(), onnx.ModelProto()
    whole.graph.name = "first"
    _external(piece.graph.initializer.add())
    path = tmp_path / MODEL_FILE
    path.write_bytes(whole.SerializeToString() + piece.SerializeToString())
    with pytest.raises(PackageError, match="another file"):
        refuse_external_data(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01",  # field 0
        b"\x3a\x05ab",  # a graph that ends before it is whole
        b"\x3a\xff\xff\xff\xff\xff\x01",  # a length of six bytes
        b"\xba\x80\x80\x80\x80\x01\x00",  # the tag of the graph, longer than a tag may be
        b"\xba\x80\x80\x80\x10\x00",  # the same with bits that a reader cuts off
        b"\x08" + b"\xff" * 11,  # a number without end
        b"\x3b\x3c",  # a group
        b"\x3d\x00",  # four bytes, of which one is there
    ],
)
def test_what_another_reader_could_read_otherwise_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / MODEL_FILE
    path.write_bytes(content)
    with pytest.raises(PackageError, match="not a valid ONNX file"):
        refuse_external_data(path)


def test_graphs_in_graphs_in_graphs_end(tmp_path: Path) -> None:
    content = b""
    for _ in range(2000):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            content = bytes([tag]) + _length(len(content)) + content
    path = tmp_path / MODEL_FILE
    path.write_bytes(b"\x3a" + _length(len(content)) + content)
    refuse_external_data(path)


def _length(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize("listed", [True, False])
def test_a_package_with_such_a_model_is_not_opened(dot_package: Path, tmp_path: Path, listed: bool) -> None:
    """Also where the other file is listed: the model could name any other as well."""
    package = Path(shutil.copytree(dot_package, tmp_path / "package"))
    model = onnx.load(package / MODEL_FILE)
    onnx.save(model, package / MODEL_FILE, save_as_external_data=True, location="more.bin", size_threshold=0)
    assert (package / "more.bin").stat().st_size > 0
    manifest = read_manifest(package)
    names = [*manifest.files, *(["more.bin"] if listed else [])]
    write_manifest(package, manifest.model_copy(update={"files": hash_files(package, names)}))
    for check in (verify_package, Detector.open):
        with pytest.raises(PackageError, match="keeps tensors in another file" if listed else "is not listed"):
            check(package)
