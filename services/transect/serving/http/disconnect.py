"""Client addresses and disconnects."""

from starlette.requests import Request


def client_address(request: Request) -> str:
    """Return the client's address, the key for fair sharing between clients."""
    return request.client.host if request.client is not None else ""


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client has closed its connection. The body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
