"""A tiny ONNX model that turns pixels into a network's input, so that this runs on the GPU too.

Its bytes are written here, because the detector's image holds no ONNX package. Numbers of fields
are those of the ONNX specification's onnx.proto; the encoding is that of Protocol Buffers.
"""

import struct

_FLOAT, _UINT8 = 1, 2  # TensorProto.DataType
_INT, _INTS = 2, 7  # AttributeProto.AttributeType


def prelude_model() -> bytes:
    """An ONNX model from `pixels`, uint8 (n, S, S, 3), to `images`, float32 (n, 3, S, S) in 0..1."""
    to_float = (5, _message((1, "to"), (3, _FLOAT), (20, _INT)))
    order = (5, _message((1, "perm"), *((8, axis) for axis in (0, 3, 1, 2)), (20, _INTS)))
    graph = _message(
        (1, _node("Cast", ["pixels"], "floats", to_float)),
        (1, _node("Div", ["floats", "white"], "scaled")),
        (1, _node("Transpose", ["scaled"], "images", order)),
        (2, "pixels"),
        (5, _message((2, _FLOAT), (8, "white"), (9, struct.pack("<f", 255.0)))),
        (11, _value("pixels", _UINT8, ["batch", "height", "width", 3])),
        (12, _value("images", _FLOAT, ["batch", 3, "height", "width"])),
    )
    return _message((1, 8), (7, graph), (8, _message((1, ""), (2, 17))))


def _node(operator: str, inputs: list[str], output: str, *attributes: tuple[int, bytes]) -> bytes:
    return _message(*((1, name) for name in inputs), (2, output), (3, operator), (4, operator), *attributes)


def _value(name: str, kind: int, sizes: list[int | str]) -> bytes:
    shape = _message(*((1, _message((1 if isinstance(size, int) else 2, size))) for size in sizes))
    return _message((1, name), (2, _message((1, _message((1, kind), (2, shape))))))


def _message(*fields: tuple[int, int | str | bytes]) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(_varint(number << 3) + _varint(value))
        else:
            content = value.encode() if isinstance(value, str) else value
            parts.append(_varint(number << 3 | 2) + _varint(len(content)) + content)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    groups = []
    while True:
        value, low = value >> 7, value & 0x7F
        groups.append(low | (0x80 if value else 0))
        if not value:
            return bytes(groups)
