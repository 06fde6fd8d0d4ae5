"""Messages of the Open Inference Protocol v2: JSON, optionally followed by binary tensors.

The protocol: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
Binary tensors: Triton's extension, protocol/extension_binary_data.md of github.com/triton-inference-server/server.
"""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transect.engine import ImageResult
from transect.errors import ImageError
from transect.serving.detection.params import DetectQuery
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import ImageInput, RequestLimits, Upload
from transect.serving.protocols.given_images import (
    ProtocolRequest,
    first_error,
    from_base64,
    refuse_too_many,
    rgb_images,
)

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_DATA_SIZE = "binary_data_size"

OutputName = Literal[
    "boxes",
    "scores",
    "class_ids",
    "class_names",
    "image_index",
    "width",
    "height",
    "tiles",
    "truncated",
    "failure",
    "remarks",
]
# Datatype and shape of each output; -1 is a variable size.
OUTPUTS: dict[OutputName, tuple[str, tuple[int, ...]]] = {
    "boxes": ("FP32", (-1, 4)),
    "scores": ("FP32", (-1,)),
    "class_ids": ("INT64", (-1,)),
    "class_names": ("BYTES", (-1,)),
    "image_index": ("INT64", (-1,)),
    "width": ("INT64", (-1,)),
    "height": ("INT64", (-1,)),
    "tiles": ("INT64", (-1,)),
    "truncated": ("BOOL", (-1,)),
    "failure": ("BYTES", (-1,)),
    "remarks": ("BYTES", (-1,)),
}
INPUTS: dict[str, tuple[str, tuple[int, ...]]] = {"image": ("BYTES", (-1,)), "pixels": ("UINT8", (-1, -1, -1, 3))}
_LONGEST_LENGTH = 12
_DTYPES = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class InputParameters(BaseModel):
    """`binary_data_size`: the bytes of this tensor after the JSON. Other parameters are ignored."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    binary_data_size: Annotated[int | None, Field(ge=0)] = None


class InputTensor(_Message):
    """`image`: BYTES [n], encoded images, in JSON as base64. `pixels`: UINT8 [H, W, 3] or [n, H, W, 3], RGB."""

    name: Literal["image", "pixels"]
    shape: Annotated[list[Annotated[int, Field(ge=0, le=1 << 31)]], Field(min_length=1, max_length=4)]
    datatype: Literal["BYTES", "UINT8"]
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(_Message):
    """`binary_data`: whether the output follows the JSON as a binary tensor."""

    binary_data: bool | None = None


class RequestedOutput(_Message):
    """A requested output."""

    name: OutputName
    parameters: OutputParameters = OutputParameters()


class InferParameters(_Message):
    """Options of the detection, as those of POST /v1/detect."""

    conf: Annotated[float | None, Field(ge=0, le=1, description="Minimum score.")] = None
    tile: Annotated[int | str | None, Field(description="auto, off or pixels.")] = None
    classes: Annotated[str | None, Field(description="Only these classes, separated by commas.")] = None
    timeout: Annotated[int | None, Field(gt=0, description="Microseconds, as in Triton's clients.")] = None
    binary_data_output: Annotated[bool, Field(description="All outputs as binary tensors after the JSON.")] = False


class InferMessage(_Message):
    """An inference request. Without `outputs`, the response has all outputs."""

    id: str | None = None
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: list[RequestedOutput] | None = None


class OutputTensor(BaseModel):
    """One output; `data` is flat and row-major, or absent if `parameters` has `binary_data_size`."""

    name: OutputName
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """The requested outputs; `parameters` has the model's `run_id` and the `precision` of the inference."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, str]
    outputs: list[OutputTensor]


@dataclass(frozen=True)
class InferRequest(ProtocolRequest):
    """A parsed inference request; `message` has the requested outputs and their format."""

    message: InferMessage


