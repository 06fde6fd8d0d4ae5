"""Request bodies in: multipart or raw, never more of them than the limits allow."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Message, Receive

from transect.serving.problems import ProblemError

_STALL_S = 30.0
_SPOOL_BYTES = 1 << 20
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
    """One image as it came: a name that is only ever echoed, and a file's bytes or an RGB array (H, W, 3)."""

    name: str
    data: bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """The images of one request; `as_list` says that the answer is a list even for one."""

    uploads: tuple[Upload, ...]
    as_list: bool


@asynccontextmanager
async def read_batch(request: Request, limits: Limits) -> AsyncIterator[Batch]:
    """Read the images of a request; their temporary files live as long as the `with` block.

    Raises ProblemError: 413 over a limit, 415 for a body that is not images, 400 for broken
    multipart, 422 for no image or a wrong field name, 408 when the client stops sending.
    """
    limited = Request(request.scope, limited_receive(request, limits.body_bytes))
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form = await _read_form(limited, limits.images)
        try:
            yield _from_form(form)
        finally:
            await form.close()
    elif media_type == "application/octet-stream" or media_type.startswith("image/"):
        file = await _read_raw(limited)
        try:
            yield Batch((Upload(_NAMELESS, file.file.read()),), as_list=False)
        finally:
            await file.close()
    else:
        raise ProblemError(
            415,
            "media-type",
            f"The body is {media_type or 'of no stated type'}; send an image as image/* or application/octet-stream, "
            "or images as multipart/form-data.",
        )


async def read_body(request: Request, limit: int, advice: str = _SEND_LESS) -> bytes:
    """The whole body of a request that is not images; ProblemError: 413 over `limit` bytes, 408 when it stalls."""
    limited = Request(request.scope, limited_receive(request, limit, advice))
    return b"".join([chunk async for chunk in limited.stream()])


def limited_receive(request: Request, limit: int, advice: str = _SEND_LESS) -> Receive:
    """`request.receive` that stops at `limit` bytes, whether or not a length was declared."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise _too_large(limit, advice)
    received = 0

    async def receive() -> Message:
        nonlocal received
        try:
            message = await asyncio.wait_for(request.receive(), _STALL_S)
        except TimeoutError:
            detail = f"The request body stopped arriving for {_STALL_S:.0f} s."
            raise ProblemError(408, "body-stalled", detail, {"Connection": "close"}) from None
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit, advice)
        return message

    return receive


def _too_large(limit: int, advice: str) -> ProblemError:
    return ProblemError(413, "body-too-large", f"The request body is over {limit / _MIB:g} MiB{advice}")


async def _read_raw(request: Request) -> UploadFile:
    with ExitStack() as stack:
        spool = stack.enter_context(SpooledTemporaryFile(max_size=_SPOOL_BYTES))
        file = UploadFile(cast("BinaryIO", spool), size=0)
        async for chunk in request.stream():
            await file.write(chunk)
        if not file.size:
            raise ProblemError(422, "no-image", "The request body is empty; send an image.")
        await file.seek(0)
        stack.pop_all()
    return file


class _Parser(MultiPartParser):
    """Starlette's parser that does not take a form without its closing boundary for a whole one."""

    _complete = False

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], max_images: int) -> None:
        super().__init__(headers, self._up_to_the_end(stream), max_files=max_images, max_fields=max_images)

    def on_end(self) -> None:
        self._complete = True

    async def _up_to_the_end(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        # Raised from inside the stream, so that the parser closes the files it has opened.
        if not self._complete:
            raise MultiPartException("It ends before its closing boundary.")


async def _read_form(request: Request, max_images: int) -> FormData:
    try:
        return await _Parser(request.headers, request.stream(), max_images).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            detail = f"The request has more than {max_images} images (TRANSECT_MAX_IMAGES); send fewer at a time."
            raise ProblemError(413, "too-many-images", detail) from None
        raise ProblemError(400, "multipart", f"The multipart body is not readable: {error.message}") from None


def _from_form(form: FormData) -> Batch:
    uploads = []
    for field, value in form.multi_items():
        if field not in ("image", "images") or not isinstance(value, UploadFile):
            raise ProblemError(
                422,
                "field",
                f"The form has {'a file' if isinstance(value, UploadFile) else 'text'} in the field {field!r}; "
                "send a file as image (one) or images (several), and options in the query.",
            )
        uploads.append(Upload(value.filename or _NAMELESS, value.file.read()))
    if not uploads:
        raise ProblemError(422, "no-image", "The form holds no image; send a file as image (one) or images (several).")
    return Batch(tuple(uploads), as_list=len(uploads) > 1 or "images" in form)
