"""Telemetry of libraries is disabled before any of them can be imported."""

import os
import subprocess
import sys

PROGRAM = "import os, transect; print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['ORT_DISABLE_TELEMETRY'])"


def test_telemetry_is_off_unless_somebody_turned_it_on() -> None:
    clean = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    for chosen, said in (({}, "true 1"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "false 1")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=clean | chosen, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == said
