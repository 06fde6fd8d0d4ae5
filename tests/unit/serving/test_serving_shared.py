"""What bodies of the foreign protocols may take of memory."""

import pytest

from transect.serving.http.admission import Admission
from transect.serving.http.problems import ProblemError
from transect.serving.protocols.shared import hold_values

MIB = 1 << 20


def held(body: bytes, text: int | None = None) -> int:
    """Bytes that are held for `body` beside itself, where there is room for 8 MiB."""
    admission = Admission(1, 1, 8 * MIB)
    with admission.body() as one:
        before = one.size
        hold_values(one, body, admission.max_bytes, text)
        return one.size - before


def test_values_cost_what_they_become() -> None:
    assert held(b'{"instances": ["' + b"A" * MIB + b'"]}') < 3 * MIB
    assert held(b"[" + b"0," * 50_000 + b"0]") > 4 * MIB


@pytest.mark.parametrize("separator", [b",", b"\n", b"0,", b"\r\n"])
def test_more_values_than_there_is_room_for_are_refused(separator: bytes) -> None:
    with pytest.raises(ProblemError, match="base64") as refused:
        held(separator * 200_000)
    assert refused.value.status == 413


def test_a_binary_tensor_is_no_text() -> None:
    assert held(b"{}" + b"," * MIB, text=2) < 100


def test_while_others_hold_the_room_there_is_a_time_to_come_back() -> None:
    admission = Admission(1, 1, 8 * MIB)
    with admission.body() as first, admission.body() as second:
        hold_values(first, b"0," * 50_000, admission.max_bytes)
        with pytest.raises(ProblemError) as refused:
            hold_values(second, b"0," * 50_000, admission.max_bytes)
    assert refused.value.status == 503
    assert "Retry-After" in refused.value.headers
