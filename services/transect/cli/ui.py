"""`transect ui`: open MLflow's web UI on the local store in the browser."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import IO, Annotated

import typer

from transect.errors import InputError, RegistryError
from transect.settings import Settings, load_settings

_BOOT_S = 120.0
_STOP_S = 10.0
# The local UI does not need these, and they cost seconds and a gigabyte.
_QUICK = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages.")] = 5000,
    db_path: Annotated[
        Path | None, typer.Option(help="The store's mlflow.db. Default: the one under TRANSECT_HOME.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's show it to all.")] = (
        "127.0.0.1"
    ),
) -> None:
    """Open MLflow's pages on the local store in the browser; Ctrl-C ends them.

    Where MLFLOW_TRACKING_URI names a server, its own pages are opened instead, unless --db-path is given.
    """
    settings = load_settings()
    if db_path is None and settings.tracking_uri.startswith(("http://", "https://")):
        print(f"MLflow's pages are at {settings.tracking_uri} (MLFLOW_TRACKING_URI).")
        _browse(settings.tracking_uri)
        return
    store = _store(settings, db_path)
    _check_port(host, port)
    raise typer.Exit(_serve(store, host, port))


def _store(settings: Settings, db_path: Path | None) -> Path:
    """The database file, checked to be readable by this MLflow. Raises InputError or RegistryError."""
    from transect.registry import connect, store_file

    store = db_path or store_file(settings)
    if not store.is_file():
        raise InputError(
            f"There is no MLflow store at {store}; train something first (make train), "
            "or name the store's mlflow.db with --db-path."
        )
    store = store.absolute()
    if importlib.util.find_spec("flask") is None:
        raise InputError("MLflow's pages need the full mlflow package: pip install 'transect[train]'.")
    # Reports in one sentence what the server would report in a traceback: no database, or another schema version.
    connect(settings.model_copy(update={"tracking_uri": f"sqlite:///{store}"}))
    return store


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # Like the server: ignore connections in TIME_WAIT.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(
            f"Cannot listen on {host}:{port} ({error.strerror}); name another port, such as --port {port % 65535 + 1}."
        ) from error


def _serve(store: Path, host: str, port: int) -> int:
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{store}"]
    command += ["--default-artifact-root", (store.parent / "artifacts").as_uri()]
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared
    address = f"http://{shown}:{port}"
    with tempfile.TemporaryFile() as log:
        # Its own process group: Ctrl-C reaches only this process, which ends the server with its workers.
        process = subprocess.Popen(
            command, env={**os.environ, **_QUICK}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _wait(process, address, log)
            print(f"MLflow's pages on {store}: {address}  (Ctrl-C ends them)", flush=True)
            _browse(address)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(process)
            signal.signal(signal.SIGTERM, before)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _BOOT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise RegistryError(f"MLflow's server did not start; its last output: {lines[-1] if lines else 'nothing'}.")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _browse(address: str) -> None:
    # Without a display, webbrowser may start a browser in the terminal, over our output.
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
