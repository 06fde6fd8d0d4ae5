"""Programs that a benchmark starts and stops: our service, somebody else's, an MLflow server; and their memory."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_BOOT_S = 300.0
_MIB = 1 << 20


@dataclass(frozen=True)
class Running:
    """A program that answers on a port of 127.0.0.1; `ready_s` is how long it took to."""

    port: int
    pid: int
    ready_s: float

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(
    command: Sequence[str], port: int, ready: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start `command`, wait until the path `ready` answers 200, and stop the whole process group at the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=clean_environment(environment or {}), stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}{ready}", log)
        yield Running(port, process.pid, time.monotonic() - start)
        if process.poll() is not None:
            raise SystemExit(f"{command[0]} ended with {process.returncode}; its log is {log}:\n{tail(log)}")
    finally:
        stop_group(process)


@contextmanager
def service(home: Path, environment: Mapping[str, str], port: int = 0) -> Iterator[Running]:
    """Our detection service with `home` as TRANSECT_HOME, ready to answer on `port` (default: a free one)."""
    port = port or free_port()
    own = {"TRANSECT_HOME": str(home), "TRANSECT_PORT": str(port), **environment}
    with running([sys.executable, "-m", "transect.serving"], port, "/readyz", home / "service.log", own) as started:
        yield started


@contextmanager
def mlflow_server(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """An MLflow server on SQLite that proxies artifacts into a local folder."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(command, port, "/health", folder / "mlflow.log", {**quick, **(environment or {})}) as started:
        yield started


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Memory:
    """MiB of a process: resident, and proportional (memory that is shared counts by its share)."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """The memory of one process now (Linux)."""
    fields = dict.fromkeys(("Rss", "Pss"), 0.0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = float(value.split()[0]) * 1024 / _MIB
    return Memory(fields["Rss"], fields["Pss"])


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _BOOT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.02)
    raise SystemExit(f"{url} did not come up; the log {log} ends with:\n{tail(log)}")


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """That of this process, with these variables in place of those that set up MLflow, object stores and Transect."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_", "TRANSECT_"))}
    return {**kept, **variables}


def tail(log: Path) -> str:
    """How a log ends."""
    return log.read_text(errors="replace")[-3000:]


def stop_group(process: "subprocess.Popen[bytes]", patience_s: float = 40.0) -> None:
    """End a process that leads a group, and the group: asked first, killed after `patience_s`."""
    for number, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 15.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    # Workers that outlived their parent.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
