"""POST /v1/detect."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from transect.serving.api.ndjson import MEDIA_TYPE as NDJSON
from transect.serving.api.ndjson import NdjsonResponse, image_line, summary_line
from transect.serving.api.openapi import BINARY, MODEL_VERSION_PARAMETER, TIMEOUT_PARAMETER, component_ref
from transect.serving.api.schemas import ImageResponse, ImagesResponse, NdjsonLineResponse, problems
from transect.serving.detection.params import DetectQuery
from transect.serving.detection.request import DetectionRequest
from transect.serving.detection.service import Service
from transect.serving.http.problems import ProblemError, problem_content
from transect.serving.http.request_body import Upload, read_images

router = APIRouter(tags=["detection"])

_FORM = {
    "type": "object",
    "properties": {
        "image": {**BINARY, "description": "One image; the response is one object."},
        "images": {"type": "array", "items": BINARY, "description": "Images; the response is a list, even for one."},
    },
}
_EXTRA = {
    "parameters": [TIMEOUT_PARAMETER, MODEL_VERSION_PARAMETER],
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
        421: "Another version than X-Model-Version is served.",
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
            "content": {"image/jpeg": {"schema": BINARY}, NDJSON: {"schema": component_ref(NdjsonLineResponse)}},
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
    uploads = _Uploads(request, query)
    detection = DetectionRequest(
        request.app.state.service,
        request,
        uploads.read,
        query=query,
        output="image" if query.format == "image" else "json",
        slot_first=True,
    )
    if wants_ndjson(request, query):
        lines = _lines(detection, request)
        # Await the first line here, so that an error before it gets its own status code.
        return NdjsonResponse(
            await anext(lines), lines, detection.deadline, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
    async with detection:
        images = await detection.collect()
        ref = detection.ref
    headers = {"X-Transect-Model": f"{ref.name}/{ref.version}"}
    if query.format == "image" or not uploads.listed:
        media_type = "image/jpeg" if query.format == "image" else "application/json"
        return Response(images[0].output().encoded, media_type=media_type, headers=headers)
    results = b",".join(image.as_json() for image in images)
    return Response(b'{"results":[' + results + b"]}", media_type="application/json", headers=headers)


def wants_ndjson(request: Request, query: DetectQuery) -> bool:
    """Return whether `format`, or else the header Accept, requests NDJSON."""
    return query.format == "ndjson" or (query.format is None and NDJSON in request.headers.get("accept", ""))


class _Uploads:
    """The images of the body; `listed` says whether the response is a list."""

    def __init__(self, request: Request, query: DetectQuery) -> None:
        self._request = request
        self._query = query
        self.listed = False

    async def read(self, detection: DetectionRequest) -> AsyncIterator[Upload]:
        """Yield the images as they arrive. Raises ProblemError (as read_images, and 422), ClientDisconnect."""
        service: Service = self._request.app.state.service
        count = 0
        async for upload in read_images(self._request, service.limits, detection.deadline, detection.body):
            count += 1
            self.listed = upload.listed or self.listed or count > 1
            if self._query.format == "image" and count > 1:
                raise ProblemError(422, "one-image", "format=image takes one image; got several.")
            yield upload


async def _lines(detection: DetectionRequest, request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a streamed response. Raises only before the first line."""
    problem: dict[str, Any] | None = None
    async with detection:
        try:
            async with aclosing(detection.stream()) as images:
                async for image in images:
                    yield image_line(detection.stats.images - 1, image.as_json())
        except ProblemError as error:
            if not detection.stats.images:
                raise
            problem = problem_content(request.url.path, request.state.request_id, error)
    yield summary_line(detection.stats, problem)
