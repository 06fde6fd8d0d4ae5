"""All that a stranger may send to take a service's memory, at once and for a while."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import cv2
import httpx
import numpy as np

Statuses = set[int | None]
"""What was answered; None where the connection was ended without an answer."""


class Attacks:
    """Attacks that are under way, and how they were answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pool = ThreadPoolExecutor(24)
        deep, fitting = _deep_picture(10_000), _deep_picture(5_000)
        numbers = b'{"instances":[' + b"0," * 25_000_000 + b"0]}"
        rounds: dict[str, tuple[int, Callable[[], Statuses]]] = {
            "head": (4, self._head),
            "slow heads": (1, lambda: self.connect(200)),
            "deep picture": (8, lambda: self._post("/v1/detect", deep, "image/png")),
            "picture that fits": (8, lambda: self._post("/v1/detect?tile=off", fitting, "image/png")),
            "numbers": (4, lambda: self._post("/invocations", numbers, "application/json")),
            "large body": (4, lambda: self._post("/v1/detect", bytes(60 << 20), "image/jpeg")),
        }
        self._running: dict[str, list[Future[Statuses]]] = {
            name: [self._pool.submit(attack) for _ in range(times)] for name, (times, attack) in rounds.items()
        }

    def wait(self, seconds: float) -> dict[str, Statuses]:
        """How each kind of attack was answered."""
        return {name: set().union(*(one.result(seconds) for one in many)) for name, many in self._running.items()}

    def close(self) -> None:
        """End what is under way."""
        self._pool.shutdown(cancel_futures=True)

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=30)

    def _head(self) -> Statuses:
        """One header of 100 MB."""
        with self._connect() as stream:
            with suppress(OSError):
                stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
                for _ in range(100):
                    stream.sendall(b"a" * 1_000_000)
            return {_status(stream)}

    def connect(self, number: int) -> Statuses:
        """So many connections at once, of which half say nothing, and half begin to."""
        open_: list[socket.socket] = []
        found: Statuses = set()
        answered = threading.Lock()

        def look(stream: socket.socket) -> None:
            status = _status(stream)
            with answered:
                found.add(status)
            stream.close()

        for one in range(number):
            with suppress(OSError):
                stream = self._connect()
                if one % 2:
                    stream.sendall(b"GET /healthz HTT")
                open_.append(stream)
        with ThreadPoolExecutor(100) as lookers:
            list(lookers.map(look, open_))
        return found

    def _post(self, path: str, body: bytes, media_type: str) -> Statuses:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{self._port}{path}", content=body, headers={"Content-Type": media_type}, timeout=60
            )
        except httpx.TransportError:
            return {None}
        return {answer.status_code}


@contextmanager
def flooding(port: int) -> Iterator[Attacks]:
    """All attacks at once, on a service on this machine's `port`."""
    attacks = Attacks(port)
    try:
        yield attacks
    finally:
        attacks.close()


def _deep_picture(side: int) -> bytes:
    """A square of 16 bits a pixel, in some hundred kilobytes."""
    done, content = cv2.imencode(".png", np.zeros((side, side), np.uint16))
    assert done
    return content.tobytes()


def _status(stream: socket.socket) -> int | None:
    try:
        head = stream.recv(64)
    except OSError:
        return None
    return int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else None
