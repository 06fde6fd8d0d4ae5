"""Encode small ONNX models as bytes, because the detector's image has no `onnx` package.

Field numbers are those of the ONNX specification's onnx.proto; the encoding is that of Protocol Buffers.
"""

import struct

FLOAT, UINT8, INT64 = 1, 2, 7  # TensorProto.DataType
_INT, _INTS = 2, 7  # AttributeProto.AttributeType
_OPSET = 17


def model(*, nodes: list[bytes], constants: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    """A model of opset 17 from what node(), floats(), integers() and value() made."""
    graph = message(
        *((1, one) for one in nodes),
        (2, "graph"),
        *((5, one) for one in constants),
        *((11, one) for one in inputs),
        *((12, one) for one in outputs),
    )
    return message((1, 8), (7, graph), (8, message((1, ""), (2, _OPSET))))


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: int | list[int]) -> bytes:
    """An operator of the standard domain."""
    return message(
        *((1, name) for name in inputs),
        *((2, name) for name in outputs),
        (3, outputs[0]),
        (4, operator),
        *((5, _attribute(name, content)) for name, content in attributes.items()),
    )


def value(name: str, kind: int, sizes: list[int | str]) -> bytes:
    """A named tensor of the graph's border; a size with a name is open."""
    shape = message(*((1, message((1 if isinstance(size, int) else 2, size))) for size in sizes))
    return message((1, name), (2, message((1, message((1, kind), (2, shape))))))


def floats(name: str, number: float) -> bytes:
    """A constant of no dimension."""
    return message((2, FLOAT), (8, name), (9, struct.pack("<f", number)))


def integers(name: str, numbers: list[int]) -> bytes:
    """A constant of one dimension, int64."""
    return message((1, len(numbers)), (2, INT64), (8, name), (9, struct.pack(f"<{len(numbers)}q", *numbers)))


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Fields of one message, each a number and its content."""
    parts = []
    for number, content in fields:
        if isinstance(content, int):
            parts.append(_varint(number << 3) + _varint(content))
        else:
            data = content.encode() if isinstance(content, str) else content
            parts.append(_varint(number << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def _attribute(name: str, content: int | list[int]) -> bytes:
    if isinstance(content, int):
        return message((1, name), (3, content), (20, _INT))
    return message((1, name), *((8, number) for number in content), (20, _INTS))


def _varint(number: int) -> bytes:
    groups = []
    while True:
        number, low = number >> 7, number & 0x7F
        groups.append(low | (0x80 if number else 0))
        if not number:
            return bytes(groups)