def parse_message(body: bytes, header_length: str | None, limits: RequestLimits) -> InferRequest:
    """Parse a request; an invalid image is replaced by its ImageError.

    `header_length` is the value of Inference-Header-Content-Length. Raises ProblemError: 400 for a request that
    violates the protocol, 413 for more images than `limits` allow.
    """
    size = _json_size(body, header_length)
    try:
        message = InferMessage.model_validate_json(body[:size])
        query = _query(message.parameters)
    except ValidationError as error:
        raise _invalid(first_error(error, "The request")) from None
    tensor = message.inputs[0]
    if tensor.datatype != INPUTS[tensor.name][0]:
        raise _invalid(f"inputs.0: {tensor.name} is {INPUTS[tensor.name][0]}, not {tensor.datatype}")
    shared = sorted(name for name in tensor.parameters.model_extra or {} if name.startswith("shared_memory"))
    if shared:
        raise _invalid(f"inputs.0.parameters: {shared[0]} refers to shared memory, which this service does not support")
    binary = _binary_part(body[size:], tensor)
    parse_images = _encoded_images if tensor.name == "image" else _raw_images
    return InferRequest(query, parse_images(tensor, binary, limits.images), message)


def _query(parameters: InferParameters) -> DetectQuery:
    return DetectQuery(
        conf=parameters.conf,
        tile=None if parameters.tile is None else str(parameters.tile),
        classes=() if parameters.classes is None else (parameters.classes,),
        timeout=None if parameters.timeout is None else parameters.timeout / 1e6,
    )


def text_length(header_length: str | None) -> int | None:
    """Parse the header's length of the JSON in bytes; None if the header is absent or not a number."""
    if header_length is None or not _is_number(header_length):
        return None
    return int(header_length)


def _is_number(length: str) -> bool:
    return length.isascii() and length.isdigit() and len(length) <= _LONGEST_LENGTH


