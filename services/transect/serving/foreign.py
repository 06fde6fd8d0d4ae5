"""What the foreign protocols share: one whole body in, a result for each of its images out, in order."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from anyio import to_thread
from fastapi import Request

from transect.engine import ImageResult, ModelRef
from transect.serving.account import Account
from transect.serving.detection import Detected
from transect.serving.given_images import Given, Task
from transect.serving.intake import Upload, read_body
from transect.serving.presence import while_connected
from transect.serving.problems import ProblemError, failure_reason
from transect.serving.query import detect_options
from transect.serving.search import declared_length
from transect.serving.service import Service

T = TypeVar("T", bound=Task)


async def detect_given(
    request: Request, read: Callable[[bytes], T], check: Callable[[ModelRef], None] = lambda _: None
) -> tuple[T, list[ImageResult], ModelRef]:
    """Read the body, and search the images that `read` finds in it, under the limits of POST /v1/detect.

    `check` sees which model would answer, before the body is read and when it is; it raises
    ProblemError, and so do `read` and every limit.
    """
    service: Service = request.app.state.service
    deadline = service.deadline(request)
    with service.lease() as model:
        check(model.detector.ref)
    _refuse_encoding(request)
    admission, most = service.admission, service.limits.body_bytes
    admission.refuse_when_full()
    admission.refuse_bytes(declared_length(request, most))
    outcomes: Sequence[Detected | BaseException] = ()
    with admission.body() as held:
        body = await read_body(request, most, deadline=deadline, body=held)
        with admission.place():
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
                    work = service.detect(lease, uploads, options, deadline=deadline)
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
