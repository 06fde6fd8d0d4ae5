from contextlib import ExitStack

import pytest

from transect.serving.http.admission import Admission, body_budget, worker_count
from transect.serving.http.problems import ProblemError


def test_a_full_service_refuses_at_once_with_retry_after() -> None:
    admission = Admission(workers=1, max_waiting=1, max_bytes=1 << 20)
    with admission.slot("a"), admission.slot("a"):
        assert (admission.admitted, admission.waiting) == (2, 1)
        with pytest.raises(ProblemError, match="TRANSECT_MAX_QUEUE") as refused, admission.slot("a"):
            pass
    assert refused.value.status == 503
    assert int(refused.value.headers["Retry-After"]) >= 1


def test_one_client_leaves_slots_to_others() -> None:
    admission = Admission(workers=2, max_waiting=6, max_bytes=1 << 20)
    with ExitStack() as inside:
        for _ in range(6):
            inside.enter_context(admission.slot("a"))
        with pytest.raises(ProblemError, match="for one client") as refused:
            inside.enter_context(admission.slot("a"))
        assert refused.value.status == 503
        for _ in range(2):
            inside.enter_context(admission.slot("b"))
        with pytest.raises(ProblemError, match="TRANSECT_MAX_QUEUE"):
            inside.enter_context(admission.slot("c"))
    admission.refuse_when_full("a")
    assert admission.admitted == 0


def test_slots_are_released_after_success_and_failure() -> None:
    admission = Admission(workers=1, max_waiting=1, max_bytes=1 << 20)
    for _ in range(5):
        with pytest.raises(ValueError, match="inside"), admission.slot("a"):
            raise ValueError("inside")
    assert admission.admitted == 0
    admission.refuse_when_full("a")


def test_there_are_always_two_workers_so_that_decoding_overlaps_inference() -> None:
    assert worker_count(1) == 2
    assert worker_count(6) == 6
    assert worker_count(0) >= 2
    # The threads of two batches only wait for the GPU.
    assert worker_count(6, gpu_batch=16) == 38


def test_bytes_are_bounded_together_and_released() -> None:
    refused: list[None] = []
    admission = Admission(1, 1, 1 << 20, lambda: refused.append(None))
    with admission.body() as first, admission.body() as second:
        first.reserve(600_000)
        with pytest.raises(ProblemError, match="bodies in memory already take"):
            second.reserve(400_000)
        second.reserve(100_000)
        with pytest.raises(ProblemError):
            admission.refuse_bytes(400_000)
    assert (admission.body_bytes, len(refused)) == (0, 2)
    admission.refuse_bytes(400_000)


def test_clients_that_send_nothing_are_bounded_too() -> None:
    admission = Admission(1, 1, 1 << 20)
    with ExitStack() as inside:
        while admission.body_bytes + (64 << 10) <= admission.max_bytes:
            inside.enter_context(admission.body())
        with pytest.raises(ProblemError):
            inside.enter_context(admission.body())
    assert admission.body_bytes == 0


def test_the_largest_body_always_fits() -> None:
    assert body_budget(64 << 20) == 256 << 20
    assert body_budget(1 << 30) == 4 << 30
