"""Limits on connections and request heads, tested with a real server on a socket."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from serving_app import wait_for
from transect.serving.http.connections import ConnectionLimits, bounded_protocol

LIMITS = ConnectionLimits(connections=8, per_client=6, head_bytes=64 << 10, head_seconds=0.4)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of bytes of the body; /early before it has come, /slow after a second."""
    size, more = 0, scope["path"] != "/early"
    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(limits: ConnectionLimits = LIMITS) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        protocol = bounded_protocol(limits)
        server = uvicorn.Server(uvicorn.Config(app, http=protocol, lifespan="off", log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield listener.getsockname()[1]
            server.should_exit = True
            thread.join(20)
            assert not protocol.clients  # type: ignore[attr-defined]  # every connection was counted off
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as found:
        yield found


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def answer(stream: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    found = b""
    try:
        while chunk := stream.recv(1 << 16):
            found += chunk
    except ConnectionResetError:
        pass
    return found


def send_until_closed(stream: socket.socket, piece: bytes, pieces: int) -> int:
    """How many pieces the server's end took."""
    for number in range(pieces):
        try:
            stream.sendall(piece)
        except OSError:
            return number
    return pieces


@pytest.mark.parametrize(
    "start",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX: ",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
    ids=["request line", "one header", "many headers", "chunk extension", "trailer"],
)
def test_no_head_grows_without_end(port: int, start: bytes) -> None:
    with connect(port) as stream:
        stream.sendall(start)
        assert send_until_closed(stream, b"a" * (1 << 16), 2000) < 1000


def test_a_head_that_is_too_long_is_answered(port: int) -> None:
    with connect(port) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * (70 << 10))
        assert answer(stream).startswith(b"HTTP/1.1 431 ")


def test_long_bodies_and_many_requests_are_served(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.post("/", content=bytes(3 << 20)).text == str(3 << 20)
        chunks = (bytes(1000) for _ in range(3000))
        assert client.post("/", content=chunks).text == "3000000"
        assert all(client.get("/", headers={"X": "a" * 8000}).text == "0" for _ in range(20))
        assert client.get("/slow").text == "0"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX", b"\r\n\r\n"], ids=["silent", "half", "blank lines"])
def test_a_head_that_does_not_end_is_not_waited_for(port: int, sent: bytes) -> None:
    with connect(port) as stream:
        stream.sendall(sent)
        assert answer(stream).startswith(b"HTTP/1.1 408 ")


def test_a_dripping_head_is_not_waited_for(port: int) -> None:
    with connect(port) as stream:
        end, taken = time.monotonic() + 30, 0
        while time.monotonic() < end:
            try:
                stream.sendall(b"a" if taken else b"GET /")
                taken += 1
                time.sleep(0.05)
            except OSError:
                break
        else:
            pytest.fail("The connection was never ended.")


def test_the_next_request_of_a_connection_has_its_time_too(port: int) -> None:
    with connect(port) as stream:
        stream.sendall(GET + GET[:10])
        found = answer(stream)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in found


def test_a_slow_answer_is_no_slow_head(port: int) -> None:
    with connect(port) as stream:
        stream.sendall(b"GET /slow HTTP/1.1\r\nConnection: close\r\n\r\n\r\n")
        assert answer(stream).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_drips_after_the_answer_is_not_waited_for(port: int) -> None:
    with connect(port) as stream:
        stream.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                stream.sendall(b"a")
            except OSError:
                return
            time.sleep(0.05)
        pytest.fail("The connection was never ended.")


def test_one_address_and_all_together_have_so_many_connections_and_no_more() -> None:
    patient = ConnectionLimits(connections=8, per_client=6, head_seconds=60.0)
    with serving(patient) as port:
        mine = [connect(port) for _ in range(patient.per_client)]
        with connect(port) as one_more:
            assert answer(one_more).startswith(b"HTTP/1.1 429 ")
        others = []
        for _ in range(2):
            stream = socket.socket()
            stream.bind(("127.0.0.2", 0))
            stream.settimeout(10)
            stream.connect(("127.0.0.1", port))
            stream.sendall(GET)
            assert stream.recv(100).startswith(b"HTTP/1.1 200 ")
            others.append(stream)
        with connect(port) as one_more:
            assert answer(one_more).startswith(b"HTTP/1.1 503 ")
        mine.pop().close()
        wait_for(lambda: httpx_ok(port))
        for stream in mine + others:
            stream.close()


def httpx_ok(port: int) -> bool:
    with connect(port) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return answer(stream).startswith(b"HTTP/1.1 200 ")
