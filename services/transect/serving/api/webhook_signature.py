"""Whether a message comes from the MLflow that knows our secret."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

SIGNATURE = "X-MLflow-Signature"
TIMESTAMP = "X-MLflow-Timestamp"
DELIVERY_ID = "X-MLflow-Delivery-Id"

# MLflow signs once and sends up to four times, with pauses; clocks differ a little too.
TOLERANCE_S = 300.0
_VERSION = "v1"
_LONGEST_TIMESTAMP = 12


class SignatureError(Exception):
    """A message that must not be believed; the sentence says why and gives no secret away."""


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The signature that MLflow sends (mlflow/webhooks/delivery.py): version 1, HMAC-SHA256 in base64."""
    content = b".".join((delivery_id.encode("latin-1"), timestamp.encode("latin-1"), body))
    digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def check_signature(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Return when `body` was signed with `secret` within TOLERANCE_S of `now` (Unix seconds).

    `headers` ignores the case of names and holds text decoded as latin-1, as ASGI servers give it.
    Raises SignatureError otherwise.
    """
    given = {name: headers.get(name, "") for name in (SIGNATURE, TIMESTAMP, DELIVERY_ID)}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise SignatureError(f"The message has no {missing[0]}; register the webhook with its secret.")
    timestamp = given[TIMESTAMP]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP):
        raise SignatureError(f"{TIMESTAMP} is not a number of seconds.")
    expected = sign(secret, given[DELIVERY_ID], timestamp, body)
    # The signature first: an unsigned timestamp proves nothing, and its check tells a stranger nothing.
    if not hmac.compare_digest(expected.encode(), given[SIGNATURE].encode("latin-1")):
        raise SignatureError("The signature does not fit; is TRANSECT_WEBHOOK_SECRET the secret of the webhook?")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise SignatureError(f"The message was signed more than {TOLERANCE_S:.0f} s from now; check the clocks.")
