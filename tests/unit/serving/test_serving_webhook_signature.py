import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from transect.serving.api.webhook_signature import TOLERANCE_S, SignatureError, check_signature, sign

SECRET = "k2J-8fhw_Q1x9d7Z"
NOW = 1_790_000_000.0
BODY = b'{"entity": "model_version_alias"}'


def headers(body: bytes = BODY, *, secret: str = SECRET, at: float = NOW, **changed: str) -> Headers:
    signed = {
        "x-mlflow-delivery-id": "4c5e",
        "x-mlflow-timestamp": str(int(at)),
        "x-mlflow-signature": sign(secret, "4c5e", str(int(at)), body),
    }
    return Headers({**signed, **{f"x-mlflow-{name.replace('_', '-')}": value for name, value in changed.items()}})


def without(name: str) -> Headers:
    return Headers(
        raw=[(key, value) for key, value in headers().raw if key != f"x-mlflow-{name.replace('_', '-')}".encode()]
    )


def refused(given_headers: Headers, body: bytes = BODY) -> str:
    with pytest.raises(SignatureError) as caught:
        check_signature(SECRET, given_headers, body, now=NOW)
    return str(caught.value)


def test_the_signature_is_the_one_that_mlflow_documents() -> None:
    digest = hmac.new(SECRET.encode(), b"4c5e.1790000000." + BODY, hashlib.sha256).digest()
    assert sign(SECRET, "4c5e", "1790000000", BODY) == f"v1,{base64.b64encode(digest).decode()}"


def test_it_is_the_one_that_mlflow_computes() -> None:
    delivery = pytest.importorskip("mlflow.webhooks.delivery")
    theirs = delivery._generate_hmac_signature(SECRET, "4c5e", "1790000000", BODY.decode())
    assert sign(SECRET, "4c5e", "1790000000", BODY) == theirs


@given(st.binary())
def test_a_signed_body_is_accepted(body: bytes) -> None:
    check_signature(SECRET, headers(body), body, now=NOW)


@given(st.binary(), st.binary())
def test_another_body_is_not(body: bytes, other: bytes) -> None:
    if body != other:
        assert "does not match" in refused(headers(body), other)


@pytest.mark.parametrize("age", [-TOLERANCE_S, -1, 1, TOLERANCE_S])
def test_clocks_may_differ_a_little(age: float) -> None:
    check_signature(SECRET, headers(at=NOW - age), BODY, now=NOW)


@pytest.mark.parametrize("age", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_an_old_message_and_one_from_the_future_are_refused(age: float) -> None:
    assert "more than 300 s" in refused(headers(at=NOW - age))


@pytest.mark.parametrize("name", ["signature", "timestamp", "delivery_id"])
def test_a_missing_header_is_named(name: str) -> None:
    assert f"no X-MLflow-{name.replace('_', '-').title()}" in refused(without(name))


@pytest.mark.parametrize("timestamp", ["soon", "1.5", "-1", "١٧٩", "9" * 5000, " 1790000000"])
def test_a_timestamp_is_a_plain_number(timestamp: str) -> None:
    # Text decoded as latin-1 has no such digits, but the check must not depend on that.
    assert "not a number of seconds" in refused(
        headers(timestamp=timestamp) if timestamp.isascii() else _raw(timestamp)
    )


def _raw(timestamp: str) -> Headers:
    return Headers(
        raw=[
            *headers(timestamp="").raw[:1],
            (b"x-mlflow-timestamp", timestamp.encode()),
            (b"x-mlflow-signature", b"v1,"),
        ]
    )


@pytest.mark.parametrize(
    "signature",
    [
        "v1,",
        "v2," + "A" * 44,
        "v1," + "A" * 44,
        "A" * 44,
        "é" * 40,
        sign("another secret", "4c5e", str(int(NOW)), BODY),
    ],
)
def test_a_forged_signature_is_refused(signature: str) -> None:
    assert "does not match" in refused(headers(signature=signature))


def test_another_delivery_needs_another_signature() -> None:
    assert "does not match" in refused(headers(delivery_id="4c5f"))
    assert "does not match" in refused(headers(timestamp=str(int(NOW) + 1)))
