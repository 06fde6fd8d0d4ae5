"""How many bytes the decoding of all images may hold at one time."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from transect.errors import StoppedError
from transect.serving.http.deadline import Deadline

# How soon a waiting thread notices that its request has ended.
_LOOK_S = 0.05


class DecodeBudget:
    """Room for `total` bytes, given to worker threads in the order in which they ask.

    Nobody waits while holding room, so that room always comes; nobody overtakes, so that large
    images are not kept out by small ones.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._line: deque[object] = deque()
        self._turn = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes that are held now."""
        return self._used

    @contextmanager
    def room(self, size: int, deadline: Deadline) -> Iterator[None]:
        """Hold room for `size` bytes during a `with` block, after waiting for it.

        More than `total` waits until it is alone. Raises StoppedError when `deadline` passes or is
        stopped first.
        """
        size = min(size, self.total)
        self._wait(size, deadline)
        try:
            yield
        finally:
            with self._turn:
                self._used -= size
                self._turn.notify_all()

    def _wait(self, size: int, deadline: Deadline) -> None:
        me = object()
        with self._turn:
            self._line.append(me)
            try:
                while self._line[0] is not me or self._used + size > self.total:
                    if deadline.over:
                        raise StoppedError("The request ended before there was room for its image.")
                    self._turn.wait(_LOOK_S)
                self._used += size
            finally:
                self._line.remove(me)
                self._turn.notify_all()
