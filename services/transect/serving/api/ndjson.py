"""An answer as newline-delimited JSON, sent line by line."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from transect.serving.detection.request_stats import Account
from transect.serving.http.deadline import Deadline

MEDIA_TYPE = "application/x-ndjson"
# What a client that has all results may take to read the last of them.
_GRACE_S = 5.0


def image_line(index: int, encoded: bytes) -> bytes:
    """One image's JSON object with its `index` among the files."""
    return b'{"index":%d,%b\n' % (index, encoded[1:])


def summary_line(account: Account, problem: dict[str, Any] | None) -> bytes:
    """The last line: how many images were answered, and why not all where that is so."""
    summary = {
        "complete": problem is None,
        "images": account.images,
        "failed": account.failed,
        "tiles": account.tiles,
        "detections": account.detections,
        "problem": problem,
    }
    return json.dumps({"summary": summary}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Lines(Response):
    """Sends `first` and what `rest` gives. A client that does not read is cut off some seconds after `deadline`.

    Not Starlette's StreamingResponse: that one reads what the client still sends, to see it leave.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, first: bytes, rest: AsyncGenerator[bytes, None], deadline: Deadline, headers: dict[str, str]
    ) -> None:
        super().__init__(headers=headers)
        # Its length is not known yet.
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and end the work for it whatever happens."""
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
