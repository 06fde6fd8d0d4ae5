"""One detection request: images are read, searched while the next ones arrive, and returned in order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Self, TypeVar

from starlette.requests import ClientDisconnect, Request

from transect.engine import DetectOptions, ImageResult, ModelRef
from transect.errors import StoppedError
from transect.serving.detection.image import DetectionOutput, OutputFormat, as_json
from transect.serving.detection.model_version import check_version
from transect.serving.detection.params import DetectQuery, detect_options
from transect.serving.detection.request_stats import RequestStats
from transect.serving.detection.service import Service, cancel_all
from transect.serving.http.deadline import deadline_exceeded
from transect.serving.http.disconnect import client_address, wait_for_disconnect
from transect.serving.http.lingering_close import declared_bytes
from transect.serving.http.problems import failure_reason
from transect.serving.http.request_body import ImageInput, Upload
from transect.serving.models.slot import Lease

T = TypeVar("T")

# A client that has not sent its first image by then releases its slot until it has.
_SLOW_S = 1.0


@dataclass(frozen=True)
class ImageOutcome:
    """One finished image: its name, the model, and its detections or its exception."""

    name: str
    model: ModelRef
    outcome: DetectionOutput | BaseException

    def output(self) -> DetectionOutput:
        """Return the detections; raise the image's exception."""
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def result(self) -> ImageResult:
        """Return the detections, or the failure with its reason."""
        if isinstance(self.outcome, DetectionOutput):
            return self.outcome.result
        return ImageResult.failed(self.name, self.model, failure_reason(self.outcome))

    def as_json(self) -> bytes:
        """Return the result of a request whose output is json as its worker encoded it, or the failure as JSON."""
        return self.outcome.encoded if isinstance(self.outcome, DetectionOutput) else as_json(self.result())


@dataclass(frozen=True)
class _Pending:
    name: str
    future: "asyncio.Future[DetectionOutput]"


