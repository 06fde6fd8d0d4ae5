"""The detection service: its long-lived parts, wired together once."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from time import perf_counter

from starlette.requests import Request

from transect.engine import DetectOptions, Detector, ModelRef
from transect.engine.backends import expects_gpu, wants_gpu
from transect.errors import DeviceLostError
from transect.serving.detection.decode_budget import DecodeBudget
from transect.serving.detection.image import DetectionOutput, ImageLimits, OutputFormat, detect_upload
from transect.serving.detection.params import DetectQuery, detect_options
from transect.serving.detection.workers import FairPool
from transect.serving.http.admission import Admission, body_budget, worker_count
from transect.serving.http.deadline import TIMEOUT_HEADER, Deadline, header_seconds
from transect.serving.http.disclosure import redact_locations
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import RequestLimits, Upload
from transect.serving.memory import decode_bytes, memory_limit
from transect.serving.metrics import Metrics
from transect.serving.models.alias_follower import AliasFollower
from transect.serving.models.closing import ModelCloser
from transect.serving.models.peers import Peers
from transect.serving.models.slot import Lease, ModelSlot
from transect.serving.models.source import ModelSource
from transect.settings import Settings

_log = logging.getLogger(__name__)

_MIB = 1 << 20
_STOP_S = 5.0

DetectUpload = Callable[..., DetectionOutput]


class Service:
    """The objects that live as long as the process: model slot, follower, workers, metrics.

    `detect_image` searches one image, on a worker thread. Raises InputError for settings that contradict each other.
    """

    def __init__(self, settings: Settings, source: ModelSource, detect_image: DetectUpload = detect_upload) -> None:
        # Check for contradicting settings at the start instead of in every request.
        detect_options(DetectQuery(), settings, ())
        self.settings = settings
        self._detect_image = detect_image
        self.limits = RequestLimits(settings.max_upload_mb * _MIB, settings.max_images)
        self._image_limits = ImageLimits(
            settings.max_pixels, settings.max_tiles, DecodeBudget(decode_bytes(settings.decode_mb, memory_limit()))
        )
        self.metrics = Metrics()
        self._closer = ModelCloser()
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
        self.peers = Peers(settings.peer_addresses, self.metrics)
        self.metrics.queue_depth.set_function(lambda: self.admission.waiting)
        self.metrics.in_progress.set_function(lambda: self.admission.admitted)
        self.metrics.body_bytes.set_function(lambda: self.admission.body_bytes)
        self.metrics.decode_bytes.set_function(lambda: self._image_limits.budget.used)
        self.metrics.alias_lag.set_function(self.follower.seconds_since_success)

        self._lost = threading.Event()
        # Called to end the process when an explicitly chosen GPU is lost.
        self.on_device_lost: Callable[[DeviceLostError], None] = lambda _error: None

    def start(self) -> None:
        """Start following the alias; the first model is loaded in the background."""
        self.follower.start()

    def stop(self) -> None:
        """Stop the follower and the workers, and close the model."""
        self.follower.stop(_STOP_S)
        self._workers.shutdown()
        self.slot.swap(None)
        self._closer.stop()

    def why_not_ready(self) -> str:
        """Return one or two sentences: why no model is loaded, and what to do."""
        state = self.follower.state
        if state.last_error is not None:
            return f"No model is loaded. {redact_locations(state.last_error)}"
        if state.rejected:
            last = state.rejected[-1]
            return (
                f"No model is loaded: version {last.version} of {self.settings.model_name} cannot be served. "
                f"{redact_locations(last.reason)} Promote another version."
            )
        return f"The service is starting: it is loading {self.settings.model_name}@{self.settings.model_alias}."

    def lease(self) -> Lease:
        """Return a lease on the served model; ProblemError (503, with the remedy) if no model is loaded."""
        lease = self.slot.lease()
        if lease is None:
            raise self._not_ready()
        return lease

    def require_model(self) -> ModelRef:
        """Return the served model's name and version; ProblemError (503, with the remedy) if no model is loaded."""
        model = self.slot.current
        if model is None:
            raise self._not_ready()
        return model.detector.ref

    def _not_ready(self) -> ProblemError:
        """Return the problem (503) for requests while no model is loaded."""
        retry_after = str(max(1, round(self.settings.poll_seconds)))
        return ProblemError(503, "no-model", self.why_not_ready(), {"Retry-After": retry_after})

    def deadline(self, request: Request, timeout: float | None = None) -> Deadline:
        """Return the deadline of `request`, counted from its arrival.

        It is the least of TRANSECT_DEADLINE_SECONDS, the query's `timeout` and the header X-Request-Timeout, all in
        seconds. ProblemError (422) for an invalid header.
        """
        limits = [self.settings.deadline_seconds, header_seconds(request.headers.get(TIMEOUT_HEADER))]
        seconds = min(limit for limit in (*limits, timeout) if limit is not None)
        return Deadline.after(seconds, request.state.arrived)

    def submit(
        self,
        lease: Lease,
        upload: Upload,
        options: DetectOptions,
        *,
        client: str,
        output: OutputFormat,
        deadline: Deadline,
    ) -> "asyncio.Future[DetectionOutput]":
        """Queue one upload for the worker threads, which serve the `client` addresses round-robin.

        The work has its own lease, so that the model stays open after a request is cancelled.
        """
        share = lease.share()
        work = partial(
            self._detect_image,
            share.model,
            upload,
            options,
            limits=self._image_limits,
            deadline=deadline,
            output=output,
            submitted=perf_counter(),
        )
        future = self._workers.submit(client, work)
        future.add_done_callback(partial(self._done, share))
        return asyncio.wrap_future(future)

    def _open(self, package: Path, ref: ModelRef) -> Detector:
        # The source has just verified every hash of the package.
        try:
            return Detector.from_settings(package, self.settings, ref=ref, verify=False, cpu_fallback=True)
        except DeviceLostError as error:
            self._device_lost(error)
            raise

    def _done(self, share: Lease, done: Future[DetectionOutput]) -> None:
        share.release()
        error = None if done.cancelled() else done.exception()
        if isinstance(error, DeviceLostError):
            self._device_lost(error)

    def _device_lost(self, error: DeviceLostError) -> None:
        """Stop serving and end the process, because no model can run on a lost GPU."""
        if self._lost.is_set():
            return
        self._lost.set()
        _log.error("The GPU is lost; the process ends", extra={"reason": str(error)})
        self.slot.swap(None)
        self.on_device_lost(error)


def cancel_all(futures: Iterable["asyncio.Future[DetectionOutput]"]) -> None:
    """Cancel pending futures, and read the exceptions of done ones, so that asyncio does not log them as unhandled."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()
