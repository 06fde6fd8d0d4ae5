"""The images of one request on their way: read, searched while the next arrive, answered in order."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self, TypeVar

from starlette.requests import ClientDisconnect, Request

from transect.engine import DetectOptions, ModelRef
from transect.errors import StoppedError
from transect.serving.detection.image import Answer, Detected
from transect.serving.detection.params import DetectQuery, detect_options
from transect.serving.detection.service import Service, settled
from transect.serving.http.deadline import Deadline, expired
from transect.serving.http.disconnect import address, gone
from transect.serving.http.lingering_close import declared_bytes
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import Upload, read_images
from transect.serving.models.slot import Lease

T = TypeVar("T")

# A client that has not sent its first image by then gives its place back until it has.
_SLOW_S = 1.0


@dataclass(frozen=True)
class Finished:
    """One image that is done: its name, and what was found or why it failed."""

    name: str
    outcome: Detected | BaseException


@dataclass(frozen=True)
class _Work:
    name: str
    future: "asyncio.Future[Detected]"


class Search:
    """One request from its first byte to its last image, with one model; an async context manager.

    A task of its own reads the body and then watches for the client's leaving, so that an answer
    that nobody takes keeps no one from sending, and a client that leaves stops its work.
    Entering raises ProblemError (503) at once when there is no model or no place.
    """

    def __init__(self, service: Service, request: Request, query: DetectQuery, deadline: Deadline) -> None:
        self._service = service
        self._request = request
        self._query = query
        self._deadline = deadline
        self._answer: Answer = "image" if query.format == "image" else "json"
        self._work: list[_Work] = []
        self._ready: asyncio.Queue[_Work | None] = asyncio.Queue()
        self._held = ExitStack()
        self._lease: Lease | None = None
        self._options = DetectOptions()
        self._given_back = False
        self.listed = False

    @property
    def ref(self) -> ModelRef:
        """The model that answers; there is one as soon as the first image has arrived."""
        assert self._lease is not None  # noqa: S101 - the caller has seen an image
        return self._lease.model.detector.ref

    async def __aenter__(self) -> Self:
        service = self._service
        service.lease().release()
        service.admission.refuse_bytes(declared_length(self._request, service.limits.body_bytes))
        self._body = self._held.enter_context(service.admission.body())
        self._place = self._held.enter_context(ExitStack())
        self._place.enter_context(service.admission.place(address(self._request)))
        self._slow = asyncio.get_running_loop().call_later(_SLOW_S, self._give_place_back)
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._deadline.stop.set()
        settled([work.future for work in self._work])
        self._slow.cancel()
        self._reader.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._reader
        self._held.close()

    async def finished(self) -> AsyncGenerator[Finished, None]:
        """Every image in the order of the files, each as soon as it is done.

        Raises ProblemError for a body that cannot be used (as read_images) and when the deadline
        passes, ClientDisconnect when the client leaves.
        """
        while (work := await self._first(self._ready.get())) is not None:
            await self._first(asyncio.wait((work.future,)))
            outcome = work.future.exception() or work.future.result()
            if isinstance(outcome, StoppedError):
                raise expired(self._deadline)
            yield Finished(work.name, outcome)

    async def _first(self, awaited: Awaitable[T]) -> T:
        """What `awaited` gives, unless the reader fails, the client leaves or the time is up before."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait(
                (task, self._reader), timeout=self._deadline.remaining(), return_when=asyncio.FIRST_COMPLETED
            )
            if self._reader.done():
                self._reader.result()
            if not task.done():
                raise expired(self._deadline)
            return task.result()
        finally:
            task.cancel()

    async def _read(self) -> None:
        async for upload in read_images(self._request, self._service.limits, self._deadline, self._body):
            self._take(upload)
        self._ready.put_nowait(None)
        await gone(self._request)
        raise ClientDisconnect

    def _take(self, upload: Upload) -> None:
        lease = self._lease or self._begin()
        self.listed = self.listed or upload.listed or bool(self._work)
        if self._answer == "image" and self._work:
            raise ProblemError(422, "one-image", "format=image takes one image; got several.")
        future = self._service.submit(
            lease,
            upload,
            self._options,
            client=address(self._request),
            answer=self._answer,
            deadline=self._deadline,
        )
        work = _Work(upload.name, future)
        self._work.append(work)
        self._ready.put_nowait(work)

    def _begin(self) -> Lease:
        """With the first image: a place, if it was given back, and the model that answers the whole request."""
        service = self._service
        if self._given_back:
            self._place.enter_context(service.admission.place(address(self._request)))
        self._slow.cancel()
        self._lease = lease = service.lease()
        self._held.callback(lease.release)
        self._options = detect_options(self._query, service.settings, lease.model.detector.manifest.names)
        return lease

    def _give_place_back(self) -> None:
        """A slow uplink must not keep the service from others; its image is looked at when it is there."""
        self._given_back = True
        self._place.close()


def declared_length(request: Request, most: int) -> int:
    """The bytes that the request says it brings; 0 where it does not say, and over `most`, which has its own answer."""
    declared = declared_bytes(request.headers)
    return declared if declared <= most else 0
