"""Passes a webhook on to the other replicas: MLflow knows one address, behind which one replica answers.

The message goes on as it was signed, so that each replica verifies it with the same secret. A header marks it as passed
on, which ends it there: one hop, no loops. Failures are logged, and cost nothing but time: every replica polls anyway.
"""

import http.client
import logging
import socket
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from transect.serving.metrics import Metrics

PASSED_ON = "X-Transect-Passed-On"

_log = logging.getLogger(__name__)

_TIMEOUT_S = 3.0
_AT_ONCE = 16
_MOST = 256
_PATH = "/v1/hooks/mlflow"
_ACCEPTED, _IGNORED = 202, 204


@dataclass(frozen=True)
class _Message:
    body: bytes
    headers: dict[str, str]


class Peers:
    """The other replicas, found at each message by resolving `addresses`: names with ports, or IP addresses.

    `pass_on` returns at once; one thread delivers. While it does, later messages wait, of which the last alone is
    delivered: all of them say the same, which is to poll. A name also finds this replica itself, which knows its own
    `identity` and ignores the message.
    """

    def __init__(self, addresses: tuple[tuple[str, int], ...], metrics: Metrics) -> None:
        self._addresses = addresses
        self._metrics = metrics
        self.identity = uuid.uuid4().hex
        self._waiting: _Message | None = None
        self._delivering = False
        self._lock = threading.Lock()

    def pass_on(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a verified message, with those `headers` that its signature needs, to the other replicas."""
        if not self._addresses:
            return
        with self._lock:
            self._waiting = _Message(body, {**headers, PASSED_ON: self.identity, "Content-Type": "application/json"})
            if self._delivering:
                return
            self._delivering = True
        threading.Thread(target=self._deliver, name="webhook-peers", daemon=True).start()

    def _deliver(self) -> None:
        while True:
            with self._lock:
                message, self._waiting = self._waiting, None
                if message is None:
                    self._delivering = False
                    return
            targets = self._resolve()
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook-peer") as pool:
                for outcome, reason in pool.map(partial(_send, message), targets):
                    self._metrics.peers.labels(outcome).inc()
                    if reason:
                        _log.warning("A replica was not told that the alias moved; it polls", extra={"reason": reason})

    def _resolve(self) -> list[tuple[str, int]]:
        """Return the IP addresses of all replicas, each once."""
        found: dict[tuple[str, int], None] = {}
        for host, port in self._addresses:
            try:
                known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                self._metrics.peers.labels("failed").inc()
                reason = f"{host} in TRANSECT_DETECTOR_PEERS does not resolve: {error}."
                _log.warning(
                    "The other replicas are not told that the alias moved; they poll", extra={"reason": reason}
                )
                continue
            found.update({(str(address[0]), port): None for *_, address in known})
        return list(found)[:_MOST]


def _send(message: _Message, target: tuple[str, int]) -> tuple[str, str]:
    """Deliver `message`; return the outcome, and why it failed."""
    host, port = target
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", _PATH, message.body, message.headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return "failed", f"{host}:{port} does not answer: {error!r}."
    finally:
        connection.close()
    if status == _IGNORED:
        return "ignored", ""
    return ("told", "") if status == _ACCEPTED else ("failed", f"{host}:{port} answers with {status}.")
