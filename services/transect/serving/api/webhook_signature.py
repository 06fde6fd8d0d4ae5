"""Verification of MLflow's webhook signatures.

The scheme is that of Standard Webhooks (standardwebhooks.com), whose library reads other header names and a secret in
base64; MLflow has names of its own and uses the secret as it is.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

SIGNATURE = "X-MLflow-Signature"
TIMESTAMP = "X-MLflow-Timestamp"
DELIVERY_ID = "X-MLflow-Delivery-Id"

# Covers MLflow's retries (signed once, sent up to four times with pauses) and clock skew.
TOLERANCE_S = 300.0
_VERSION = "v1"
_LONGEST_TIMESTAMP = 12


class SignatureError(Exception):
    """The signature is missing, invalid or too old; the message is one sentence without secrets."""


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Compute MLflow's signature (mlflow/webhooks/delivery.py): version 1, HMAC-SHA256 in base64."""
    content = b".".join((delivery_id.encode("latin-1"), timestamp.encode("latin-1"), body))
    digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def check_signature(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Raise SignatureError unless `body` was signed with `secret` within TOLERANCE_S of `now` (Unix seconds).

    `headers` must be case-insensitive, with values decoded as latin-1, as in Starlette.
    """
    values = {name: headers.get(name, "") for name in (SIGNATURE, TIMESTAMP, DELIVERY_ID)}
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise SignatureError(f"The message has no {missing[0]}; register the webhook with its secret.")
    timestamp = values[TIMESTAMP]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP):
        raise SignatureError(f"{TIMESTAMP} is not a number of seconds.")
    expected = sign(secret, values[DELIVERY_ID], timestamp, body)
    # Check the signature first, because an unsigned timestamp proves nothing.
    if not hmac.compare_digest(expected.encode(), values[SIGNATURE].encode("latin-1")):
        raise SignatureError("The signature does not match; is TRANSECT_WEBHOOK_SECRET the secret of the webhook?")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise SignatureError(f"The message was signed more than {TOLERANCE_S:.0f} s from now; check the clocks.")
