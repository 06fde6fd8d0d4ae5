"""Admission control: at most `workers` running, `max_waiting` waiting, and a byte budget for bodies."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from transect.serving.http.problems import ProblemError

_SMOOTHING = 0.2
_MIB = 1 << 20
# A default queue full of drone frames takes half of this.
_LEAST_BODIES = 256 * _MIB
_LARGEST_BODIES = 4
# Reserved before a body arrives, so that thousands of idle clients count too.
_LEAST_BODY = 64 << 10
# The share of all slots that one client may have; the rest is always free for others.
_CLIENT_SHARE = 0.75


def worker_count(threads: int, gpu_batch: int = 0) -> int:
    """Return the number of threads that decode and detect: one per usable core, at least two, so that one image is
    decoded while another is inferred.

    With a GPU that computes batches of up to `gpu_batch`, `2 * gpu_batch` more, because the threads of two batches
    only wait for the GPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, threads or cores) + 2 * gpu_batch


def body_budget(largest: int) -> int:
    """Return the byte budget for all request bodies, given the `largest` allowed body."""
    return max(_LEAST_BODIES, _LARGEST_BODIES * largest)


class BodyReservation:
    """The bytes reserved for the body of one request."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0

    def reserve(self, size: int) -> None:
        """Reserve `size` more bytes. ProblemError (503) when the budget for all bodies is exhausted."""
        self._admission.refuse_bytes(size)
        self._admission.body_bytes += size
        self.size += size


class Admission:
    """Counts admitted requests and their bytes. Used from the event loop only, so it needs no lock.

    At most `workers` requests run and `max_waiting` wait; one more is rejected at once, as is any request of a client
    that has three quarters of these slots. All bodies together may reserve `max_bytes`.
    """

    def __init__(
        self, workers: int, max_waiting: int, max_bytes: int, on_refused: Callable[[], None] = lambda: None
    ) -> None:
        self.workers = workers
        self.max_waiting = max_waiting
        self.max_bytes = max_bytes
        self.admitted = 0
        self.body_bytes = 0
        self.per_client = math.ceil(_CLIENT_SHARE * (workers + max_waiting))
        self._clients: Counter[str] = Counter()
        self._on_refused = on_refused
        self._seconds = 0.0

    @property
    def waiting(self) -> int:
        """Admitted requests beyond the number of workers."""
        return max(0, self.admitted - self.workers)

    @property
    def retry_after_s(self) -> int:
        """Estimated whole seconds until a slot is free: the queue's work divided by the workers."""
        return max(1, math.ceil(self._seconds * (self.waiting + 1) / self.workers))

    def refuse_when_full(self, client: str) -> None:
        """Raise ProblemError (503 with Retry-After) while all slots, or all slots that `client` may have, are taken."""
        if self.admitted >= self.workers + self.max_waiting:
            raise self._busy(f"{self.max_waiting} requests are already waiting (TRANSECT_MAX_QUEUE)")
        if self._clients[client] >= self.per_client:
            raise self._busy(f"this client has {self.per_client} requests in progress, the most for one client")

    def refuse_bytes(self, size: int) -> None:
        """Raise ProblemError (503 with Retry-After) while the byte budget cannot take `size` more bytes."""
        if self.body_bytes + size > self.max_bytes:
            raise self._busy(f"the request bodies in memory already take {self.body_bytes / _MIB:.0f} MiB")

    @contextmanager
    def slot(self, client: str) -> Iterator[None]:
        """Reserve one slot for `client` during a `with` block."""
        self.refuse_when_full(client)
        self.admitted += 1
        self._clients[client] += 1
        start = monotonic()
        try:
            yield
        finally:
            self.admitted -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            self._seconds += _SMOOTHING * (monotonic() - start - self._seconds)

    @contextmanager
    def body(self) -> Iterator[BodyReservation]:
        """Reserve bytes for one request's body during a `with` block."""
        body = BodyReservation(self)
        body.reserve(_LEAST_BODY)
        try:
            yield body
        finally:
            self.body_bytes -= body.size

    def _busy(self, why: str) -> ProblemError:
        self._on_refused()
        detail = f"The service is busy: {why}. Try again in {self.retry_after_s} s."
        return ProblemError(503, "busy", detail, {"Retry-After": str(self.retry_after_s)})
