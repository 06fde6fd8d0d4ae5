import threading
from time import monotonic, sleep

import pytest

from transect.errors import StoppedError
from transect.serving.detection.decode_budget import DecodeBudget
from transect.serving.http.deadline import Deadline

LONG = Deadline.after(3600)


def test_reservations_are_released_and_never_exceed_the_budget() -> None:
    budget = DecodeBudget(100)
    most = 0
    lock = threading.Lock()

    def work(pixels: int) -> None:
        nonlocal most
        for _ in range(30):
            with budget.reserve(pixels, LONG):
                with lock:
                    most = max(most, budget.used)
                sleep(0.0005)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (30, 50, 70, 100, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < most <= 100
    assert budget.used == 0


def test_a_large_image_is_not_overtaken_by_small_ones() -> None:
    budget = DecodeBudget(100)
    order: list[str] = []

    def work(name: str, pixels: int) -> None:
        with budget.reserve(pixels, LONG):
            order.append(name)

    with budget.reserve(60, LONG):
        large = threading.Thread(target=work, args=("large", 90))
        large.start()
        while len(budget._queue) < 1:
            sleep(0.001)
        small = threading.Thread(target=work, args=("small", 10))
        small.start()
        while len(budget._queue) < 2:
            sleep(0.001)
        assert order == []
    large.join()
    small.join()
    assert order == ["large", "small"]


def test_a_thread_past_its_deadline_leaves_the_queue() -> None:
    budget = DecodeBudget(100)
    late, stopped = Deadline.after(0.01), Deadline.after(3600)
    stopped.stop.set()
    with budget.reserve(100, LONG):
        for deadline in (late, stopped):
            with pytest.raises(StoppedError), budget.reserve(1, deadline):
                pass
    with budget.reserve(100, LONG):
        assert budget.used == 100


def test_a_deadline_counts_from_its_start() -> None:
    deadline = Deadline.after(5, monotonic() - 3)
    assert 1 < deadline.remaining() <= 2
    assert not deadline.over
    assert Deadline.after(1, monotonic() - 2).over
    deadline.stop.set()
    assert deadline.over
