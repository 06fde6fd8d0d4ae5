"""MLflow's scoring protocol: /ping, /health, /version and /invocations, as in `mlflow models serve`."""

from functools import partial
from importlib.metadata import version as version_of
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response

from transect.serving.api.openapi import MODEL_VERSION_PARAMETER, TIMEOUT_PARAMETER, TINY_IMAGE, component_ref
from transect.serving.api.schemas import ImageResponse, problems
from transect.serving.detection.image import as_json
from transect.serving.detection.service import Service
from transect.serving.protocols.mlflow_messages import ScoringMessage, parse_scoring
from transect.serving.protocols.shared import detect_images

router = APIRouter(tags=["MLflow scoring"])

_MLFLOW = version_of("mlflow-skinny")


class Predictions(BaseModel):
    """One result for each image, in order; an image that could not be read has a `failure`."""

    predictions: list[ImageResponse]


_EXTRA: dict[str, Any] = {
    "parameters": [TIMEOUT_PARAMETER, MODEL_VERSION_PARAMETER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": component_ref(ScoringMessage),
                "example": {"dataframe_split": {"columns": ["image"], "data": [[TINY_IMAGE]]}, "params": {"conf": 0.3}},
            },
            # Without a type, since any text is valid CSV.
            "text/csv": {
                "schema": {"description": "A column `image` of base64 text."},
                "example": f"image\n{TINY_IMAGE}\n",
            },
        },
    },
}
_ALIVE: dict[int | str, dict[str, Any]] = {
    200: {"description": "An empty line, as from MLflow's own server.", "content": {"text/plain": {}}},
    **problems({503: "No model is loaded."}),
}


@router.get("/ping", response_class=Response, responses=_ALIVE)
@router.get("/health", response_class=Response, responses=_ALIVE)
async def ping(request: Request) -> Response:
    """A model is loaded and warmed up; otherwise 503 with the reason and the remedy."""
    service: Service = request.app.state.service
    service.require_model()
    return PlainTextResponse("\n")


@router.get("/version", response_class=PlainTextResponse)
async def version() -> str:
    """The version of MLflow whose protocol is implemented."""
    return _MLFLOW


@router.post(
    "/invocations",
    response_model=Predictions,
    responses=problems(
        {
            400: "The body is not a valid table of the protocol.",
            408: "The body stopped arriving.",
            413: "Over the limit of bytes or images.",
            415: "The body is neither JSON nor CSV, or compressed.",
            421: "Another version than X-Model-Version is served.",
            422: "An option cannot be used.",
            503: "No model is loaded, or the service is busy (Retry-After).",
            504: "The deadline passed.",
        }
    ),
    openapi_extra=_EXTRA,
)
async def invocations(request: Request) -> Response:
    """Find objects in the images of a table's column `image` (else its first), sent as base64 text.

    File paths are rejected, because the service reads no local files.
    """
    service: Service = request.app.state.service
    content_type = request.headers.get("content-type", "")
    parse = partial(parse_scoring, content_type=content_type, limits=service.limits)
    _, results = await detect_images(request, parse)
    # Encode on a thread, because thousands of boxes would block the event loop.
    body = await to_thread.run_sync(lambda: b",".join(as_json(result) for result in results))
    return Response(b'{"predictions":[' + body + b"]}", media_type="application/json")
