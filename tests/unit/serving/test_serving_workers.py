import threading
from concurrent.futures import CancelledError

import pytest

from transect.serving.detection.workers import FairPool


def test_clients_are_served_round_robin_and_each_keeps_its_order() -> None:
    pool, begun, go = FairPool(1, "test"), threading.Event(), threading.Event()
    order: list[str] = []

    def block() -> None:
        begun.set()
        go.wait(10)

    first = pool.submit("a", block)
    assert begun.wait(10)
    names = ["a1", "a2", "a3", "b1", "a4", "c1", "b2"]
    futures = [pool.submit(name[0], lambda name=name: order.append(name)) for name in names]  # type: ignore[misc]
    go.set()
    for future in [first, *futures]:
        future.result(10)
    pool.shutdown()
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_results_failures_and_cancellations() -> None:
    pool = FairPool(2, "test")
    assert pool.submit("a", lambda: 7).result(10) == 7
    with pytest.raises(ZeroDivisionError):
        pool.submit("a", lambda: 1 // 0).result(10)
    both, gate = threading.Barrier(3), threading.Barrier(3)
    running = [pool.submit("a", lambda: (both.wait(10), gate.wait(10))) for _ in range(2)]
    both.wait(10)
    waiting = pool.submit("a", lambda: None)
    dropped = pool.submit("b", lambda: None)
    assert waiting.cancel()
    ending = threading.Thread(target=pool.shutdown)
    ending.start()
    with pytest.raises(CancelledError):
        dropped.result(10)
    gate.wait(10)
    ending.join(10)
    assert all(len(one.result(0)) == 2 for one in running)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="ended"):
        pool.submit("a", lambda: None)
