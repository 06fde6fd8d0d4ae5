"""Detection for the third-party protocols: read the whole body, return one result per image in order."""

from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from anyio import to_thread
from fastapi import Request

from transect.engine import ImageResult, ModelRef
from transect.serving.detection.request import DetectionRequest
from transect.serving.detection.service import Service
from transect.serving.http.admission import BodyReservation
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import ImageInput, read_body
from transect.serving.protocols.given_images import ProtocolRequest

T = TypeVar("T", bound=ProtocolRequest)

# Memory for parsing one number of a JSON array, measured with 26 million numbers (2.2 GiB).
_VALUE_BYTES = 90


async def detect_images(
    request: Request,
    parse: Callable[[bytes], T],
    check: Callable[[ModelRef], None] = lambda _: None,
    *,
    text: int | None = None,
) -> tuple[T, list[ImageResult]]:
    """Read the body, `parse` it, and detect in its images, under the limits of POST /v1/detect.

    `check` validates the served model before and after the body is read. It raises ProblemError, as do `parse` and the
    limits. The first `text` bytes of the body are text; None means all of them.
    """

    def check_request(ref: ModelRef) -> None:
        check(ref)
        _refuse_encoding(request)

    service: Service = request.app.state.service
    message = _Message(request, service, parse, text)
    async with DetectionRequest(service, request, message.read, check=check_request) as detection:
        images = await detection.collect()
    return message.parsed, [image.result() for image in images]


class _Message(Generic[T]):
    """The body of a request; `parsed` is defined once `read` has yielded the images."""

    parsed: T

    def __init__(self, request: Request, service: Service, parse: Callable[[bytes], T], text: int | None) -> None:
        self._request = request
        self._service = service
        self._parse = parse
        self._text = text

    async def read(self, detection: DetectionRequest) -> AsyncIterator[ImageInput]:
        """Yield the images of the message. Raises ProblemError, ClientDisconnect."""
        limit, max_bytes = self._service.limits.body_bytes, self._service.admission.max_bytes
        body = await read_body(self._request, limit, deadline=detection.deadline, body=detection.body)
        reserve_values(detection.body, body, max_bytes, self._text)
        detection.reserve_slot()
        # Parse on a thread, because long base64 text and lists would block the event loop.
        self.parsed = await to_thread.run_sync(self._parse, body)
        del body
        detection.set_query(self.parsed.query)
        for image in self.parsed.images:
            yield image


def reserve_values(reservation: BodyReservation, body: bytes, max_bytes: int, text: int | None = None) -> None:
    """Reserve memory for the values of `body` as Python objects, and for copies of their text.

    The first `text` bytes of `body` are text; None means all of them. Raises ProblemError: 413 if body and values
    exceed `max_bytes`, 503 while the byte budget cannot take them.
    """
    text = len(body) if text is None else text
    # Each line of CSV, even an empty one, becomes a list.
    values = body.count(b",", 0, text) + body.count(b"\n", 0, text)
    size = 2 * text + _VALUE_BYTES * values
    if len(body) + size > max_bytes:
        detail = (
            "The body has too many values to be read as JSON or CSV; send images as base64 text, or as a binary tensor "
            "where the protocol has one."
        )
        raise ProblemError(413, "too-many-values", detail)
    reservation.reserve(size)


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        detail = f"The body is compressed ({encoding[:40]}), which does not make images smaller; send it uncompressed."
        raise ProblemError(415, "content-encoding", detail, {"Accept-Encoding": "identity"})
