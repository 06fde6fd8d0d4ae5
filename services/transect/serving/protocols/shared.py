"""Detection for the third-party protocols: read the whole body, return one result per image in order."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from anyio import to_thread
from fastapi import Request

from transect.engine import ImageResult, ModelRef
from transect.serving.detection.image import DetectionOutput
from transect.serving.detection.params import detect_options
from transect.serving.detection.request import declared_length
from transect.serving.detection.request_stats import RequestStats
from transect.serving.detection.service import Service
from transect.serving.http.admission import BodyReservation
from transect.serving.http.disconnect import client_address, run_until_disconnect
from transect.serving.http.problems import ProblemError, failure_reason
from transect.serving.http.request_body import Upload, read_body
from transect.serving.protocols.given_images import ImageInput, ProtocolRequest

T = TypeVar("T", bound=ProtocolRequest)

# Memory for parsing one number of a JSON array, measured with 26 million numbers (2.2 GiB).
_VALUE_BYTES = 90


async def detect_images(
    request: Request,
    parse: Callable[[bytes], T],
    check: Callable[[ModelRef], None] = lambda _: None,
    *,
    text: int | None = None,
) -> tuple[T, list[ImageResult], ModelRef]:
    """Read the body, `parse` it, and detect in its images, under the limits of POST /v1/detect.

    `check` validates the served model before and after the body is read. It raises ProblemError, as do `parse` and the
    limits. The first `text` bytes of the body are text; None means all of them.
    """
    service: Service = request.app.state.service
    deadline = service.deadline(request)
    with service.lease() as model:
        check(model.detector.ref)
    _refuse_encoding(request)
    admission, limit, client = service.admission, service.limits.body_bytes, client_address(request)
    admission.refuse_when_full(client)
    admission.refuse_bytes(declared_length(request, limit))
    outcomes: Sequence[DetectionOutput | BaseException] = ()
    with admission.body() as reservation:
        body = await read_body(request, limit, deadline=deadline, body=reservation)
        reserve_values(reservation, body, admission.max_bytes, text)
        with admission.slot(client):
            # Parse on a thread, because long base64 text and lists would block the event loop.
            parsed = await to_thread.run_sync(parse, body)
            del body
            deadline = service.deadline(request, parsed.query.timeout)
            uploads = [image for image in parsed.images if isinstance(image, Upload)]
            with (lease := service.lease()) as model:
                ref = model.detector.ref
                check(ref)
                options = detect_options(parsed.query, service.settings, model.detector.manifest.names)
                if uploads:
                    work = service.detect(lease, uploads, options, client=client, deadline=deadline)
                    outcomes = await run_until_disconnect(request, work)
    stats = RequestStats(service.metrics, request.state.log, ref)
    results = []
    for number, outcome in enumerate(_in_order(parsed.images, iter(outcomes))):
        stats.add(outcome)
        if isinstance(outcome, DetectionOutput):
            results.append(outcome.result)
        else:
            results.append(ImageResult.failed(f"image {number}", ref, failure_reason(outcome)))
    return parsed, results, ref


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


def _in_order(
    images: Sequence[ImageInput], outcomes: Iterator[DetectionOutput | BaseException]
) -> Iterator[DetectionOutput | BaseException]:
    for image in images:
        yield next(outcomes) if isinstance(image, Upload) else image


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        detail = f"The body is compressed ({encoding[:40]}), which does not make images smaller; send it uncompressed."
        raise ProblemError(415, "content-encoding", detail, {"Accept-Encoding": "identity"})
