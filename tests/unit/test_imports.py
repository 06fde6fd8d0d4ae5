"""The rules about who may import whom, as pyproject.toml states them."""

import subprocess
import sys
from pathlib import Path


def test_imports_run_one_way() -> None:
    # In a process of its own: import-linter's logging settings turn off every logger that exists.
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
