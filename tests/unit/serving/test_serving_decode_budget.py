import threading
from time import monotonic, sleep

import pytest

from transect.errors import StoppedError
from transect.serving.detection.decode_budget import DecodeBudget
from transect.serving.http.deadline import Deadline

LONG = Deadline.after(3600)


def test_room_is_given_back_and_never_more_than_there_is() -> None:
    budget = DecodeBudget(100)
    most = 0
    lock = threading.Lock()

    def work(pixels: int) -> None:
        nonlocal most
        for _ in range(30):
            with budget.room(pixels, LONG):
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
        with budget.room(pixels, LONG):
            order.append(name)

    with budget.room(60, LONG):
        large = threading.Thread(target=work, args=("large", 90))
        large.start()
        while len(budget._line) < 1:
            sleep(0.001)
        small = threading.Thread(target=work, args=("small", 10))
        small.start()
        while len(budget._line) < 2:
            sleep(0.001)
        assert order == []
    large.join()
    small.join()
    assert order == ["large", "small"]


def test_who_waits_longer_than_its_deadline_leaves_the_line() -> None:
    budget = DecodeBudget(100)
    late, stopped = Deadline.after(0.01), Deadline.after(3600)
    stopped.stop.set()
    with budget.room(100, LONG):
        for deadline in (late, stopped):
            with pytest.raises(StoppedError), budget.room(1, deadline):
                pass
    with budget.room(100, LONG):
        assert budget.used == 100


def test_a_deadline_counts_from_its_start() -> None:
    deadline = Deadline.after(5, monotonic() - 3)
    assert 1 < deadline.remaining() <= 2
    assert not deadline.over
    assert Deadline.after(1, monotonic() - 2).over
    deadline.stop.set()
    assert deadline.over
