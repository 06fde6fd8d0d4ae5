"""Lingering close: send an early error while the client is still uploading.

If a server closes such a connection at once, the client's system discards the response; if it reads the whole body,
it receives, say, 500 MB for nothing. So the response is sent at once, the rest of the body is read and discarded for
a short time, and then the connection is closed.
"""

import asyncio
from time import monotonic

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The server itself discards a remainder up to this size, and keeps the connection alive.
_SMALL_REMAINDER = 4 << 20
_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20


class LingeringCloseMiddleware:
    """ASGI middleware that delivers early error responses and then closes their connections."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            exchange = _Exchange(Headers(scope=scope), receive, send)
            await self.app(scope, exchange.receive, exchange.send)
        else:
            await self.app(scope, receive, send)


def declared_bytes(headers: Headers) -> int:
    """Return Content-Length; 0 if it is absent or not a decimal number."""
    length = headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else 0


class _Exchange:
    """One request and its response, with the number of body bytes not yet read."""

    def __init__(self, headers: Headers, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._unread: float = float("inf") if "transfer-encoding" in headers else declared_bytes(headers)
        # Such a client sends no body when it gets a final response instead of "100 Continue".
        self._expects_continue = headers.get("expect", "").lower() == "100-continue"
        self._closing = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._unread = 0
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400 and self._unread > _SMALL_REMAINDER:
            self._closing = True
            MutableHeaders(scope=message)["Connection"] = "close"
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (self._closing and last):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        if not self._expects_continue:
            await self._discard_body()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard_body(self) -> None:
        end, allowance = monotonic() + _LINGER_S, _LINGER_BYTES
        try:
            while self._unread > 0 and allowance > 0:
                async with asyncio.timeout(max(0.0, end - monotonic())):
                    allowance -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return
