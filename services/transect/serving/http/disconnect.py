"""Who a client is, and whether it has gone while its answer is being made."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


def address(request: Request) -> str:
    """The address of the client, by which it shares the service with others."""
    return request.client.host if request.client is not None else ""


async def gone(request: Request) -> None:
    """Return when the client has closed its connection; the request's body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; when the client leaves first, cancel it and raise ClientDisconnect (logged as 499).

    The body of `request` must have been read: what arrives from here on is only the client's leaving.
    """
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(gone(request))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for future in (task, watcher):
            future.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await future
