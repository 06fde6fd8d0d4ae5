"""Around every request: its id, its log line, its metrics, and an answer when all else failed."""

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

_access = logging.getLogger("transect.serving.access")
_log = logging.getLogger(__name__)
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DISCONNECTED = 499
_UNSERVED = {_DISCONNECTED: "cancelled", 504: "expired"}


class RequestContext:
    """ASGI middleware. Puts `request_id`, `arrived` (a reading of time.monotonic()) and `log`
    (a dict that routes add to) into request.state.

    A request id that the client sent is kept when it is short and plain.
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
            # As GET; the server, which has a scope of its own, sends the head of the answer alone.
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
            await send(message)

        start = perf_counter()
        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            # Also when a part of the answer was sent: nobody has it.
            status = _DISCONNECTED
        except Exception:
            # The last place where a request can still get an answer that says which log line to read.
            _log.exception("A request failed", extra={"request_id": request_id, "path": scope["path"]})
            if status:
                raise
            await _internal_error(scope["path"], request_id)(scope, receive, send_with_id)
        finally:
            self._account(scope, request_id, status, perf_counter() - start, fields)

    def _account(self, scope: Scope, request_id: str, status: int, seconds: float, fields: dict[str, Any]) -> None:
        # The pattern, not the path: a scanner must not be able to make a million time series.
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
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


def _internal_error(path: str, request_id: str) -> ASGIApp:
    detail = f"The service failed; its log says why under the request id {request_id}."
    return problem_response(path, request_id, ProblemError(500, "internal", detail))
