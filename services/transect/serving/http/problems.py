"""Error responses as RFC 9457 problem+json, the format of every route except /v2.

No library: the statuses follow from our own classes of errors, and /v2 needs the same errors in another format.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from transect.errors import (
    DeviceLostError,
    ImageError,
    ImageTooLargeError,
    InputError,
    RegistryError,
    StoppedError,
    TransectError,
)

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)
_TYPE_PREFIX = "urn:transect:problem:"
_OPEN_INFERENCE = "/v2"
# A subclass comes before its base class.
_KINDS: tuple[tuple[type[TransectError], int, str], ...] = (
    (ImageTooLargeError, 413, "image-too-large"),
    (ImageError, 422, "image"),
    (InputError, 422, "input"),
    (StoppedError, 504, "deadline"),
    (DeviceLostError, 503, "device-lost"),
    (RegistryError, 503, "registry"),
)
_INTERNAL = (500, "internal")


class ProblemError(Exception):
    """An error response: `kind` identifies it for programs, `detail` is a sentence for people."""

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})


class ProblemResponse(JSONResponse):
    """A problem+json response (RFC 9457)."""

    media_type = MEDIA_TYPE


def problem_response(path: str, request_id: str, problem: ProblemError, **extensions: Any) -> JSONResponse:
    """Build the error response; `extensions` become further members (RFC 9457, section 3.2).

    Below /v2 it has the error format of the Open Inference Protocol, `{"error": detail}`.
    """
    if path == _OPEN_INFERENCE or path.startswith(f"{_OPEN_INFERENCE}/"):
        return JSONResponse({"error": problem.detail}, status_code=problem.status, headers=problem.headers)
    content = problem_content(path, request_id, problem, **extensions)
    return ProblemResponse(content, status_code=problem.status, headers=problem.headers)


def problem_content(path: str, request_id: str, problem: ProblemError, **extensions: Any) -> dict[str, Any]:
    """Return the members of the problem+json object."""
    return {
        "type": _TYPE_PREFIX + problem.kind,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": path,
        "request_id": request_id,
        **extensions,
    }


def as_problem(error: TransectError) -> ProblemError:
    """Convert an error of this project to the problem with its HTTP status and kind."""
    status, kind = next(((status, kind) for cls, status, kind in _KINDS if isinstance(error, cls)), _INTERNAL)
    return ProblemError(status, kind, str(error))


def failure_reason(error: BaseException) -> str:
    """Return one sentence why one of several images has no result. KeyboardInterrupt and the like are raised again."""
    if isinstance(error, TransectError | ProblemError):
        return str(error)
    if not isinstance(error, Exception):
        raise error
    # An unexpected error on one image must not cost the others their results.
    _log.error("An image failed", exc_info=error)
    return f"The service failed on it ({type(error).__name__}); see its log."


def install_problem_handlers(app: FastAPI) -> None:
    """Make `app` return every error as problem+json, including 404, 405 and failed validation."""
    app.add_exception_handler(ProblemError, _from_problem)
    app.add_exception_handler(TransectError, _from_transect)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(HTTPException, _from_http)


def _respond(request: Request, problem: ProblemError, **extensions: Any) -> Response:
    return problem_response(request.url.path, request.state.request_id, problem, **extensions)


async def _from_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered above for this class
    return _respond(request, error)


async def _from_transect(request: Request, error: Exception) -> Response:
    assert isinstance(error, TransectError)  # noqa: S101 - registered above for this class
    return _respond(request, as_problem(error))


async def _from_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered above for this class
    errors = [
        {"where": ".".join(str(part) for part in item["loc"]), "message": _sentence(item["msg"])}
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['where']}: {item['message']}" for item in errors) + ". See /docs."
    return _respond(request, ProblemError(422, "validation", detail), errors=errors)


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".")


async def _from_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered above for this class
    details = {
        404: f"There is nothing at {request.url.path}. See /docs.",
        405: f"{request.url.path} does not take {request.method}. See /docs.",
    }
    kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    detail = details.get(error.status_code, str(error.detail))
    return _respond(request, ProblemError(error.status_code, kind, detail, error.headers))
