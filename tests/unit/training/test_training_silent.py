"""A server that accepts connections and never answers: hard to distinguish from a busy one."""

import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import environment_variables as mlflow_environment

from transect.registry import connect
from transect.settings import Settings, load_settings
from transect.tracking.run_log import RunLog
from transect.training import run_session


class _Leaving(BaseHTTPRequestHandler):
    """Answers the question whether MLflow is there, and hangs up on every other."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Settings]:
    """Settings for a server that never answers."""
    # The system itself accepts; nobody reads.
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield load_settings({"TRANSECT_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": uri}, env_file=None)


def test_the_end_waits_once_and_says_why(silent: Settings, tmp_path: Path) -> None:
    log = RunLog.start(tmp_path / "run", silent, "configs_silent", {}, {})
    log.metrics({"loss": 1.0}, step=1)
    assert log.register(tmp_path / "package", {}, wait=0.2) is None
    # An hour would not be waited for: what a wait ended in vain for is not waited for again.
    undelivered = log.finish("FINISHED", wait=3600)
    assert undelivered.left == ("run", "metrics of step 1", "model", "status FINISHED")
    assert "did not answer in time" in undelivered.reason or "cannot be reached" in undelivered.reason


@pytest.mark.usefixtures("registry")
def test_no_call_waits_for_ever() -> None:
    # The one for artifacts is that of all calls: they go through the server, and none to the object store itself.
    assert 0 < mlflow_environment.MLFLOW_HTTP_REQUEST_TIMEOUT.get() <= 60
    assert mlflow_environment.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() <= 2
    assert not mlflow_environment.MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD.get()
    assert not mlflow_environment.MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD.get()


def test_a_server_that_goes_between_check_and_start_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Leaving) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            uri = f"http://127.0.0.1:{server.server_address[1]}"
            registry = connect(load_settings({"MLFLOW_TRACKING_URI": uri}, env_file=None))
            plan: Any = SimpleNamespace(registry=registry, recipe=SimpleNamespace(experiment="configs_tiny"))
            with caplog.at_level(logging.WARNING):
                assert run_session._verified_registry(plan) is None
        finally:
            server.shutdown()
            thread.join()
    assert "Training starts all the same" in caplog.text
