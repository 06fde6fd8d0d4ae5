import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from transect.errors import InputError
from transect.serving import create_app
from transect.serving.server import _listen
from transect.settings import load_settings


def test_a_port_in_use_is_named_in_one_line_with_what_to_set(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "transect.serving"],
            env={**os.environ, "TRANSECT_PORT": str(port), "TRANSECT_HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == InputError.exit_code
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "TRANSECT_PORT" in done.stderr


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(InputError, match=r"192\.0\.2\.1:8000"):
        _listen("192.0.2.1", 8000)


def test_it_listens_on_both_families() -> None:
    with _listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0
    with _listen("::1", 0) as listener:
        assert listener.family == socket.AF_INET6


def test_settings_that_contradict_each_other_stop_the_start() -> None:
    settings = load_settings({"TRANSECT_TILE": "320", "TRANSECT_TILE_OVERLAP": "320"}, None)
    with pytest.raises(InputError, match="overlap=320"):
        create_app(settings)
