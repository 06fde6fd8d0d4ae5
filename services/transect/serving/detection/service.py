"""The parts of a running service, wired together once."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from time import perf_counter

from starlette.requests import Request

from transect.engine import DetectOptions, Detector, ModelRef
from transect.engine.backends import expects_gpu, wants_gpu
from transect.errors import DeviceLostError, StoppedError
from transect.serving.detection.decode_budget import DecodeBudget
from transect.serving.detection.image import Answer, Detected, ImageLimits, detect_upload
from transect.serving.detection.params import DetectQuery, detect_options
from transect.serving.detection.workers import FairPool
from transect.serving.http.admission import Admission, body_budget, worker_count
from transect.serving.http.deadline import TIMEOUT_HEADER, Deadline, expired, header_seconds
from transect.serving.http.disclosure import without_places
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import Limits, Upload
from transect.serving.memory import decode_bytes, memory_limit
from transect.serving.metrics import Metrics
from transect.serving.models.alias_follower import AliasFollower
from transect.serving.models.closing import Closer
from transect.serving.models.slot import Lease, ModelSlot
from transect.serving.models.source import ModelSource
from transect.settings import Settings

_log = logging.getLogger(__name__)

_MIB = 1 << 20
_STOP_S = 5.0


class Service:
    """Everything that lives as long as the process: slot, follower, workers, metrics.

    Raises InputError for settings that contradict each other.
    """

    def __init__(self, settings: Settings, source: ModelSource) -> None:
        # Settings that contradict each other stop the start, not every request.
        detect_options(DetectQuery(), settings, ())
        self.settings = settings
        self.limits = Limits(settings.max_upload_mb * _MIB, settings.max_images)
        self._image_limits = ImageLimits(
            settings.max_pixels, settings.max_tiles, DecodeBudget(decode_bytes(settings.decode_mb, memory_limit()))
        )
        self.metrics = Metrics()
        self._closer = Closer()
        self.slot = ModelSlot(self._closer.close)
        self.metrics.gpu_wanted.set(wants_gpu(settings.backend, settings.precision))
        on_gpu = expects_gpu(settings.backend, settings.precision)
        workers = worker_count(settings.threads, settings.max_batch if on_gpu else 0)
        self.admission = Admission(
            workers,
            settings.max_queue,
            body_budget(self.limits.body_bytes),
            self.metrics.unserved.labels("refused").inc,
        )
        self._workers = FairPool(workers, "detect")
        self.follower = AliasFollower(source, self.slot, self.metrics, self._open, settings.poll_seconds)
        self.metrics.queue_depth.set_function(lambda: self.admission.waiting)
        self.metrics.in_progress.set_function(lambda: self.admission.admitted)
        self.metrics.body_bytes.set_function(lambda: self.admission.body_bytes)
        self.metrics.decode_bytes.set_function(lambda: self._image_limits.budget.used)
        self.metrics.alias_lag.set_function(self.follower.seconds_since_success)

        self._lost = threading.Event()
        # What ends the process when the GPU is lost and a person chose it.
        self.on_device_lost: Callable[[DeviceLostError], None] = lambda _error: None

    def start(self) -> None:
        """Begin to follow the alias; the first model arrives in the background."""
        self.follower.start()

    def stop(self) -> None:
        """End the following and the workers, and close the model."""
        self.follower.stop(_STOP_S)
        self._workers.shutdown()
        self.slot.swap(None)
        self._closer.stop()

    def why_not_ready(self) -> str:
        """One sentence or two: why no model is loaded and what to do."""
        state = self.follower.state
        if state.last_error is not None:
            return f"No model is loaded. {without_places(state.last_error)}"
        if state.refused:
            last = state.refused[-1]
            return (
                f"No model is loaded: version {last.version} of {self.settings.model_name} cannot be served. "
                f"{without_places(last.reason)} Promote another version."
            )
        return f"The service is starting: it is loading {self.settings.model_name}@{self.settings.model_alias}."

    def lease(self) -> Lease:
        """A lease on the served model; ProblemError (503) that says what to do where there is none."""
        lease = self.slot.lease()
        if lease is None:
            raise self.not_ready()
        return lease

    def not_ready(self) -> ProblemError:
        """The answer while no model is loaded."""
        retry_after = str(max(1, round(self.settings.poll_seconds)))
        return ProblemError(503, "no-model", self.why_not_ready(), {"Retry-After": retry_after})

    def deadline(self, request: Request, asked: float | None = None) -> Deadline:
        """When the work for `request` must end, counted from its arrival.

        TRANSECT_DEADLINE_SECONDS, or less where the client asks for less: with `asked` (the query's
        `timeout`) or with the header X-Request-Timeout, both in seconds. ProblemError (422) for a
        header that is no such number.
        """
        limits = [self.settings.deadline_seconds, header_seconds(request.headers.get(TIMEOUT_HEADER))]
        seconds = min(limit for limit in (*limits, asked) if limit is not None)
        return Deadline.after(seconds, request.state.arrived)

    async def detect(
        self,
        lease: Lease,
        uploads: Sequence[Upload],
        options: DetectOptions,
        *,
        client: str,
        draw: bool = False,
        deadline: Deadline,
    ) -> list[Detected | BaseException]:
        """Detect in every upload of `client` on the worker threads; an upload that failed leaves its exception.

        Raises ProblemError (504) when `deadline` passes first. Then, and when the caller is
        cancelled, what waits is dropped and what runs stops at its next tile.
        """
        answer: Answer = "image" if draw else "result"
        futures = [
            self.submit(lease, upload, options, client=client, answer=answer, deadline=deadline) for upload in uploads
        ]
        try:
            async with asyncio.timeout(deadline.remaining()):
                outcomes = await asyncio.gather(*futures, return_exceptions=True)
        except BaseException as error:
            deadline.stop.set()
            settled(futures)
            if isinstance(error, TimeoutError):
                raise expired(deadline) from None
            raise
        # A worker may see before the event loop that the time is up.
        if any(isinstance(outcome, StoppedError) for outcome in outcomes):
            raise expired(deadline)
        return outcomes

    def submit(
        self, lease: Lease, upload: Upload, options: DetectOptions, *, client: str, answer: Answer, deadline: Deadline
    ) -> "asyncio.Future[Detected]":
        """Queue one upload for the worker threads, where the addresses of `client` take turns.

        A client that is cut off does not pull the model away under a worker: each has its own share.
        """
        share = lease.share()
        work = partial(
            detect_upload,
            share.model,
            upload,
            options,
            limits=self._image_limits,
            deadline=deadline,
            answer=answer,
            submitted=perf_counter(),
        )
        future = self._workers.submit(client, work)
        future.add_done_callback(partial(self._done, share))
        return asyncio.wrap_future(future)

    def _open(self, package: Path, ref: ModelRef) -> Detector:
        # Whoever brought the package has just checked every hash.
        try:
            return Detector.from_settings(package, self.settings, ref=ref, verify=False, outlive_gpu=True)
        except DeviceLostError as error:
            self._device_lost(error)
            raise

    def _done(self, share: Lease, done: Future[Detected]) -> None:
        share.release()
        error = None if done.cancelled() else done.exception()
        if isinstance(error, DeviceLostError):
            self._device_lost(error)

    def _device_lost(self, error: DeviceLostError) -> None:
        """No model can be run any more: take no work, and let the process end, so that the next one may."""
        if self._lost.is_set():
            return
        self._lost.set()
        _log.error("The GPU is lost; the process ends", extra={"reason": str(error)})
        self.slot.swap(None)
        self.on_device_lost(error)


def settled(futures: Iterable["asyncio.Future[Detected]"]) -> None:
    """Drop what has not begun, and see the failures of what is done, so that nobody logs them as forgotten."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()
