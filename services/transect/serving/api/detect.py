"""POST /v1/detect."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from transect.engine import ImageResult, ModelRef
from transect.serving.api.ndjson import MEDIA_TYPE as NDJSON
from transect.serving.api.ndjson import Lines, image_line, summary_line
from transect.serving.api.openapi import BINARY, TIMEOUT_PARAMETER, inlined
from transect.serving.api.schemas import ImageAnswer, ImagesAnswer, LineAnswer, problems
from transect.serving.detection.image import Detected, as_json
from transect.serving.detection.params import DetectQuery
from transect.serving.detection.request import Finished, Search
from transect.serving.detection.request_stats import Account
from transect.serving.detection.service import Service
from transect.serving.http.deadline import Deadline
from transect.serving.http.problems import ProblemError, failure_reason, problem_content

router = APIRouter(tags=["detection"])

_FORM = {
    "type": "object",
    "properties": {
        "image": {**BINARY, "description": "One image; the answer is one object."},
        "images": {"type": "array", "items": BINARY, "description": "Images; the answer is a list, even of one."},
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
        400: "The multipart body is broken.",
        408: "The body stopped arriving.",
        413: "Over the limit of bytes, images or pixels.",
        415: "The body is not images.",
        422: "An option or the one image cannot be used.",
        503: "No model is loaded, or every place is taken (Retry-After).",
        504: "The deadline passed: TRANSECT_DEADLINE_SECONDS, or the timeout that was asked for.",
    }
)


@router.post(
    "/v1/detect",
    response_model=ImageAnswer | ImagesAnswer,
    responses={
        200: {
            "description": "What was found.",
            "content": {"image/jpeg": {"schema": BINARY}, NDJSON: {"schema": inlined(LineAnswer)}},
        },
        **_PROBLEMS,
    },
    openapi_extra=_EXTRA,
)
async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Response:
    """Find objects in one image or several.

    A raw body, or a form with one file in the field `image`, is answered with one object, and with
    an error where the image cannot be read. A form with the field `images`, or with more than one
    file, is answered with `{"results": [...]}` in the order of the files; there an image that cannot
    be read has a `failure`, and the others their results.

    As application/x-ndjson, every image is one line, in the order of the files and as soon as it is
    done: its object with its `index`. The last line is `{"summary": {...}}`; an answer without it
    was cut off. `summary.complete` says whether every image was searched or has its failure;
    otherwise `summary.problem` says why not.
    """
    service: Service = request.app.state.service
    deadline = service.deadline(request, query.timeout)
    if wants_lines(request, query):
        lines = _lines(service, request, query, deadline)
        # The first line is made here, so that what goes wrong before it has a status of its own.
        return Lines(await anext(lines), lines, deadline, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    async with Search(service, request, query, deadline) as search:
        done = [finished async for finished in search.finished()]
        ref = search.ref
    account = Account(service.metrics, request.state.log, ref)
    for finished in done:
        account.add(finished.outcome)
    headers = _headers(ref)
    if query.format == "image" or not search.listed:
        media_type = "image/jpeg" if query.format == "image" else "application/json"
        return Response(_one(done[0]), media_type=media_type, headers=headers)
    results = b",".join(_listed(finished, ref) for finished in done)
    return Response(b'{"results":[' + results + b"]}", media_type="application/json", headers=headers)


def wants_lines(request: Request, query: DetectQuery) -> bool:
    """Whether the answer is to be NDJSON: `format` says so, or else the header Accept."""
    return query.format == "ndjson" or (query.format is None and NDJSON in request.headers.get("accept", ""))


async def _lines(
    service: Service, request: Request, query: DetectQuery, deadline: Deadline
) -> AsyncGenerator[bytes, None]:
    """The lines of a streamed answer. Raises only before the first of them."""
    account: Account | None = None
    problem: ProblemError | None = None
    async with Search(service, request, query, deadline) as search:
        try:
            async with aclosing(search.finished()) as images:
                async for finished in images:
                    account = account or Account(service.metrics, request.state.log, search.ref)
                    account.add(finished.outcome)
                    yield image_line(account.images - 1, _listed(finished, search.ref))
        except ProblemError as error:
            if account is None:
                raise
            problem = error
    assert account is not None  # noqa: S101 - a body without an image is a problem
    yield summary_line(
        account, None if problem is None else problem_content(request.url.path, request.state.request_id, problem)
    )


def _headers(ref: ModelRef) -> dict[str, str]:
    return {"X-Transect-Model": f"{ref.name}/{ref.version}"}


def _one(finished: Finished) -> bytes:
    if isinstance(finished.outcome, BaseException):
        raise finished.outcome
    return finished.outcome.encoded


def _listed(finished: Finished, ref: ModelRef) -> bytes:
    outcome = finished.outcome
    if isinstance(outcome, Detected):
        return outcome.encoded
    return as_json(ImageResult.failed(finished.name, ref, failure_reason(outcome)))
