"""The load generator: a small process of its own that sends one request over and over and notes every answer.

Run as a program, it reads one JSON line from standard input (a Job with its request in hexadecimal), works
until the job's time is over or standard input ends, and prints one JSON line. Closed loop: each of so many clients
asks, waits for the answer, asks again. Open loop: requests go out at given times, whatever became of those before;
a latency counts from the given time, so that waiting in the client is not left out. It uses asyncio and nothing
that has to be installed, keeps connections alive, and never asks twice: a connection that ends without an answer
is a missing answer.
"""

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 100.0
"""Without an answer after this long there is none; the service's own deadline is shorter."""

# A server may close a connection that idles; one that idled for this long is not used again.
_IDLE_S = 2.0
_BOUNDARY = "benchmark-8c1f5d"
_NICE = -10


@dataclass(frozen=True)
class Answer:
    """One request: when it was due, sent and answered (monotonic seconds); status 0 means no answer came.

    `version` is the model version that the answer names, empty where it names none.
    """

    due: float
    sent: float
    done: float
    status: int
    version: str

    @property
    def latency(self) -> float:
        """Seconds from when it was due."""
        return self.done - self.due


@dataclass(frozen=True)
class Outcome:
    """All answers in the order in which they came, and the share of one core that the generator itself used."""

    answers: tuple[Answer, ...]
    own_cpu: float


@dataclass(frozen=True)
class Job:
    """What to send where; either `clients` for a closed loop or `arrivals` (seconds from the start) for an open one."""

    port: int
    request: bytes
    seconds: float
    clients: int = 0
    arrivals: tuple[float, ...] = ()


def upload(port: int, target: str, image: bytes, field: str = "image") -> bytes:
    """The bytes of an HTTP request that posts `image` as a browser's form does."""
    body = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode() + image
    body += f"\r\n--{_BOUNDARY}--\r\n".encode()
    head = (
        f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n\r\n"
    )
    return head.encode() + body


class Load:
    """A load generator that was started."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = {**vars(job), "request": job.request.hex()}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def result(self) -> Outcome:
        """Wait until the job's time is over."""
        assert self._process.stdout is not None
        # Standard input stays open until the answer is here: its end would stop the load.
        line = self._process.stdout.readline()
        self._process.communicate()
        if not line:
            raise SystemExit("The load generator ended without a result; its message stands above.")
        content = json.loads(line)
        return Outcome(tuple(Answer(*answer) for answer in content["answers"]), content["own_cpu"])

    def stop(self) -> Outcome:
        """Ask no more, wait for the answers that are under way."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        return self.result()


def run_load(job: Job) -> Outcome:
    """Do the whole job."""
    return Load(job).result()


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._idle_since = 0.0

    @property
    def usable(self) -> bool:
        return not self._closing and time.monotonic() - self._idle_since < _IDLE_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._idle_since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        status, headers = _head(bytes(self._buffer[:end]))
        length = int(headers.get("content-length", -1))
        if length < 0:
            sys.exit("The service answers without Content-Length, which this load generator cannot read.")
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer.clear()
        self._idle_since = time.monotonic()
        if headers.get("connection", "") == "close":
            self.close()
        self._finish(status, headers.get("x-transect-model", "").rpartition("/")[2])

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._finish(0, "")

    async def ask(self, request: bytes) -> tuple[int, str]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await asyncio.wait_for(self._answer, PATIENCE_S)
        except TimeoutError:
            self.close()
            return 0, ""

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _finish(self, status: int, version: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, version))


def _head(head: bytes) -> tuple[int, Mapping[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ")[1]), {name.strip().lower(): value.strip().lower() for name, _, value in pairs}


class _Generator:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._idle: list[_Connection] = []
        self._stop = asyncio.Event()
        self.answers: list[tuple[float, float, float, int, str]] = []

    async def run(self) -> None:
        watcher = asyncio.create_task(self._until_stdin_ends())
        if self._job.clients:
            await asyncio.gather(*(self._client() for _ in range(self._job.clients)))
        else:
            await self._send_on_time(self._job.arrivals)
        watcher.cancel()
        for connection in self._idle:
            connection.close()

    async def _client(self) -> None:
        end = time.monotonic() + self._job.seconds
        while not self._stop.is_set() and time.monotonic() < end:
            await self._one(time.monotonic())

    async def _send_on_time(self, arrivals: Sequence[float]) -> None:
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                await asyncio.sleep(max(0.0, start + arrival - time.monotonic()))
                if self._stop.is_set():
                    return
                group.create_task(self._one(start + arrival))

    async def _one(self, due: float) -> None:
        sent = time.monotonic()
        status, version = 0, ""
        with contextlib.suppress(OSError):
            connection = await self._connection()
            status, version = await connection.ask(self._job.request)
            if connection.usable:
                self._idle.append(connection)
        self.answers.append((due, sent, time.monotonic(), status, version))
        if not status:
            await asyncio.sleep(0.05)  # a service that is gone must not be asked a million times

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, "127.0.0.1", self._job.port))[1]

    async def _until_stdin_ends(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        self._stop.set()


def main() -> None:
    fields: dict[str, Any] = json.loads(sys.stdin.readline())
    fields["request"] = bytes.fromhex(fields["request"])
    # A client has a machine of its own in life; here it at least does not wait for the service's threads.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    cpu, start = time.process_time(), time.monotonic()

    async def work() -> _Generator:
        generator = _Generator(Job(**fields))
        await generator.run()
        return generator

    answers = asyncio.run(work()).answers
    own = (time.process_time() - cpu) / (time.monotonic() - start)
    sys.stdout.write(json.dumps({"answers": answers, "own_cpu": own}) + "\n")


if __name__ == "__main__":
    main()
