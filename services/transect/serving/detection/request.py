"""One detection request: images are read, searched while the next ones arrive, and returned in order."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self, TypeVar

from starlette.requests import ClientDisconnect, Request

from transect.engine import DetectOptions, ModelRef
from transect.errors import StoppedError
from transect.serving.detection.image import DetectionOutput, OutputFormat
from transect.serving.detection.params import DetectQuery, detect_options
from transect.serving.detection.service import Service, cancel_all
from transect.serving.http.deadline import Deadline, deadline_exceeded
from transect.serving.http.disconnect import client_address, wait_for_disconnect
from transect.serving.http.lingering_close import declared_bytes
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import Upload, read_images
from transect.serving.models.slot import Lease

T = TypeVar("T")

# A client that has not sent its first image by then releases its slot until it has.
_SLOW_S = 1.0


@dataclass(frozen=True)
class ImageOutcome:
    """One finished image: its name, and its detections or its exception."""

    name: str
    outcome: DetectionOutput | BaseException


@dataclass(frozen=True)
class _Pending:
    name: str
    future: "asyncio.Future[DetectionOutput]"


class DetectionRequest:
    """One request with one model, as an async context manager.

    A task of its own reads the body and then watches for a disconnect. So a client that does not read its response can
    still upload, and a disconnect stops the work. Entering raises ProblemError (503) at once if no model is loaded or
    no slot is free.
    """

    def __init__(self, service: Service, request: Request, query: DetectQuery, deadline: Deadline) -> None:
        self._service = service
        self._request = request
        self._query = query
        self._deadline = deadline
        self._output: OutputFormat = "image" if query.format == "image" else "json"
        self._pending: list[_Pending] = []
        self._queue: asyncio.Queue[_Pending | None] = asyncio.Queue()
        self._resources = ExitStack()
        self._lease: Lease | None = None
        self._options = DetectOptions()
        self._slot_released = False
        self.listed = False

    @property
    def ref(self) -> ModelRef:
        """The model of the request; defined once the first image has arrived."""
        assert self._lease is not None  # noqa: S101 - the caller has an image
        return self._lease.model.detector.ref

    async def __aenter__(self) -> Self:
        service = self._service
        service.lease().release()
        service.admission.refuse_bytes(declared_length(self._request, service.limits.body_bytes))
        self._body = self._resources.enter_context(service.admission.body())
        self._slot = self._resources.enter_context(ExitStack())
        self._slot.enter_context(service.admission.slot(client_address(self._request)))
        self._slot_timer = asyncio.get_running_loop().call_later(_SLOW_S, self._release_slot)
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._deadline.stop.set()
        cancel_all([pending.future for pending in self._pending])
        self._slot_timer.cancel()
        self._reader.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._reader
        self._resources.close()

    async def outcomes(self) -> AsyncGenerator[ImageOutcome, None]:
        """Yield the images in the order of the files, each as soon as it is done.

        Raises ProblemError for an invalid body (as read_images) and when the deadline passes, ClientDisconnect when
        the client disconnects.
        """
        while (pending := await self._wait_for(self._queue.get())) is not None:
            await self._wait_for(asyncio.wait((pending.future,)))
            outcome = pending.future.exception() or pending.future.result()
            if isinstance(outcome, StoppedError):
                raise deadline_exceeded(self._deadline)
            yield ImageOutcome(pending.name, outcome)

    async def _wait_for(self, awaited: Awaitable[T]) -> T:
        """Await `awaited`; raise if the reader fails, the client disconnects or the deadline passes first."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait(
                (task, self._reader), timeout=self._deadline.remaining(), return_when=asyncio.FIRST_COMPLETED
            )
            if self._reader.done():
                self._reader.result()
            if not task.done():
                raise deadline_exceeded(self._deadline)
            return task.result()
        finally:
            task.cancel()

    async def _read(self) -> None:
        async for upload in read_images(self._request, self._service.limits, self._deadline, self._body):
            self._submit(upload)
        self._queue.put_nowait(None)
        await wait_for_disconnect(self._request)
        raise ClientDisconnect

    def _submit(self, upload: Upload) -> None:
        lease = self._lease or self._lease_model()
        self.listed = self.listed or upload.listed or bool(self._pending)
        if self._output == "image" and self._pending:
            raise ProblemError(422, "one-image", "format=image takes one image; got several.")
        future = self._service.submit(
            lease,
            upload,
            self._options,
            client=client_address(self._request),
            output=self._output,
            deadline=self._deadline,
        )
        pending = _Pending(upload.name, future)
        self._pending.append(pending)
        self._queue.put_nowait(pending)

    def _lease_model(self) -> Lease:
        """At the first image, reserve a slot if it was released, and lease the model for the whole request."""
        service = self._service
        if self._slot_released:
            self._slot.enter_context(service.admission.slot(client_address(self._request)))
        self._slot_timer.cancel()
        self._lease = lease = service.lease()
        self._resources.callback(lease.release)
        self._options = detect_options(self._query, service.settings, lease.model.detector.manifest.names)
        return lease

    def _release_slot(self) -> None:
        """Release the slot of a slow upload, so that it does not block other clients."""
        self._slot_released = True
        self._slot.close()


def declared_length(request: Request, limit: int) -> int:
    """Return Content-Length; 0 if it is absent, or over `limit`, for which reading the body raises its own error."""
    declared = declared_bytes(request.headers)
    return declared if declared <= limit else 0