def _json_size(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    if not _is_number(header_length) or int(header_length) > len(body):
        raise _invalid(f"{HEADER_LENGTH}: {header_length[:20]!r} is not a number of bytes within the body")
    return int(header_length)


def _binary_part(rest: bytes, tensor: InputTensor) -> bytes | None:
    """Return the tensor's bytes after the JSON; None if its data are in the JSON."""
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise _invalid(f"inputs.0: give either data or parameters.{BINARY_DATA_SIZE}")
    if len(rest) != (size or 0):
        raise _invalid(f"{len(rest)} bytes follow the JSON, but {BINARY_DATA_SIZE} is {size or 0}")
    return rest if size is not None else None


def _encoded_images(tensor: InputTensor, binary: bytes | None, max_images: int) -> list[ImageInput]:
    count = math.prod(tensor.shape)
    refuse_too_many(count, max_images)
    if binary is None:
        texts = _flat(tensor.data)
        if not all(isinstance(text, str) for text in texts):
            raise _invalid("inputs.0.data: an element of image is not text; give each image as base64")
        images = [from_base64(text, f"image {number}") for number, text in enumerate(texts)]
    else:
        images = [Upload(f"image {number}", element) for number, element in enumerate(_split(binary))]
    if len(images) != count:
        raise _invalid(f"inputs.0: the shape {tensor.shape} means {count} images, but the data have {len(images)}")
    return images


def _raw_images(tensor: InputTensor, binary: bytes | None, max_images: int) -> list[ImageInput]:
    shape = tensor.shape if len(tensor.shape) == 4 else [1, *tensor.shape]
    if len(shape) != 4 or shape[3] != 3 or not math.prod(shape):
        raise _invalid(f"inputs.0: pixels has the shape {tensor.shape}; give [H, W, 3] or [n, H, W, 3]")
    refuse_too_many(shape[0], max_images)
    try:
        flat = np.frombuffer(binary, np.uint8) if binary is not None else np.asarray(_flat(tensor.data))
        if flat.size != math.prod(shape):
            raise _invalid(
                f"inputs.0: the shape {tensor.shape} means {math.prod(shape)} values, but the data have {flat.size}"
            )
        pixels = rgb_images(flat.reshape(shape))
    except (ImageError, ValueError) as error:
        raise _invalid(f"inputs.0.data: {str(error).rstrip('.')}") from None
    return [Upload(f"image {number}", image) for number, image in enumerate(pixels)]


def _flat(data: list[Any] | None) -> list[Any]:
    """Flatten row-major data, which may be nested like the shape or flat."""
    flat = data or []
    while flat and isinstance(flat[0], list):
        if not all(isinstance(part, list) for part in flat):
            raise _invalid("inputs.0.data: it is nested unevenly")
        flat = [item for part in flat for item in part]
    return flat


def _split(binary: bytes) -> list[bytes]:
    """Split a binary BYTES tensor into its elements, each preceded by its length in 4 bytes, little-endian."""
    elements, at = [], 0
    while at < len(binary):
        if at + 4 > len(binary):
            raise _invalid("The binary tensor ends inside the length of an element")
        (length,) = struct.unpack_from("<I", binary, at)
        if at + 4 + length > len(binary):
            raise _invalid("The binary tensor ends before its last element does")
        elements.append(binary[at + 4 : at + 4 + length])
        at += 4 + length
    return elements


def write_response(message: InferMessage, results: Sequence[ImageResult]) -> tuple[bytes, int | None]:
    """Encode the response to `message`; the second value is the length of its JSON if binary tensors follow it.

    `results` has at least one image. Raises ProblemError (400) if an image failed but the output `failure` was not
    requested, because the client would take it for an image without objects.
    """
    wanted = message.outputs or [RequestedOutput(name=name) for name in OUTPUTS]
    failed = next((result for result in results if result.failure is not None), None)
    if failed is not None and "failure" not in {output.name for output in wanted}:
        raise ProblemError(
            400, "image", f"{failed.failure} Request the output failure to get the other images' results."
        )
    values = _values(results)
    tensors, parts = [], []
    for output in wanted:
        datatype, shape = OUTPUTS[output.name]
        data = values[output.name]
        tensor: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": [len(data), *shape[1:]]}
        binary = output.parameters.binary_data
        if message.parameters.binary_data_output if binary is None else binary:
            parts.append(_to_binary(datatype, data))
            tensor["parameters"] = {BINARY_DATA_SIZE: len(parts[-1])}
        else:
            tensor["data"] = [number for row in data for number in row] if len(shape) > 1 else data
        tensors.append(tensor)
    ref = results[0].model
    response: dict[str, Any] = {"model_name": ref.name, "model_version": ref.version}
    if message.id is not None:
        response["id"] = message.id
    response |= {"parameters": {"precision": ref.precision, "run_id": ref.run_id}, "outputs": tensors}
    header = json.dumps(response).encode()
    return b"".join((header, *parts)), len(header) if parts else None


def _values(results: Sequence[ImageResult]) -> dict[str, list[Any]]:
    """Return each output as a list; detections of all images are concatenated, and `image_index` is their image."""
    detections = [(index, item.to_json()) for index, result in enumerate(results) for item in result.detections]
    return {
        "boxes": [item["box"] for _, item in detections],
        "scores": [item["score"] for _, item in detections],
        "class_ids": [item["class_id"] for _, item in detections],
        "class_names": [item["class_name"] for _, item in detections],
        "image_index": [index for index, _ in detections],
        "width": [result.width for result in results],
        "height": [result.height for result in results],
        "tiles": [result.tiles for result in results],
        "truncated": [result.truncated for result in results],
        "failure": [result.failure or "" for result in results],
        "remarks": [" ".join(result.remarks) for result in results],
    }


def _to_binary(datatype: str, data: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [text.encode() for text in data]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.asarray(data, _DTYPES[datatype]).tobytes()


def _invalid(detail: str) -> ProblemError:
    return ProblemError(400, "inference-request", f"{detail.rstrip('.')}.")
