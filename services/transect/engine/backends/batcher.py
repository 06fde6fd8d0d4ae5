"""Dynamic batching: combine concurrent single-image calls to one batch."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from transect.errors import PackageError

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Computes batches. Only one thread calls it.

    (CUDA's libraries keep handles and plans per thread, so a warm-up in another thread would have no effect.)
    """

    def prepare(self, max_batch: int) -> int:
        """Warm up, and return the largest batch that can be run: at most `max_batch`."""

    def run(self, pixels: NDArray[np.uint8], count: int, least: float) -> Sequence[NDArray[np.float32]]:
        """The outputs of the first `count` images of `pixels`, (max_batch, S, S, 3), each with a batch axis of 1.

        The outputs may omit anchors whose scores are all at most `least`.
        """


class _Batch:
    """Images that run together. Callers write their images into `pixels` concurrently."""

    def __init__(self, pixels: NDArray[np.uint8], deadline: float) -> None:
        self.pixels = pixels
        self.deadline = deadline
        self.taken = 0
        self.written = 0
        self.least = 1.0
        self.done = threading.Event()
        self.outputs: Sequence[NDArray[np.float32]] | None = None
        self.error: Exception | None = None


class _Worker:
    """A runner and its thread; `ready` once it is prepared for `max_batch`, or failed with `error`."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.ready = threading.Event()
        self.wanted = threading.Event()
        self.max_batch = 0
        self.error: BaseException | None = None
        self.thread: threading.Thread


class Batcher:
    """Collects the calls of many threads into batches.

    A batch starts when it has `max_batch` images, or once both `wait_s` have passed since its first image and a
    runner is free. Every runner has its own thread, so there are as many batches in progress as runners. A further
    runner that cannot run the batch size of the first one is not used.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        image_size: int,
        *,
        max_batch: int,
        wait_s: float,
        new_pixels: Callable[[tuple[int, ...]], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Wait until the runners are prepared. `new_pixels` makes a buffer. Raises what the first runner raises."""
        self._shape = (image_size, image_size, 3)
        self.max_batch = max_batch
        self._wait_s = wait_s
        self._new_pixels = new_pixels or (lambda shape: np.zeros(shape, np.uint8))
        self._waiting: deque[_Batch] = deque()  # the last one may still take images
        self._spare: list[NDArray[np.uint8]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._workers: list[_Worker] = []
        for runner in runners:
            self._start(runner)

    @property
    def in_flight(self) -> int:
        """Number of concurrent batches."""
        return len(self._workers)

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        """The output for one (S, S, 3) image with a batch axis of 1; `least` as in Runner.run.

        Raises PackageError if its batch failed, or if the batcher is closed.
        """
        if image.shape != self._shape:
            raise ValueError(f"expected an image of shape {self._shape}, not {image.shape}")
        batch, place = self._join(least)
        # Outside the lock, so that the callers' copies run at the same time.
        np.copyto(batch.pixels[place], image)
        with self._changed:
            batch.written += 1
            self._changed.notify_all()
        batch.done.wait()
        if batch.error is not None:
            raise PackageError(f"The model could not be run: {_reason(batch.error)}.") from batch.error
        if batch.outputs is None:
            raise _closed()
        return batch.outputs[place]

    def close(self) -> None:
        """Finish the batches in progress, wake every waiting caller with PackageError, reject new ones."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._waiting.popleft().done.set()
            self._changed.notify_all()
        for worker in self._workers:
            worker.thread.join()
        self._spare.clear()

    def _start(self, runner: Runner) -> None:
        worker = _Worker(runner)
        worker.thread = threading.Thread(target=self._work, args=(worker,), name="batcher", daemon=True)
        worker.thread.start()
        worker.ready.wait()
        first = not self._workers
        if worker.error is not None and (first or not isinstance(worker.error, Exception)):
            raise worker.error
        if first:
            self.max_batch = worker.max_batch
        elif worker.max_batch < self.max_batch:
            logger.info("Batches are computed %d at a time: there is no memory for another.", len(self._workers))
            worker.wanted.set()
            worker.thread.join()
            return
        self._workers.append(worker)
        worker.wanted.set()

    def _join(self, least: float) -> tuple[_Batch, int]:
        with self._changed:
            if self._closed:
                raise _closed()
            if not self._waiting or self._waiting[-1].taken == self.max_batch:
                pixels = self._spare.pop() if self._spare else self._new_pixels((self.max_batch, *self._shape))
                self._waiting.append(_Batch(pixels, monotonic() + self._wait_s))
            batch = self._waiting[-1]
            batch.taken += 1
            batch.least = min(batch.least, least)
            return batch, batch.taken - 1

    def _work(self, worker: _Worker) -> None:
        try:
            worker.max_batch = worker.runner.prepare(self.max_batch)
        except BaseException as error:  # noqa: BLE001 - handled by _start()
            worker.error = error
            return
        finally:
            worker.ready.set()
        worker.wanted.wait()
        if worker not in self._workers:
            return
        while (batch := self._next()) is not None:
            try:
                outputs = worker.runner.run(batch.pixels, batch.taken, batch.least)
                if len(outputs) != batch.taken:
                    raise ValueError(f"it returned {len(outputs)} outputs for {batch.taken} images")  # noqa: TRY301
                batch.outputs = outputs
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
                # After this no caller can join the batch.
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
