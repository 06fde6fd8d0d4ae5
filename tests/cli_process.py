"""Start commands of the program as processes that do not import their libraries anew: one server forks them.

The imports of PyTorch and MLflow take ten seconds of a core, and the work of most commands one. A server
(cli_server.py) imports them once in each process of pytest, and forks a child for each command: a process of its own,
with its own environment, working directory and process group, that can be killed, stopped and limited.

A child differs from `python -m transect` in what a library reads when it is imported: its variables have the values of
the server's environment. `test_cli_process.py` starts the program in the ordinary way as well.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_SERVER = Path(__file__).with_name("cli_server.py")
_READY_S = 300.0


class CliProcess:
    """A running command, with the interface of `subprocess.Popen` for text as far as tests need it.

    `stdout` and `stderr` are text streams where they were asked for as subprocess.PIPE, else None.
    """

    def __init__(self, connection: socket.socket, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self._connection = connection
        self.pid = self._answer("started")
        self.stdout, self.stderr = stdout, stderr
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_streams()
        self.wait()

    def poll(self) -> int | None:
        """The exit code, minus the number of the signal that killed it; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; returns the exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            self._connection.settimeout(None if timeout is None else max(timeout, 1e-3))
            try:
                self.returncode = self._answer("ended")
            except TimeoutError:
                raise subprocess.TimeoutExpired("transect", timeout or 0) from None
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both streams to their end and wait; "" for a stream that is no pipe."""
        deadline = None if timeout is None else time.monotonic() + timeout
        texts = {"stdout": "", "stderr": ""}

        def read(name: str, stream: IO[str]) -> None:
            texts[name] = stream.read()

        readers = [
            threading.Thread(target=read, args=(name, stream), daemon=True)
            for name, stream in (("stdout", self.stdout), ("stderr", self.stderr))
            if stream is not None
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired("transect", timeout or 0)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        self._close_streams()
        return texts["stdout"], texts["stderr"]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _answer(self, word: str) -> int:
        """The number of the next line, which begins with `word`: a few bytes, so that one by one is fast enough."""
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := self._connection.recv(1)):
                raise RuntimeError("the server of tests/cli_process.py has ended")
            line += byte
        said, number = line.split()
        if said != word.encode():
            raise RuntimeError(f"the command ended before it could be {word}; its error stands above")
        return int(number)

    def _close_streams(self) -> None:
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


def start(
    *arguments: str | Path,
    module: str = "transect",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdout: int | IO[bytes] | IO[str] | None = None,
    stderr: int | IO[bytes] | IO[str] | None = None,
    new_session: bool = False,
    file_size_limit: int | None = None,
) -> CliProcess:
    """Start `python -m MODULE ARGUMENTS`; `env`, `cwd`, `stdout` and `stderr` as subprocess.Popen takes them.

    Standard input is empty. No file of the command may pass `file_size_limit` bytes.
    """
    folder = Path.cwd() if cwd is None else Path(cwd).resolve(strict=True)
    mask = os.umask(0)
    os.umask(mask)
    request = {
        "module": module,
        "arguments": [module, *map(str, arguments)],
        "environment": dict(os.environ if env is None else env),
        "cwd": str(folder),
        "umask": mask,
        "new_session": new_session,
        "file_size_limit": file_size_limit,
    }
    with contextlib.ExitStack() as ours:
        nothing = ours.enter_context(Path(os.devnull).open("rb"))
        out, out_stream = _target(ours, stdout, sys.__stdout__)
        err, err_stream = (out, None) if stderr == subprocess.STDOUT else _target(ours, stderr, sys.__stderr__)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(_server())
        socket.send_fds(connection, [json.dumps(request).encode()], [nothing.fileno(), out, err])
        return CliProcess(connection, out_stream, err_stream)


def run(
    *arguments: str | Path,
    timeout: float | None = None,
    check: bool = False,
    module: str = "transect",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """As subprocess.run of `python -m MODULE ARGUMENTS` with captured output."""
    pipe = subprocess.PIPE
    with start(*arguments, module=module, env=env, cwd=cwd, stdout=pipe, stderr=pipe) as process:
        try:
            out, err = process.communicate(timeout)
        except BaseException:
            process.kill()
            raise
    assert process.returncode is not None
    done = subprocess.CompletedProcess([module, *map(str, arguments)], process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _target(
    ours: contextlib.ExitStack, wanted: int | IO[bytes] | IO[str] | None, inherited: IO[str] | None
) -> tuple[int, IO[str] | None]:
    """The descriptor for the command, closed here by `ours`, and our end of it where it is a pipe."""
    if wanted == subprocess.PIPE:
        read_end, write_end = os.pipe()
        ours.callback(os.close, write_end)
        return write_end, open(read_end, encoding="utf-8", errors="replace")  # noqa: PTH123
    if wanted == subprocess.DEVNULL:
        return ours.enter_context(Path(os.devnull).open("wb")).fileno(), None
    if isinstance(wanted, int):
        return wanted, None
    stream = wanted or inherited
    assert stream is not None
    return stream.fileno(), None


@cache
def _server() -> str:
    """Start the server of this process of pytest; returns the path of its socket."""
    path = str(Path(tempfile.mkdtemp(prefix="transect-cli-"), "socket"))
    # A session of its own: Ctrl-C in the terminal ends pytest, and its end that of the server.
    server = subprocess.Popen([sys.executable, _SERVER, path], stdin=subprocess.PIPE, start_new_session=True)

    def stop() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait(timeout=60)

    atexit.register(stop)
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(path)
            return path
        time.sleep(0.02)
    raise RuntimeError("the server of tests/cli_process.py did not start; its error stands above")
