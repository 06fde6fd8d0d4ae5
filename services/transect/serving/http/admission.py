"""How many requests may be inside: a bounded queue, and bounded bytes, in front of a bounded pool of threads."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from transect.serving.http.problems import ProblemError

_SMOOTHING = 0.2
_MIB = 1 << 20
# Bodies of frames from a drone fill the default queue with half of this.
_LEAST_BODIES = 256 * _MIB
_LARGEST_BODIES = 4
# What a request costs before its body has arrived: thousands of silent clients must not add up to nothing.
_LEAST_BODY = 64 << 10
# Of all places, the share that one client may have: the rest is there for others at any time.
_CLIENT_SHARE = 0.75


def worker_count(threads: int, gpu_batch: int = 0) -> int:
    """Threads that decode and detect: the cores this process may use, at least two, so that the
    decoding of one image runs beside the inference of another.

    Where a GPU computes batches of up to `gpu_batch`, so many more that two batches can be filled by threads that do
    nothing but wait for them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, threads or cores) + 2 * gpu_batch


def body_budget(largest: int) -> int:
    """Bytes of request bodies that are held at one time, where one has at most `largest`."""
    return max(_LEAST_BODIES, _LARGEST_BODIES * largest)


class Body:
    """The bytes that one request holds."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0

    def hold(self, size: int) -> None:
        """Hold `size` more bytes. ProblemError (503) when all bodies together have too many."""
        self._admission.refuse_bytes(size)
        self._admission.body_bytes += size
        self.size += size


class Admission:
    """Counts what is inside. Used from the event loop alone, so it needs no lock.

    At most `workers` requests run and `max_waiting` wait; one more is refused at once, and so is one of a client that
    has three quarters of these places. The bytes of all bodies together are bounded by `max_bytes`.
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
        """Requests beyond those that the workers can run at once."""
        return max(0, self.admitted - self.workers)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until a place is likely free: the queue's work shared by the workers."""
        return max(1, math.ceil(self._seconds * (self.waiting + 1) / self.workers))

    def refuse_when_full(self, client: str) -> None:
        """Raise ProblemError (503 with Retry-After) while every place is taken, or every one that `client` may have."""
        if self.admitted >= self.workers + self.max_waiting:
            raise self._refusal(f"{self.max_waiting} requests wait already (TRANSECT_MAX_QUEUE)")
        if self._clients[client] >= self.per_client:
            raise self._refusal(f"{self.per_client} requests of this client are inside, the most of one")

    def refuse_bytes(self, size: int) -> None:
        """Raise ProblemError (503 with Retry-After) while there is no room for `size` more bytes."""
        if self.body_bytes + size > self.max_bytes:
            raise self._refusal(f"the request bodies inside have {self.body_bytes / _MIB:.0f} MiB already")

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Hold one place for `client` for the length of a `with` block."""
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
    def body(self) -> Iterator[Body]:
        """Count the bytes of one request's body for the length of a `with` block."""
        body = Body(self)
        body.hold(_LEAST_BODY)
        try:
            yield body
        finally:
            self.body_bytes -= body.size

    def _refusal(self, why: str) -> ProblemError:
        self._on_refused()
        detail = f"The service is busy: {why}. Try again in {self.retry_after_s} s."
        return ProblemError(503, "busy", detail, {"Retry-After": str(self.retry_after_s)})
