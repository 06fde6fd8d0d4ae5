"""A thread pool for decoding and detection, scheduled round-robin over clients."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Task:
    future: "Future[Any]"
    work: Callable[[], Any]


class FairPool:
    """A pool of `threads` threads that serves waiting clients round-robin, and each client's tasks in order."""

    def __init__(self, threads: int, name: str) -> None:
        self._waiting: OrderedDict[str, deque[_Task]] = OrderedDict()
        self._condition = threading.Condition()
        self._is_shut_down = False
        self._threads = [threading.Thread(target=self._run, name=f"{name}_{number}") for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, client: str, work: Callable[[], T]) -> "Future[T]":
        """Queue `work` for `client`. Raises RuntimeError after `shutdown`."""
        task = _Task(Future(), work)
        with self._condition:
            if self._is_shut_down:
                raise RuntimeError("the pool has ended")
            # A client without waiting tasks goes to the end of the queue.
            self._waiting.setdefault(client, deque()).append(task)
            self._condition.notify()
        return task.future

    def shutdown(self) -> None:
        """Cancel waiting tasks, and wait for running ones."""
        with self._condition:
            self._is_shut_down = True
            dropped = [task for tasks in self._waiting.values() for task in tasks]
            self._waiting.clear()
            self._condition.notify_all()
        for task in dropped:
            task.future.cancel()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            if task.future.set_running_or_notify_cancel():
                _run_task(task)
            # Otherwise this thread would keep image and result in memory until its next task.
            del task

    def _next(self) -> _Task | None:
        with self._condition:
            while not self._waiting and not self._is_shut_down:
                self._condition.wait()
            if not self._waiting:
                return None
            client, tasks = self._waiting.popitem(last=False)
            task = tasks.popleft()
            if tasks:
                self._waiting[client] = tasks
            return task


def _run_task(task: _Task) -> None:
    try:
        result = task.work()
    except BaseException as error:  # noqa: BLE001 - passed to the caller through the future
        task.future.set_exception(error)
    else:
        task.future.set_result(result)
