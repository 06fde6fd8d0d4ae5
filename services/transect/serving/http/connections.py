"""Connection limits, and limits on the bytes and seconds of a request head.

uvicorn limits none of them. Request bodies are limited in request_body.py.
"""

import logging
from asyncio import Transport
from asyncio.events import TimerHandle
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on concurrent connections, in total and per client address, and on the head of a request.

    `head_bytes` limits everything except the body: request line, headers, chunk sizes, trailers. `head_seconds` limits
    the time from the start of a connection, or from the first byte of its next request, to the end of the head; and
    the time in which the rest of a body may arrive after the response.
    """

    connections: int = 512
    per_client: int = 256
    head_bytes: int = 64 << 10
    head_seconds: float = 10.0


def bounded_protocol(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """Return a uvicorn protocol class that enforces `limits` over all connections of the class."""

    class Bounded(_BoundedProtocol):
        pass

    Bounded.limits = limits
    Bounded.clients = Counter()
    return Bounded


class _BoundedProtocol(HttpToolsProtocol):
    limits: ConnectionLimits
    clients: Counter[str]
    """Connections by address."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread = 0
        self._in_message = False
        self._in_body = False
        self._timer: TimerHandle | None = None
        self._address = ""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._address = self.client[0] if self.client else "local"
        self.clients[self._address] += 1
        self._start_timer()
        if self.clients.total() > self.limits.connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The service has reached its limit of connections; try later.")
        elif self.clients[self._address] > self.limits.per_client:
            self._refuse(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"This address has {self.limits.per_client} connections already, the most for one address.",
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.clients[self._address] -= 1
        if self.clients[self._address] <= 0:
            del self.clients[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unread += len(data)
        if not self._in_message and self._timer is None:
            self._start_timer()
        super().data_received(data)
        if self._in_message and not self._in_body and self._timer is None and not self.transport.is_closing():
            # The head began in the same data as the end of the previous request.
            self._start_timer()
        if self._unread > self.limits.head_bytes and not self.transport.is_closing():
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The head of the request is over {self.limits.head_bytes >> 10} KiB; send shorter headers.",
            )

    def on_message_begin(self) -> None:
        self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._stop_timer()
        self._in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        self._in_message = self._in_body = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body and not self.transport.is_closing():
            # Otherwise a client could keep the connection open by sending the rest of the body byte by byte.
            self._start_timer()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.limits.head_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # The previous request is still being answered.
            self._start_timer()
        elif self._in_body:
            self.transport.close()
        else:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The head of the request did not arrive within {self.limits.head_seconds:g} s.",
            )

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Respond in plain text and close the connection without reading on."""
        _log.debug("Connection refused", extra={"client": self._address, "status": int(status), "reason": why})
        self._stop_timer()
        if not self._in_body:
            body = why.encode()
            head = (
                f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
