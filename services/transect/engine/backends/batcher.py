"""Dynamic batching: concurrent calls for one image each become one call for many."""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from transect.errors import PackageError


class _Batch:
    """Images that will run together. Its callers write their image into `pixels` at the same time."""

    def __init__(self, pixels: NDArray[np.uint8], deadline: float) -> None:
        self.pixels = pixels
        self.deadline = deadline
        self.taken = 0
        self.written = 0
        self.done = threading.Event()
        self.output: NDArray[np.float32] | None = None
        self.error: Exception | None = None


class Batcher:
    """Gathers the calls of many threads.

    A batch starts when it holds `max_batch` images, or `wait_s` after its first image came, or as
    soon as the batch before it is through, whichever of the last two is later. `run` takes
    (n, S, S, 3) uint8 and returns an array whose first axis is n. One thread alone calls it, and before all else
    `prepare`, with `max_batch`; what that returns is the largest batch from then on. (CUDA's libraries keep handles
    and plans for each thread: what another one had warmed would be made again for the first request.)
    """

    def __init__(
        self,
        run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        image_size: int,
        *,
        max_batch: int,
        wait_s: float,
        prepare: Callable[[int], int] | None = None,
    ) -> None:
        """Wait until `prepare` is through. Raises what it raises."""
        self._run = run
        self._prepare = prepare
        self._ready = threading.Event()
        self._unprepared: BaseException | None = None
        self._shape = (image_size, image_size, 3)
        self.max_batch = max_batch
        self._wait_s = wait_s
        self._waiting: deque[_Batch] = deque()  # the last one may still have room
        self._spare: list[NDArray[np.uint8]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._worker.start()
        self._ready.wait()
        if self._unprepared is not None:
            raise self._unprepared

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The output for one (S, S, 3) image with a batch axis of 1.

        Raises PackageError when the run of its batch failed, or when the batcher is closed.
        """
        if image.shape != self._shape:
            raise ValueError(f"expected an image of shape {self._shape}, not {image.shape}")
        batch, place = self._join()
        # Outside the lock, so that the callers' copies run at the same time.
        np.copyto(batch.pixels[place], image)
        with self._changed:
            batch.written += 1
            self._changed.notify_all()
        batch.done.wait()
        if batch.error is not None:
            raise PackageError(f"The model could not be run: {_reason(batch.error)}.") from batch.error
        if batch.output is None:
            raise _closed()
        return batch.output[place : place + 1]

    def close(self) -> None:
        """Finish the batch in work, wake every waiting caller with PackageError, refuse new ones."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._waiting.popleft().done.set()
            self._changed.notify_all()
        self._worker.join()
        self._spare.clear()

    def _join(self) -> tuple[_Batch, int]:
        with self._changed:
            if self._closed:
                raise _closed()
            if not self._waiting or self._waiting[-1].taken == self.max_batch:
                pixels = self._spare.pop() if self._spare else np.empty((self.max_batch, *self._shape), np.uint8)
                self._waiting.append(_Batch(pixels, monotonic() + self._wait_s))
            batch = self._waiting[-1]
            batch.taken += 1
            return batch, batch.taken - 1

    def _work(self) -> None:
        try:
            if self._prepare is not None:
                self.max_batch = self._prepare(self.max_batch)
        except BaseException as error:  # noqa: BLE001 - the constructor raises it
            self._unprepared = error
            return
        finally:
            self._ready.set()
        while (batch := self._next()) is not None:
            try:
                output = self._run(batch.pixels[: batch.taken])
                if len(output) != batch.taken:
                    raise ValueError(f"it answered {len(output)} outputs for {batch.taken} images")  # noqa: TRY301
                batch.output = output
            except Exception as error:  # noqa: BLE001 - each caller of the batch gets it
                batch.error = error
            with self._changed:
                self._spare.append(batch.pixels)
            batch.done.set()

    def _next(self) -> _Batch | None:
        """The next batch that may start, with every image written; None once closed."""
        with self._changed:
            while not self._closed:
                if not self._waiting:
                    self._changed.wait()
                    continue
                batch = self._waiting[0]
                left = batch.deadline - monotonic()
                if batch.taken < self.max_batch and left > 0:
                    self._changed.wait(left)
                    continue
                # From here on nobody joins it.
                self._waiting.popleft()
                while batch.written < batch.taken:
                    self._changed.wait()
                return batch
            return None


def _closed() -> PackageError:
    return PackageError("The detector is closed; open its package again.")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
