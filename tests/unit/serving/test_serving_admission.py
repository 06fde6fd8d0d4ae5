import pytest

from transect.serving.admission import Admission, worker_count
from transect.serving.problems import ProblemError


def test_a_full_house_is_refused_at_once_with_a_time_to_come_back() -> None:
    admission = Admission(workers=1, max_waiting=1)
    with admission.place(), admission.place():
        assert (admission.admitted, admission.waiting) == (2, 1)
        with pytest.raises(ProblemError, match="TRANSECT_MAX_QUEUE") as refused, admission.place():
            pass
    assert refused.value.status == 503
    assert int(refused.value.headers["Retry-After"]) >= 1


def test_places_are_given_back_after_success_and_failure() -> None:
    admission = Admission(workers=1, max_waiting=1)
    for _ in range(5):
        with pytest.raises(ValueError, match="inside"), admission.place():
            raise ValueError("inside")
    assert admission.admitted == 0
    admission.refuse_when_full()


def test_there_are_always_two_workers_so_that_decoding_overlaps_inference() -> None:
    assert worker_count(1) == 2
    assert worker_count(6) == 6
    assert worker_count(0) >= 2
