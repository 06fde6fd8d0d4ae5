"""What the foreign protocols share: one whole body in, a result for each of its images out, in order."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from anyio import to_thread
from fastapi import Request

from transect.engine import ImageResult, ModelRef
from transect.serving.detection.image import Detected
from transect.serving.detection.params import detect_options
from transect.serving.detection.request import declared_length
from transect.serving.detection.request_stats import Account
from transect.serving.detection.service import Service
from transect.serving.http.admission import Body
from transect.serving.http.disconnect import address, while_connected
from transect.serving.http.problems import ProblemError, failure_reason
from transect.serving.http.request_body import Upload, read_body
from transect.serving.protocols.given_images import Given, Task

T = TypeVar("T", bound=Task)

# What a number of a JSON array costs while it is read: measured with 26 million of them, 2.2 GiB.
_VALUE_BYTES = 90


async def detect_given(
    request: Request,
    read: Callable[[bytes], T],
    check: Callable[[ModelRef], None] = lambda _: None,
    *,
    text: int | None = None,
) -> tuple[T, list[ImageResult], ModelRef]:
    """Read the body, and search the images that `read` finds in it, under the limits of POST /v1/detect.

    `check` sees which model would answer, before the body is read and when it is; it raises ProblemError, and so do
    `read` and every limit. `text` is the number of bytes, at the beginning of the body, that are text; None for all.
    """
    service: Service = request.app.state.service
    deadline = service.deadline(request)
    with service.lease() as model:
        check(model.detector.ref)
    _refuse_encoding(request)
    admission, most, client = service.admission, service.limits.body_bytes, address(request)
    admission.refuse_when_full(client)
    admission.refuse_bytes(declared_length(request, most))
    outcomes: Sequence[Detected | BaseException] = ()
    with admission.body() as held:
        body = await read_body(request, most, deadline=deadline, body=held)
        hold_values(held, body, admission.max_bytes, text)
        with admission.place(client):
            # On a thread: base64 and lists of numbers of that length would hold everybody else up.
            task = await to_thread.run_sync(read, body)
            del body
            deadline = service.deadline(request, task.query.timeout)
            uploads = [image for image in task.images if isinstance(image, Upload)]
            with (lease := service.lease()) as model:
                ref = model.detector.ref
                check(ref)
                options = detect_options(task.query, service.settings, model.detector.manifest.names)
                if uploads:
                    work = service.detect(lease, uploads, options, client=client, deadline=deadline)
                    outcomes = await while_connected(request, work)
    account = Account(service.metrics, request.state.log, ref)
    results = []
    for number, outcome in enumerate(_in_order(task.images, iter(outcomes))):
        account.add(outcome)
        if isinstance(outcome, Detected):
            results.append(outcome.result)
        else:
            results.append(ImageResult.failed(f"image {number}", ref, failure_reason(outcome)))
    return task, results, ref


def hold_values(held: Body, body: bytes, most: int, text: int | None = None) -> None:
    """Hold what the values of `body` will take as Python's objects, and copies of their text.

    `text` is the number of bytes, at the beginning, that are text; None for all of them.

    Raises ProblemError: 413 for more than there ever is room for, 503 while there is no room.
    """
    text = len(body) if text is None else text
    # Each empty line of CSV is a list too.
    values = body.count(b",", 0, text) + body.count(b"\n", 0, text)
    size = 2 * text + _VALUE_BYTES * values
    if len(body) + size > most:
        detail = (
            "The body has too many values to be read as JSON or CSV; send images as base64 text, or as a binary tensor "
            "where the protocol has one."
        )
        raise ProblemError(413, "too-many-values", detail)
    held.hold(size)


def _in_order(
    images: Sequence[Given], outcomes: Iterator[Detected | BaseException]
) -> Iterator[Detected | BaseException]:
    for image in images:
        yield next(outcomes) if isinstance(image, Upload) else image


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        detail = f"The body is compressed ({encoding[:40]}), which images do not gain from; send it as it is."
        raise ProblemError(415, "content-encoding", detail, {"Accept-Encoding": "identity"})
