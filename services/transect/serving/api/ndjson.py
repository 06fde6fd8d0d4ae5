"""Streamed responses as newline-delimited JSON."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from transect.serving.detection.request_stats import RequestStats
from transect.serving.http.deadline import Deadline

MEDIA_TYPE = "application/x-ndjson"
# Time after the deadline for a client to read the last results.
_GRACE_S = 5.0


def image_line(index: int, encoded: bytes) -> bytes:
    """Return one image's JSON object with its `index` among the files, as one line."""
    return b'{"index":%d,%b\n' % (index, encoded[1:])


def summary_line(stats: RequestStats, problem: dict[str, Any] | None) -> bytes:
    """Return the last line: counts of the request, and the problem if the response is incomplete."""
    summary = {
        "complete": problem is None,
        "images": stats.images,
        "failed": stats.failed,
        "tiles": stats.tiles,
        "detections": stats.detections,
        "problem": problem,
    }
    return json.dumps({"summary": summary}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class NdjsonResponse(Response):
    """Sends `first` and then the lines of `rest`. A client that does not read is cut off 5 s after `deadline`.

    Not Starlette's StreamingResponse, which reads from the client to detect a disconnect, while here the body is still
    being read for images.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, first: bytes, rest: AsyncGenerator[bytes, None], deadline: Deadline, headers: dict[str, str]
    ) -> None:
        super().__init__(headers=headers)
        # The length is not known yet.
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; always close `rest`, which stops the work."""
        try:
            async with asyncio.timeout(self._deadline.remaining() + _GRACE_S):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": self._first, "more_body": True})
                async for line in self._rest:
                    await send({"type": "http.response.body", "body": line, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            raise ClientDisconnect from None
        finally:
            await self._rest.aclose()
