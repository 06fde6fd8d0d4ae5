"""`transect ui` with the real MLflow server."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from transect.registry import connect
from transect.settings import load_settings


@pytest.fixture
def store(tmp_path: Path) -> Path:
    registry = connect(load_settings({"TRANSECT_HOME": str(tmp_path / "home")}, env_file=None))
    registry.client.create_run(registry.experiment("shown"), run_name="first")
    return tmp_path / "home" / "mlflow.db"


@contextmanager
def _start(tmp_path: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with subprocess.Popen(
        [sys.executable, "-m", "transect", "ui", *arguments],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            # Ends nothing that has ended; a test that failed must not wait for ever.
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_pages_show_the_store_and_end_with_all_their_processes(store: Path, tmp_path: Path) -> None:
    port = _free_port()
    with _start(tmp_path, "--port", str(port), "--db-path", str(store)) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line, process.stderr.read() if process.stderr else line
        address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=10"
        with urllib.request.urlopen(address, timeout=20) as answer:
            names = {one["name"] for one in json.load(answer)["experiments"]}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert b"<title>MLflow</title>" in page.read()
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert "shown" in names
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_is_named(store: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with _start(tmp_path, "--port", str(port), "--db-path", str(store)) as process:
            _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("content", "said"), [(None, "There is no MLflow store at"), (b"text" * 500, "cannot be")])
def test_a_store_that_is_none_is_named(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    if content is not None:
        path.write_bytes(content)
    with _start(tmp_path, "--db-path", str(path)) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode in (2, 4)
    assert said in error
    assert "mlflow.db" in error
    assert error.count("\n") == 1