class DetectionRequest:
    """One request with one model, as an async context manager: admission, lease, deadline, disconnect, statistics.

    `read` yields the images of the body; it may call `reserve_slot` and `set_query` before the first. A task of its own
    runs it and then watches for a disconnect. So a client that does not read its response can still upload, and a
    disconnect stops the work. Entering raises ProblemError (503) at once if no model is loaded or no slot is free.
    `check` is called with the model then and again with the model that searches the images; it raises ProblemError.
    So does X-Model-Version, which is compared with the same models.

    With `slot_first` the request has its slot while its body arrives, since its first images are searched meanwhile.
    """

    def __init__(
        self,
        service: Service,
        request: Request,
        read: "ImageReader",
        *,
        query: DetectQuery | None = None,
        output: OutputFormat = "result",
        check: Callable[[ModelRef], None] = lambda _: None,
        slot_first: bool = False,
    ) -> None:
        self._service = service
        self._request = request
        self._client = client_address(request)
        self._images = read
        self._output = output
        self._check = check
        self._slot_first = slot_first
        self._pending: list[_Pending] = []
        self._queue: asyncio.Queue[_Pending | None] = asyncio.Queue()
        self._slot = ExitStack()
        self._slot_timer: asyncio.TimerHandle | None = None
        self._has_slot = False
        self._lease: Lease | None = None
        self._options = DetectOptions()
        self.stats = RequestStats(service.metrics, request.state.log)
        self.set_query(query or DetectQuery())

    @property
    def ref(self) -> ModelRef:
        """The model of the request; defined once the first image, or the end of the body, has arrived."""
        assert self._lease is not None  # noqa: S101 - the caller has an outcome, or all of them
        return self._lease.model.detector.ref

    def set_query(self, query: DetectQuery) -> None:
        """Set the options and the deadline. ProblemError (422) for an invalid timeout."""
        self._query = query
        self.deadline = self._service.deadline(self._request, query.timeout)

    def reserve_slot(self) -> None:
        """Reserve a slot unless the request has one. ProblemError (503) if none is free."""
        if self._slot_timer is not None:
            self._slot_timer.cancel()
        if not self._has_slot:
            self._slot.enter_context(self._service.admission.slot(self._client))
            self._has_slot = True

    def _release_slot(self) -> None:
        """Release the slot of a slow upload, so that it does not block other clients."""
        self._has_slot = False
        self._slot.close()

    async def __aenter__(self) -> Self:
        admission = self._service.admission
        self._check_model(self._service.require_model())
        admission.refuse_bytes(_declared_length(self._request, self._service.limits.body_bytes))
        with ExitStack() as resources:
            self.body = resources.enter_context(admission.body())
            resources.enter_context(self._slot)
            if self._slot_first:
                self.reserve_slot()
                self._slot_timer = asyncio.get_running_loop().call_later(_SLOW_S, self._release_slot)
            else:
                admission.refuse_when_full(self._client)
            self._resources = resources.pop_all()
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.deadline.stop.set()
        cancel_all([pending.future for pending in self._pending])
        if self._slot_timer is not None:
            self._slot_timer.cancel()
        self._reader.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._reader
        self._resources.close()

    async def stream(self) -> AsyncGenerator[ImageOutcome, None]:
        """Yield the images in the order of the body, each as soon as it is done, and count it in `stats`.

        Raises what the reader raises, ProblemError (504) when the deadline passes, ClientDisconnect when the client
        disconnects. An image's own exception is its outcome.
        """
        async with aclosing(self._outcomes()) as images:
            async for image in images:
                self.stats.set_model(self.ref)
                self.stats.add(image.outcome)
                yield image

    async def collect(self) -> list[ImageOutcome]:
        """Return all images in the order of the body; raises as `stream`, and then counts none in `stats`."""
        images = [image async for image in self._outcomes()]
        self.stats.set_model(self.ref)
        for image in images:
            self.stats.add(image.outcome)
        return images

    async def _outcomes(self) -> AsyncGenerator[ImageOutcome, None]:
        while (pending := await self._wait_for(self._queue.get())) is not None:
            await self._wait_for(asyncio.wait((pending.future,)))
            outcome = pending.future.exception() or pending.future.result()
            if isinstance(outcome, StoppedError):
                raise deadline_exceeded(self.deadline)
            yield ImageOutcome(pending.name, self.ref, outcome)

    async def _wait_for(self, awaited: Awaitable[T]) -> T:
        """Await `awaited`; raise if the reader fails, the client disconnects or the deadline passes first."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait(
                (task, self._reader), timeout=self.deadline.remaining(), return_when=asyncio.FIRST_COMPLETED
            )
            if self._reader.done():
                self._reader.result()
            if not task.done():
                raise deadline_exceeded(self.deadline)
            return task.result()
        finally:
            task.cancel()

    async def _read(self) -> None:
        async for image in self._images(self):
            self._submit(self._lease or self._lease_model(), image)
        if self._lease is None:
            self._lease_model()
        self._queue.put_nowait(None)
        await wait_for_disconnect(self._request)
        raise ClientDisconnect

    def _submit(self, lease: Lease, image: ImageInput) -> None:
        if isinstance(image, Upload):
            future = self._service.submit(
                lease, image, self._options, client=self._client, output=self._output, deadline=self.deadline
            )
            pending = _Pending(image.name, future)
        else:
            pending = _Pending(f"image {len(self._pending)}", asyncio.get_running_loop().create_future())
            pending.future.set_exception(image)
        self._pending.append(pending)
        self._queue.put_nowait(pending)

    def _check_model(self, ref: ModelRef) -> None:
        self._check(ref)
        check_version(self._request, ref)

    def _lease_model(self) -> Lease:
        """Reserve a slot if the request has none, and lease the model for all its images."""
        self.reserve_slot()
        self._lease = lease = self._service.lease()
        self._resources.callback(lease.release)
        detector = lease.model.detector
        self._check_model(detector.ref)
        self._options = detect_options(self._query, self._service.settings, detector.manifest.names)
        return lease


# Yields the images of a request's body. ProblemError or ClientDisconnect ends the request.
ImageReader = Callable[[DetectionRequest], AsyncIterator[ImageInput]]


def _declared_length(request: Request, limit: int) -> int:
    """Return Content-Length; 0 if it is absent, or over `limit`, for which reading the body raises its own error."""
    declared = declared_bytes(request.headers)
    return declared if declared <= limit else 0
