"""How many requests may be inside: a bounded queue in front of a bounded pool of threads."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from transect.serving.problems import ProblemError

_SMOOTHING = 0.2


def worker_count(threads: int) -> int:
    """Threads that decode and detect: the cores this process may use, at least two, so that the
    decoding of one image runs beside the inference of another."""
    if threads:
        return max(2, threads)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, cores)


class Admission:
    """Counts the admitted requests. Used from the event loop alone, so it needs no lock.

    At most `workers` requests run and `max_waiting` wait; one more is refused at once.
    """

    def __init__(self, workers: int, max_waiting: int) -> None:
        self.workers = workers
        self.max_waiting = max_waiting
        self.admitted = 0
        self._seconds = 0.0

    @property
    def waiting(self) -> int:
        """Requests beyond those that the workers can run at once."""
        return max(0, self.admitted - self.workers)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until a place is likely free: the queue's work shared by the workers."""
        return max(1, math.ceil(self._seconds * (self.waiting + 1) / self.workers))

    def refuse_when_full(self) -> None:
        """Raise ProblemError (503 with Retry-After) while every place is taken."""
        if self.admitted < self.workers + self.max_waiting:
            return
        detail = (
            f"The service is busy: {self.max_waiting} requests wait already (TRANSECT_MAX_QUEUE). "
            f"Try again in {self.retry_after_s} s."
        )
        raise ProblemError(503, "busy", detail, {"Retry-After": str(self.retry_after_s)})

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place for the length of a `with` block."""
        self.refuse_when_full()
        self.admitted += 1
        start = monotonic()
        try:
            yield
        finally:
            self.admitted -= 1
            self._seconds += _SMOOTHING * (monotonic() - start - self._seconds)
