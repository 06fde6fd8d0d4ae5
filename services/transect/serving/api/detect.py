"""POST /v1/detect."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from transect.engine import ImageResult, ModelRef
from transect.serving.api.ndjson import MEDIA_TYPE as NDJSON
from transect.serving.api.ndjson import NdjsonResponse, image_line, summary_line
from transect.serving.api.openapi import BINARY, TIMEOUT_PARAMETER, inline_refs
from transect.serving.api.schemas import ImageResponse, ImagesResponse, NdjsonLineResponse, problems
from transect.serving.detection.image import DetectionOutput, as_json
from transect.serving.detection.params import DetectQuery
from transect.serving.detection.request import DetectionRequest, ImageOutcome
from transect.serving.detection.request_stats import RequestStats
from transect.serving.detection.service import Service
from transect.serving.http.deadline import Deadline
from transect.serving.http.problems import ProblemError, failure_reason, problem_content

router = APIRouter(tags=["detection"])

_FORM = {
    "type": "object",
    "properties": {
        "image": {**BINARY, "description": "One image; the response is one object."},
        "images": {"type": "array", "items": BINARY, "description": "Images; the response is a list, even for one."},
    },
}
_EXTRA = {
    "parameters": [TIMEOUT_PARAMETER],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "image/*": {"schema": BINARY},
            "application/octet-stream": {"schema": BINARY},
        },
    },
}
_PROBLEMS = problems(
    {
        400: "The multipart body is invalid.",
        408: "The body stopped arriving.",
        413: "Over the limit of bytes, images or pixels.",
        415: "The body is not images.",
        422: "An option or the one image cannot be used.",
        503: "No model is loaded, or the service is busy (Retry-After).",
        504: "The deadline passed: TRANSECT_DEADLINE_SECONDS, or the request's own timeout.",
    }
)


@router.post(
    "/v1/detect",
    response_model=ImageResponse | ImagesResponse,
    responses={
        200: {
            "description": "The detections.",
            "content": {"image/jpeg": {"schema": BINARY}, NDJSON: {"schema": inline_refs(NdjsonLineResponse)}},
        },
        **_PROBLEMS,
    },
    openapi_extra=_EXTRA,
)
async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Response:
    """Find objects in one image or several.

    For a raw body, or a form with one file in the field `image`, the response is one object, or an
    error if the image cannot be read. For a form with the field `images`, or with more than one
    file, it is `{"results": [...]}` in the order of the files; there an image that cannot be read
    has a `failure`, and the others have their results.

    As application/x-ndjson, each image is one line, in the order of the files and as soon as it is
    done: its object with its `index`. The last line is `{"summary": {...}}`; a response without it
    was cut off. `summary.complete` is true if every image was searched or has a failure; otherwise
    `summary.problem` is the reason.
    """
    service: Service = request.app.state.service
    deadline = service.deadline(request, query.timeout)
    if wants_ndjson(request, query):
        lines = _lines(service, request, query, deadline)
        # Await the first line here, so that an error before it gets its own status code.
        return NdjsonResponse(
            await anext(lines), lines, deadline, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
    async with DetectionRequest(service, request, query, deadline) as detection:
        images = [image async for image in detection.outcomes()]
        ref = detection.ref
    stats = RequestStats(service.metrics, request.state.log, ref)
    for image in images:
        stats.add(image.outcome)
    headers = _headers(ref)
    if query.format == "image" or not detection.listed:
        media_type = "image/jpeg" if query.format == "image" else "application/json"
        return Response(_encoded(images[0]), media_type=media_type, headers=headers)
    results = b",".join(_encoded_or_failure(image, ref) for image in images)
    return Response(b'{"results":[' + results + b"]}", media_type="application/json", headers=headers)


def wants_ndjson(request: Request, query: DetectQuery) -> bool:
    """Return whether `format`, or else the header Accept, requests NDJSON."""
    return query.format == "ndjson" or (query.format is None and NDJSON in request.headers.get("accept", ""))


async def _lines(
    service: Service, request: Request, query: DetectQuery, deadline: Deadline
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a streamed response. Raises only before the first line."""
    stats: RequestStats | None = None
    problem: ProblemError | None = None
    async with DetectionRequest(service, request, query, deadline) as detection:
        try:
            async with aclosing(detection.outcomes()) as images:
                async for image in images:
                    stats = stats or RequestStats(service.metrics, request.state.log, detection.ref)
                    stats.add(image.outcome)
                    yield image_line(stats.images - 1, _encoded_or_failure(image, detection.ref))
        except ProblemError as error:
            if stats is None:
                raise
            problem = error
    assert stats is not None  # noqa: S101 - a body without an image raises ProblemError
    yield summary_line(
        stats, None if problem is None else problem_content(request.url.path, request.state.request_id, problem)
    )


def _headers(ref: ModelRef) -> dict[str, str]:
    return {"X-Transect-Model": f"{ref.name}/{ref.version}"}


def _encoded(image: ImageOutcome) -> bytes:
    if isinstance(image.outcome, BaseException):
        raise image.outcome
    return image.outcome.encoded


def _encoded_or_failure(image: ImageOutcome, ref: ModelRef) -> bytes:
    outcome = image.outcome
    if isinstance(outcome, DetectionOutput):
        return outcome.encoded
    return as_json(ImageResult.failed(image.name, ref, failure_reason(outcome)))
