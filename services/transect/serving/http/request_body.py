"""Reading of request bodies: images one by one as they arrive, within the request's limits."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from transect.errors import ImageError
from transect.serving.http.admission import BodyReservation
from transect.serving.http.deadline import Deadline, deadline_exceeded
from transect.serving.http.lingering_close import declared_bytes
from transect.serving.http.multipart import FormError, StreamingForm
from transect.serving.http.problems import ProblemError

_STALL_S = 30.0
_MIB = 1 << 20
_SEND_LESS = " (TRANSECT_MAX_UPLOAD_MB); send fewer or smaller images."
# The name of raw bodies, and of form parts without a file name.
_DEFAULT_NAME = "image"


@dataclass(frozen=True)
class RequestLimits:
    """Limits for one request body: its bytes and its number of images."""

    body_bytes: int
    images: int


@dataclass(frozen=True)
class Upload:
    """One uploaded image: a name that is only echoed, and a file's bytes or an RGB array (H, W, 3).

    `listed` is true for the form field `images`, whose response is a list even for one image.
    """

    name: str
    data: bytes | NDArray[np.uint8]
    listed: bool = False


# One image of a request, or the reason why it is invalid.
ImageInput = Upload | ImageError


async def read_images(
    request: Request, limits: RequestLimits, deadline: Deadline, body: BodyReservation
) -> AsyncGenerator[Upload, None]:
    """Yield the images of a request as they arrive, at least one. Their bytes are reserved in `body`.

    Raises ProblemError: 413 over a limit, 415 for a body that is not images, 400 for invalid multipart, 422 for no
    image or a wrong field name, 408 when the client stops sending, 503 when the byte budget for all bodies is
    exhausted, 504 when `deadline` passes; ClientDisconnect.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    chunks = _reserved(_chunks(request, limits.body_bytes, _SEND_LESS, deadline), body)
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
    body: BodyReservation | None = None,
) -> bytes:
    """Read the whole body of a request that is not images. Its bytes are reserved in `body`, unless that is None.

    Raises ProblemError: 413 over `limit` bytes, 408 when the client stops sending, 503 when the byte budget for all
    bodies is exhausted, 504 when `deadline` passes; ClientDisconnect.
    """
    chunks = _chunks(request, limit, advice, deadline)
    return b"".join([chunk async for chunk in (chunks if body is None else _reserved(chunks, body))])


async def _chunks(request: Request, limit: int, advice: str, deadline: Deadline | None) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, up to `limit` bytes, whether or not Content-Length was sent."""
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
    timeout = _STALL_S if deadline is None else min(_STALL_S, deadline.remaining())
    try:
        async with asyncio.timeout(timeout):
            return await request.receive()
    except TimeoutError:
        if deadline is not None and deadline.over:
            raise deadline_exceeded(deadline) from None
        detail = f"The request body stopped arriving for {_STALL_S:.0f} s."
        raise ProblemError(408, "body-stalled", detail, {"Connection": "close"}) from None


def _too_large(limit: int, advice: str) -> ProblemError:
    return ProblemError(413, "body-too-large", f"The request body is over {limit / _MIB:g} MiB{advice}")


async def _reserved(chunks: AsyncIterator[bytes], body: BodyReservation) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        body.reserve(len(chunk))
        yield chunk


async def _from_raw(chunks: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
    data = b"".join([chunk async for chunk in chunks])
    if not data:
        raise ProblemError(422, "no-image", "The request body is empty; send an image.")
    yield Upload(_DEFAULT_NAME, data)


async def _from_form(chunks: AsyncIterator[bytes], content_type: str, max_images: int) -> AsyncIterator[Upload]:
    fields = _FieldPolicy(max_images)
    try:
        form = StreamingForm(content_type, fields.check)
        async for chunk in chunks:
            for part in form.feed(chunk):
                yield Upload(part.filename or _DEFAULT_NAME, part.data, listed=part.field == "images")
        form.finish()
    except FormError as error:
        raise ProblemError(400, "multipart", f"The multipart body is not readable: {error}") from None
    if not fields.count:
        raise ProblemError(422, "no-image", "The form has no image; send a file as image (one) or images (several).")


class _FieldPolicy:
    """Checks each part of a form before its content arrives."""

    def __init__(self, max_images: int) -> None:
        self.max_images = max_images
        self.count = 0

    def check(self, field: str, *, is_file: bool) -> None:
        """Raise ProblemError for a part that is not an image (422), or one too many (413)."""
        self.count += 1
        if self.count > self.max_images:
            detail = f"The request has more than {self.max_images} images (TRANSECT_MAX_IMAGES); send fewer at a time."
            raise ProblemError(413, "too-many-images", detail)
        if field not in ("image", "images") or not is_file:
            raise ProblemError(
                422,
                "field",
                f"The form has {'a file' if is_file else 'text'} in the field {field!r}; "
                "send a file as image (one) or images (several), and options in the query.",
            )
