"""A memory budget in bytes for all images that are being decoded."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from transect.errors import StoppedError
from transect.serving.http.deadline import Deadline

# How often a waiting thread checks whether its request has ended.
_RECHECK_S = 0.05


class DecodeBudget:
    """A first-in, first-out semaphore over `total` bytes, for worker threads.

    No thread waits while it has a reservation, so there is no deadlock. The strict order keeps small images from
    starving large ones.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._queue: deque[object] = deque()
        self._condition = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes reserved now."""
        return self._used

    @contextmanager
    def reserve(self, size: int, deadline: Deadline) -> Iterator[None]:
        """Wait for `size` bytes and reserve them during a `with` block.

        A `size` above `total` reserves all of it. Raises StoppedError if `deadline` passes or is stopped first.
        """
        size = min(size, self.total)
        self._wait(size, deadline)
        try:
            yield
        finally:
            with self._condition:
                self._used -= size
                self._condition.notify_all()

    def _wait(self, size: int, deadline: Deadline) -> None:
        ticket = object()
        with self._condition:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or self._used + size > self.total:
                    if deadline.over:
                        raise StoppedError("The request ended before there was memory to decode its image.")
                    self._condition.wait(_RECHECK_S)
                self._used += size
            finally:
                self._queue.remove(ticket)
                self._condition.notify_all()
