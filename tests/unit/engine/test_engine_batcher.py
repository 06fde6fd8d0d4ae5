"""Concurrent calls become batches; no caller waits too long, gets another's output, or hangs."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from transect.engine.backends.batcher import Batcher
from transect.errors import PackageError

SIZE = 4
Pixels = NDArray[np.uint8]


class Network:
    """Answers each image's first pixel; remembers its batches, and can be held back."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.started = threading.Event()
        self.error: Exception | None = None

    def prepare(self, max_batch: int) -> int:
        return max_batch

    def run(self, pixels: Pixels, count: int, least: float) -> list[NDArray[np.float32]]:
        self.batches.append(count)
        self.started.set()
        assert self.free.wait(30)
        if self.error is not None:
            raise self.error
        return [np.full((1, 1, 1), float(pixels[k, 0, 0, 0]), np.float32) for k in range(count)]


class Forgetful(Network):
    def run(self, pixels: Pixels, count: int, least: float) -> list[NDArray[np.float32]]:
        return [np.zeros((1, 1, 1), np.float32)] * (count + 1)


class Cramped(Network):
    """Takes batches of `room` at most, or fails to get ready."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def prepare(self, max_batch: int) -> int:
        if not self.room:
            raise RuntimeError("CUDA failure 2: out of memory")
        return min(max_batch, self.room)


def image(value: int) -> Pixels:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.free.set()


def ask(batcher: Batcher, value: int) -> float:
    output = batcher.infer(image(value))
    assert output.shape == (1, 1, 1)
    return float(output.item())


@given(callers=st.integers(1, 24), max_batch=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_everybody_gets_his_own_output(callers: int, max_batch: int) -> None:
    network = Network()
    batcher = Batcher([network], SIZE, max_batch=max_batch, wait_s=0.001)
    with ThreadPoolExecutor(callers) as pool:
        assert list(pool.map(lambda value: ask(batcher, value), range(3 * callers))) == list(range(3 * callers))
    batcher.close()
    assert sum(network.batches) == 3 * callers
    assert max(network.batches) <= max_batch


def test_what_comes_while_a_batch_runs_goes_together(network: Network) -> None:
    batcher = Batcher([network], SIZE, max_batch=4, wait_s=0.0)
    network.free.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, batcher, 1)
        assert network.started.wait(30)
        rest = [pool.submit(ask, batcher, value) for value in range(2, 8)]
        _wait_until(lambda: sum(batch.taken for batch in batcher._waiting) == 6)
        network.free.set()
        assert [first.result(), *(future.result() for future in rest)] == list(range(1, 8))
    batcher.close()
    assert network.batches == [1, 4, 2]


def test_a_full_batch_does_not_wait(network: Network) -> None:
    batcher = Batcher([network], SIZE, max_batch=2, wait_s=3600)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda value: ask(batcher, value), (1, 2))) == [1, 2]
    batcher.close()
    assert network.batches == [2]


def test_a_lone_caller_waits_for_company_and_then_goes_alone(network: Network) -> None:
    batcher = Batcher([network], SIZE, max_batch=8, wait_s=0.2)
    start = time.monotonic()
    assert ask(batcher, 7) == 7
    assert time.monotonic() - start >= 0.2
    batcher.close()
    assert network.batches == [1]


def test_a_failing_batch_fails_its_own_callers_alone(network: Network) -> None:
    batcher = Batcher([network], SIZE, max_batch=2, wait_s=3600)
    network.error = RuntimeError("many lines\nout of memory.\n")
    with ThreadPoolExecutor(2) as pool:
        failed = [pool.submit(ask, batcher, value) for value in (1, 2)]
        for future in failed:
            with pytest.raises(PackageError, match=r"could not be run: out of memory\.$"):
                future.result()
        network.error = None
        assert sorted(pool.map(lambda value: ask(batcher, value), (3, 4))) == [3, 4]
    batcher.close()


def test_an_image_of_another_shape_spoils_no_batch(network: Network) -> None:
    batcher = Batcher([network], SIZE, max_batch=8, wait_s=0.0)
    with pytest.raises(ValueError, match="shape"):
        batcher.infer(np.zeros((2, 2, 3), np.uint8))
    assert ask(batcher, 5) == 5
    batcher.close()


def test_a_network_that_loses_an_output_is_noticed() -> None:
    batcher = Batcher([Forgetful()], SIZE, max_batch=2, wait_s=0.0)
    with pytest.raises(PackageError, match="2 outputs for 1 images"):
        batcher.infer(image(1))
    batcher.close()


def test_as_many_batches_are_in_work_as_there_are_runners() -> None:
    networks = [Network(), Network()]
    for network in networks:
        network.free.clear()
    batcher = Batcher(networks, SIZE, max_batch=2, wait_s=0.0)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, batcher, value) for value in range(6)]
        assert all(network.started.wait(30) for network in networks)
        for network in networks:
            network.free.set()
        assert [future.result(30) for future in asked] == list(range(6))
    batcher.close()
    assert batcher.in_flight == 2
    assert sum(sum(network.batches) for network in networks) == 6


@pytest.mark.parametrize("room", [0, 3])
def test_a_further_runner_without_room_is_left_out(room: int) -> None:
    networks = [Network(), Cramped(room)]
    batcher = Batcher(networks, SIZE, max_batch=4, wait_s=0.0)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda value: ask(batcher, value), range(16))) == list(range(16))
    assert (batcher.in_flight, batcher.max_batch) == (1, 4)
    batcher.close()
    assert networks[1].batches == []


def test_a_first_runner_decides_the_size_and_its_failure_is_the_callers() -> None:
    batcher = Batcher([Cramped(3)], SIZE, max_batch=4, wait_s=0.0)
    assert batcher.max_batch == 3
    batcher.close()
    with pytest.raises(RuntimeError, match="out of memory"):
        Batcher([Cramped(0)], SIZE, max_batch=4, wait_s=0.0)


def test_closing_wakes_everybody_and_lets_the_running_batch_finish(network: Network) -> None:
    batcher = Batcher([network], SIZE, max_batch=1, wait_s=0.0)
    network.free.clear()
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(ask, batcher, 1)
        assert network.started.wait(30)
        waiting = [pool.submit(ask, batcher, value) for value in (2, 3)]
        _wait_until(lambda: len(batcher._waiting) == 2)
        closing = pool.submit(batcher.close)
        for future in waiting:
            with pytest.raises(PackageError, match="closed"):
                future.result(30)
        network.free.set()
        closing.result(30)
        assert running.result() == 1
    with pytest.raises(PackageError, match="closed"):
        batcher.infer(image(4))
    batcher.close()


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
