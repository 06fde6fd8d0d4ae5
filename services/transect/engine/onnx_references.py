"""Detect external tensors in an ONNX file, from its bytes alone.

A tensor may refer to values in another file (or, for ONNX Runtime, at a memory address), which the hash of the model
does not cover. The detector has no `onnx` package, so this module walks the protobuf itself, along every path of
onnx.proto that leads to a tensor. It rejects anything that it cannot parse: another reader might parse it differently.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from transect.errors import PackageError

# For each message type, the field numbers that contain, or lead to, a tensor.
_PATHS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "TensorProto": {},
}
# Fields of TensorProto: `external_data` (location of the values) and `data_location` (0: in the file itself).
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Readers disagree on longer varints: some truncate them, some reject them.
_LONGEST_TAG, _LONGEST_VALUE = 5, 10


def refuse_external_data(path: Path) -> None:
    """Raise PackageError when a tensor of the ONNX file `path` is external, or the file is not valid protobuf."""
    try:
        found = _names_external_data(path)
    except ValueError as error:
        raise PackageError(f"{path} is not a valid ONNX file; fetch or build the package again.") from error
    if found:
        raise PackageError(
            f"{path} keeps tensors in another file, which a package may not; "
            "export the model again with its weights inside, and build the package from that."
        )


def _names_external_data(path: Path) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # No recursion: the file controls the depth of its graphs.
        todo = [("ModelProto", 0, len(data))]
        while todo:
            kind, start, end = todo.pop()
            for field, wire, first, last in _fields(data, start, end):
                if kind == "TensorProto" and _is_external(data, field, wire, first, last):
                    return True
                if wire == _BYTES and (below := _PATHS[kind].get(field)) is not None:
                    todo.append((below, first, last))
    return False


def _is_external(data: mmap.mmap, field: int, wire: int, first: int, last: int) -> bool:
    if field == _DATA_LOCATION and wire == _VARINT:
        return _varint(data, first, last, _LONGEST_VALUE)[0] != 0
    return field == _EXTERNAL_DATA and wire == _BYTES


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, first byte and end of each field of the message at `start`. Raises ValueError."""
    while start < end:
        tag, start = _varint(data, start, end, _LONGEST_TAG)
        field, wire = tag >> 3, tag & 7
        if field == 0 or tag >= 1 << 32:
            raise ValueError("a field has no usable number")
        if wire == _VARINT:
            last = _varint(data, start, end, _LONGEST_VALUE)[1]
        elif wire == _BYTES:
            size, start = _varint(data, start, end, _LONGEST_TAG)
            last = start + size
        elif wire in (_FIXED32, _FIXED64):
            last = start + (4 if wire == _FIXED32 else 8)
        else:
            # Groups, which ONNX never had.
            raise ValueError(f"a field has the wire type {wire}")
        if last > end:
            raise ValueError("a field is longer than what holds it")
        yield field, wire, start, last
        start = last


def _varint(data: mmap.mmap, start: int, end: int, longest: int) -> tuple[int, int]:
    """A varint and its end. Raises ValueError."""
    value = 0
    for number in range(min(longest, end - start)):
        byte = data[start + number]
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return value, start + number + 1
    raise ValueError("a number has no end")
