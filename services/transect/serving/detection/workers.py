"""The threads that decode and detect. Clients take turns, so that one with many images keeps no other waiting."""

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
    """`threads` threads. Of several clients that have work waiting, the one whose turn was longest ago is next.

    The tasks of one client begin in the order in which they came.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._waiting: OrderedDict[str, deque[_Task]] = OrderedDict()
        self._turn = threading.Condition()
        self._ended = False
        self._threads = [threading.Thread(target=self._run, name=f"{name}_{number}") for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, client: str, work: Callable[[], T]) -> "Future[T]":
        """Queue `work` for `client`. Raises RuntimeError after `shutdown`."""
        task = _Task(Future(), work)
        with self._turn:
            if self._ended:
                raise RuntimeError("the pool has ended")
            # A client that is new, or had nothing waiting, comes last.
            self._waiting.setdefault(client, deque()).append(task)
            self._turn.notify()
        return task.future

    def shutdown(self) -> None:
        """Cancel what has not begun, and wait for what has."""
        with self._turn:
            self._ended = True
            dropped = [task for tasks in self._waiting.values() for task in tasks]
            self._waiting.clear()
            self._turn.notify_all()
        for task in dropped:
            task.future.cancel()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            if task.future.set_running_or_notify_cancel():
                _settle(task)
            # Until the next one comes, this thread would keep image and result in memory.
            del task

    def _next(self) -> _Task | None:
        with self._turn:
            while not self._waiting and not self._ended:
                self._turn.wait()
            if not self._waiting:
                return None
            client, tasks = self._waiting.popitem(last=False)
            task = tasks.popleft()
            if tasks:
                self._waiting[client] = tasks
            return task


def _settle(task: _Task) -> None:
    try:
        result = task.work()
    except BaseException as error:  # noqa: BLE001 - the caller, who waits for the future, gets it
        task.future.set_exception(error)
    else:
        task.future.set_result(result)
