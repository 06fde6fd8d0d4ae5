"""Answers that are ready before the request's body has arrived: they must reach a client that still sends.

A server that closes such a connection at once makes the client's system throw the answer away; one
that reads on takes in, say, 500 MB for nothing. So the answer goes out at once, what still comes is
thrown away for a short time, and then the connection ends. (Web servers call it a lingering close.)
"""

import asyncio
from time import monotonic

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A rest that small is thrown away by the server itself, and the connection stays usable.
_SMALL_REST = 4 << 20
_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20


class EarlyAnswer:
    """ASGI middleware that lets early answers arrive and then ends their connection."""

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
    """The length of the body as the request states it; 0 where it does not, or not in digits."""
    length = headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else 0


class _Exchange:
    """One request and its answer, and how much of the request has been read."""

    def __init__(self, headers: Headers, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._rest: float = float("inf") if "transfer-encoding" in headers else declared_bytes(headers)
        # Such a client sends its body only after "100 Continue", which a final answer replaces.
        self._asks_first = headers.get("expect", "").lower() == "100-continue"
        self._closing = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._rest -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._rest = 0
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400 and self._rest > _SMALL_REST:
            self._closing = True
            MutableHeaders(scope=message)["Connection"] = "close"
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (self._closing and last):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        if not self._asks_first:
            await self._throw_away()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _throw_away(self) -> None:
        end, room = monotonic() + _LINGER_S, _LINGER_BYTES
        try:
            while self._rest > 0 and room > 0:
                async with asyncio.timeout(max(0.0, end - monotonic())):
                    room -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return
