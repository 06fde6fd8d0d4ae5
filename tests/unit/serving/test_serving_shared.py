"""Memory limits for the bodies of the third-party protocols."""

import pytest

from transect.serving.http.admission import Admission
from transect.serving.http.problems import ProblemError
from transect.serving.protocols.shared import reserve_values

MIB = 1 << 20


def reserved(body: bytes, text: int | None = None) -> int:
    """Return the bytes reserved for the values of `body`, with a budget of 8 MiB."""
    admission = Admission(1, 1, 8 * MIB)
    with admission.body() as reservation:
        before = reservation.size
        reserve_values(reservation, body, admission.max_bytes, text)
        return reservation.size - before


def test_values_cost_their_size_as_python_objects() -> None:
    assert reserved(b'{"instances": ["' + b"A" * MIB + b'"]}') < 3 * MIB
    assert reserved(b"[" + b"0," * 50_000 + b"0]") > 4 * MIB


@pytest.mark.parametrize("separator", [b",", b"\n", b"0,", b"\r\n"])
def test_more_values_than_the_byte_budget_are_refused(separator: bytes) -> None:
    with pytest.raises(ProblemError, match="base64") as refused:
        reserved(separator * 200_000)
    assert refused.value.status == 413


def test_a_binary_tensor_is_no_text() -> None:
    assert reserved(b"{}" + b"," * MIB, text=2) < 100


def test_while_the_byte_budget_is_exhausted_the_refusal_has_retry_after() -> None:
    admission = Admission(1, 1, 8 * MIB)
    with admission.body() as first, admission.body() as second:
        reserve_values(first, b"0," * 50_000, admission.max_bytes)
        with pytest.raises(ProblemError) as refused:
            reserve_values(second, b"0," * 50_000, admission.max_bytes)
    assert refused.value.status == 503
    assert "Retry-After" in refused.value.headers
