"""The tests that run `make` are not changed by the variables of the `make test` above them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from make_variables import EXPORTED_BY_MAKE, OF_MAKE

ROOT = Path(__file__).parents[2]
_MAKEFILE = """\
export ARGS
test:
\t@"$(PYTHON)" -m pytest -q -p no:cacheprovider --rootdir "$(ROOT)" -c "$(ROOT)/pyproject.toml" $(ARGS)
"""


def test_every_variable_that_make_exports_is_known() -> None:
    exported = re.findall(
        r"^export ([A-Z_ ]+?)(?: =.*)?$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [name for line in exported for name in line.split()] == list(EXPORTED_BY_MAKE)


def test_no_test_sees_them(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(_MAKEFILE, encoding="utf-8")
    this = f"{Path(__file__).relative_to(ROOT)}::test_this_process_has_none_of_them"
    # Relative, since the shell would divide a path with a blank.
    variables = [f"PYTHON={sys.executable}", f"ROOT={ROOT}", f"ARGS={this}"]
    command = ["make", "--file", str(tmp_path / "Makefile"), "test", *variables]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_this_process_has_none_of_them() -> None:
    assert not {*OF_MAKE, *EXPORTED_BY_MAKE} & set(os.environ)
