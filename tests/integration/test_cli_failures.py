"""How commands end that cannot go on: in one line, and with the exit code of the reason."""

import os
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from cli_process import run, start
from transect.errors import RegistryError
from transect.registry import connect
from transect.settings import load_settings


def test_ctrl_c_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "TRANSECT_HOME": str(tmp_path)}
        process = start("models", "list", env=environment, stderr=subprocess.PIPE)
        # It has asked, and nobody answers.
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip().splitlines()[-1]) == (130, "transect: interrupted.")
    assert "Traceback" not in err


def test_a_store_of_another_mlflow_names_the_upgrade_command(tmp_path: Path) -> None:
    connect(load_settings({"TRANSECT_HOME": str(tmp_path)}, env_file=None))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '27a6a02d2cf1'")
        database.commit()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "TRANSECT_"))}
    ended = run("models", "list", env={**clean, "TRANSECT_HOME": str(tmp_path)}, cwd=tmp_path)
    assert ended.returncode == RegistryError.exit_code
    assert "mlflow db upgrade" in ended.stderr
    assert ended.stderr.count("\n") == 1
