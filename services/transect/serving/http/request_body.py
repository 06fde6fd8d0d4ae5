"""Request bodies in: images one after another as they arrive, never more of them than the limits allow."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from transect.serving.http.admission import Body
from transect.serving.http.deadline import Deadline, expired
from transect.serving.http.lingering_close import declared_bytes
from transect.serving.http.multipart import Form, FormError
from transect.serving.http.problems import ProblemError

_STALL_S = 30.0
_MIB = 1 << 20
_SEND_LESS = " (TRANSECT_MAX_UPLOAD_MB); send fewer or smaller images."
# The names of raw bodies, and of parts that were sent without one.
_NAMELESS = "image"


@dataclass(frozen=True)
class Limits:
    """The most that one request may bring."""

    body_bytes: int
    images: int


@dataclass(frozen=True)
class Upload:
    """One image as it came: a name that is only ever echoed, and a file's bytes or an RGB array (H, W, 3).

    `listed` says that it came as one of several, so that the answer is a list even for one.
    """

    name: str
    data: bytes | NDArray[np.uint8]
    listed: bool = False


async def read_images(request: Request, limits: Limits, deadline: Deadline, body: Body) -> AsyncGenerator[Upload, None]:
    """The images of a request, each as soon as it is there; at least one. Their bytes are held by `body`.

    Raises ProblemError: 413 over a limit, 415 for a body that is not images, 400 for broken
    multipart, 422 for no image or a wrong field name, 408 when the client stops sending, 503 when
    all bodies together are too many bytes, 504 when `deadline` passes; ClientDisconnect.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    chunks = _held(_chunks(request, limits.body_bytes, _SEND_LESS, deadline), body)
    if media_type == "multipart/form-data":
        images = _from_form(chunks, content_type, limits.images)
    elif media_type == "application/octet-stream" or media_type.startswith("image/"):
        images = _from_raw(chunks)
    else:
        raise ProblemError(
            415,
            "media-type",
            f"The body is {media_type or 'of no stated type'}; send an image as image/* or application/octet-stream, "
            "or images as multipart/form-data.",
        )
    async for upload in images:
        yield upload


async def read_body(
    request: Request,
    limit: int,
    advice: str = _SEND_LESS,
    *,
    deadline: Deadline | None = None,
    body: Body | None = None,
) -> bytes:
    """The whole body of a request that is not images. Its bytes are held by `body`, where there is one.

    Raises ProblemError: 413 over `limit` bytes, 408 when the client stops sending, 503 when all
    bodies together are too many bytes, 504 when `deadline` passes; ClientDisconnect.
    """
    chunks = _chunks(request, limit, advice, deadline)
    return b"".join([chunk async for chunk in (chunks if body is None else _held(chunks, body))])


async def _chunks(request: Request, limit: int, advice: str, deadline: Deadline | None) -> AsyncIterator[bytes]:
    """The body as it arrives, up to `limit` bytes, whether or not a length was declared."""
    if declared_bytes(request.headers) > limit:
        raise _too_large(limit, advice)
    received, more = 0, True
    while more:
        message = await _receive(request, deadline)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise _too_large(limit, advice)
        more = message.get("more_body", False)
        yield chunk


async def _receive(request: Request, deadline: Deadline | None) -> Message:
    patience = _STALL_S if deadline is None else min(_STALL_S, deadline.remaining())
    try:
        async with asyncio.timeout(patience):
            return await request.receive()
    except TimeoutError:
        if deadline is not None and deadline.over:
            raise expired(deadline) from None
        detail = f"The request body stopped arriving for {_STALL_S:.0f} s."
        raise ProblemError(408, "body-stalled", detail, {"Connection": "close"}) from None


def _too_large(limit: int, advice: str) -> ProblemError:
    return ProblemError(413, "body-too-large", f"The request body is over {limit / _MIB:g} MiB{advice}")


async def _held(chunks: AsyncIterator[bytes], body: Body) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        body.hold(len(chunk))
        yield chunk


async def _from_raw(chunks: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
    data = b"".join([chunk async for chunk in chunks])
    if not data:
        raise ProblemError(422, "no-image", "The request body is empty; send an image.")
    yield Upload(_NAMELESS, data)


async def _from_form(chunks: AsyncIterator[bytes], content_type: str, most: int) -> AsyncIterator[Upload]:
    fields = _Fields(most)
    try:
        form = Form(content_type, fields.check)
        async for chunk in chunks:
            for part in form.feed(chunk):
                yield Upload(part.filename or _NAMELESS, part.data, listed=part.field == "images")
        form.finish()
    except FormError as error:
        raise ProblemError(400, "multipart", f"The multipart body is not readable: {error}") from None
    if not fields.count:
        raise ProblemError(422, "no-image", "The form holds no image; send a file as image (one) or images (several).")


class _Fields:
    """Looks at each part of a form before its content arrives."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0

    def check(self, field: str, *, is_file: bool) -> None:
        """ProblemError for a part that is no image (422), or one too many (413)."""
        self.count += 1
        if self.count > self.most:
            detail = f"The request has more than {self.most} images (TRANSECT_MAX_IMAGES); send fewer at a time."
            raise ProblemError(413, "too-many-images", detail)
        if field not in ("image", "images") or not is_file:
            raise ProblemError(
                422,
                "field",
                f"The form has {'a file' if is_file else 'text'} in the field {field!r}; "
                "send a file as image (one) or images (several), and options in the query.",
            )
