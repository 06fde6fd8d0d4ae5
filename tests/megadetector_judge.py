"""Validate a file with the megadetector package."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_JUDGE = """
import json, sys
from megadetector.postprocessing.validate_batch_results import validate_batch_results
print(json.dumps(validate_batch_results(sys.argv[1])["validation_results"]))
"""


def judge(path: Path) -> dict[str, Any]:
    """The validator's `errors` and `warnings`, among other things.

    In a process of its own: the package lets Pillow read broken pictures, for every test that comes after it.
    """
    command = [sys.executable, "-c", _JUDGE, str(path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(told.splitlines()[-1]))
