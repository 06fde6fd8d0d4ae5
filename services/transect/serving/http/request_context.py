"""Request id, access log line, metrics and last-resort error response for every request."""

import logging
import re
import uuid
from time import monotonic, perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transect.serving.http.problems import ProblemError, problem_response
from transect.serving.metrics import Metrics

REQUEST_ID = "X-Request-ID"
MODEL_VERSION = "X-Model-Version"

_access = logging.getLogger("transect.serving.access")
_log = logging.getLogger(__name__)
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DISCONNECTED = 499
_UNSERVED = {_DISCONNECTED: "cancelled", 504: "expired"}


class RequestContextMiddleware:
    """ASGI middleware. Sets `request_id`, `arrived` (a reading of time.monotonic()) and `log` (a dict of log fields
    that routes extend) in request.state. A route that sets `model_version` there has it named by the response.

    A client's X-Request-ID is kept if it has at most 64 letters, digits, dots, underscores and hyphens.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # Routed as GET. The server keeps its own scope, and so sends the response headers only.
            scope = {**scope, "method": "GET"}
        request_id = _request_id(scope)
        fields: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, log=fields, arrived=monotonic())
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if (version := scope["state"].get("model_version")) is not None:
                    headers[MODEL_VERSION] = version
            await send(message)

        start = perf_counter()
        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            # Even if a part of the response was sent, the client does not have it.
            status = _DISCONNECTED
        except Exception:
            # The last point at which the client can get a response with the request id to find in the log.
            _log.exception("A request failed", extra={"request_id": request_id, "path": scope["path"]})
            if status:
                raise
            await _internal_error(scope["path"], request_id)(scope, receive, send_with_id)
        finally:
            self._record(scope, request_id, status, perf_counter() - start, fields)

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float, fields: dict[str, Any]) -> None:
        # The route's pattern, not the path: otherwise a scanner could create a million time series.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if route != "other" else "any"
        self.metrics.requests.labels(route, method, status).inc()
        if (reason := _UNSERVED.get(status)) is not None:
            self.metrics.unserved.labels(reason).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        client = scope.get("client")
        _access.info(
            "request",
            extra={
                "request_id": request_id,
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1000, 1),
                **fields,
            },
        )


def _request_id(scope: Scope) -> str:
    sent = Headers(scope=scope).get(REQUEST_ID, "")
    return sent if _SAFE_ID.fullmatch(sent) else uuid.uuid4().hex


def _internal_error(path: str, request_id: str) -> ASGIApp:
    detail = f"The service failed; see its log under the request id {request_id}."
    return problem_response(path, request_id, ProblemError(500, "internal", detail))
