"""Routes of the Open Inference Protocol v2 (KServe, Triton) at /v2. Errors have the form {"error": ...}."""

from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from transect import __version__
from transect.engine import ModelRef
from transect.serving.api.openapi import BINARY, MODEL_VERSION_PARAMETER, TIMEOUT_PARAMETER, TINY_IMAGE, component_ref
from transect.serving.detection.model_version import check_version
from transect.serving.detection.service import Service
from transect.serving.http.problems import ProblemError
from transect.serving.protocols.open_inference_messages import (
    HEADER_LENGTH,
    INPUTS,
    OUTPUTS,
    InferMessage,
    InferResponse,
    parse_message,
    text_length,
    write_response,
)
from transect.serving.protocols.shared import detect_images

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])

_PLATFORM = "transect"


class _Response(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ServerMetadata(_Response):
    """The server and the protocol extensions that it supports."""

    name: Literal["transect"] = "transect"
    version: str = __version__
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(_Response):
    """The process is alive."""

    live: Literal[True] = True


class ServerReady(_Response):
    """A model is loaded and warmed up."""

    ready: Literal[True] = True


class ModelReady(_Response):
    """This version of this model is loaded and warmed up."""

    name: str
    ready: Literal[True] = True


class TensorMetadata(_Response):
    """A tensor; -1 in its shape means any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Response):
    """The served model. A request has one of the two inputs."""

    name: str
    versions: list[str]
    platform: str = _PLATFORM
    inputs: list[TensorMetadata] = [TensorMetadata(name=n, datatype=d, shape=list(s)) for n, (d, s) in INPUTS.items()]
    outputs: list[TensorMetadata] = [TensorMetadata(name=n, datatype=d, shape=list(s)) for n, (d, s) in OUTPUTS.items()]


class InferenceError(_Response):
    """The error format of the protocol."""

    error: str


def _errors(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": InferenceError, "description": text} for status, text in descriptions.items()}


_NOT_READY = {503: "No model is loaded."}
_UNKNOWN = {404: "Another model or version is served.", **_NOT_READY}
_PINNED: dict[str, Any] = {"parameters": [MODEL_VERSION_PARAMETER]}
_METADATA = _errors(
    {**_UNKNOWN, 421: "Another version than X-Model-Version is served.", 422: "X-Model-Version is no version."}
)
_EXTRA: dict[str, Any] = {
    "parameters": [TIMEOUT_PARAMETER, MODEL_VERSION_PARAMETER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": component_ref(InferMessage),
                "example": {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [TINY_IMAGE]}]},
            },
            "application/octet-stream": {
                "schema": {**BINARY, "description": f"JSON of {HEADER_LENGTH} bytes, then the binary tensor."}
            },
        },
    },
}
_INFER: dict[str, Any] = {
    "response_model": InferResponse,
    "response_model_exclude_none": True,
    "responses": {
        200: {
            "description": "The detections, or the failure, of each image.",
            "content": {"application/octet-stream": {"schema": BINARY}},
        },
        **_errors(
            {
                400: "The request violates the protocol.",
                **_UNKNOWN,
                408: "The body stopped arriving.",
                413: "Over the limit of bytes or images.",
                415: "The body is compressed.",
                421: "Another version than X-Model-Version is served.",
                422: "An option cannot be used.",
                503: "No model is loaded, or the service is busy (Retry-After).",
                504: "The deadline passed.",
            }
        ),
    },
    "openapi_extra": _EXTRA,
}


@router.get("")
async def server_metadata() -> ServerMetadata:
    """Name, version and extensions of the server."""
    return ServerMetadata()


@router.get("/health/live")
async def server_live() -> ServerLive:
    """The process is alive."""
    return ServerLive()


@router.get("/health/ready", responses=_errors(_NOT_READY))
async def server_ready(request: Request) -> ServerReady:
    """A model is loaded and warmed up."""
    _served_model(request)
    return ServerReady()


@router.get("/models/{name}", responses=_METADATA, openapi_extra=_PINNED)
@router.get("/models/{name}/versions/{version}", responses=_METADATA, openapi_extra=_PINNED)
async def model_metadata(request: Request, name: str, version: str | None = None) -> ModelMetadata:
    """Inputs and outputs of the served model."""
    ref = _served_model(request)
    _check_model(name, version, ref)
    check_version(request, ref)
    return ModelMetadata(name=ref.name, versions=[ref.version])


@router.get("/models/{name}/ready", responses=_METADATA, openapi_extra=_PINNED)
@router.get("/models/{name}/versions/{version}/ready", responses=_METADATA, openapi_extra=_PINNED)
async def model_ready(request: Request, name: str, version: str | None = None) -> ModelReady:
    """This version of this model is loaded and warmed up."""
    ref = _served_model(request)
    _check_model(name, version, ref)
    check_version(request, ref)
    return ModelReady(name=ref.name)


@router.post("/models/{name}/infer", **_INFER)
@router.post("/models/{name}/versions/{version}/infer", **_INFER)
async def infer(
    request: Request,
    name: str,
    version: str | None = None,
    header_length: Annotated[
        str | None, Header(alias=HEADER_LENGTH, description="Length of the JSON, where a binary tensor follows it.")
    ] = None,
) -> Response:
    """Find objects in the images of one tensor; the outputs concatenate the objects of all images."""
    service: Service = request.app.state.service
    parse = partial(parse_message, header_length=header_length, limits=service.limits)
    text = text_length(header_length)
    parsed, results = await detect_images(request, parse, partial(_check_model, name, version), text=text)
    # Encode on a thread, because thousands of boxes would block the event loop.
    body, json_length = await to_thread.run_sync(write_response, parsed.message, results)
    if json_length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_length)})


def _served_model(request: Request) -> ModelRef:
    service: Service = request.app.state.service
    return service.require_model()


def _check_model(name: str, version: str | None, ref: ModelRef) -> None:
    if name != ref.name or version not in (None, ref.version):
        requested = name if version is None else f"{name} version {version}"
        detail = f"{requested} is not served here; the service serves {ref.name} version {ref.version}."
        raise ProblemError(404, "model", detail)
