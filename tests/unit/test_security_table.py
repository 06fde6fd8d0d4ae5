"""docs/security.md names tests that there are, and for every row one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [line for line in (ROOT / "docs/security.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]


def test_every_row_is_held_by_a_test_that_exists() -> None:
    there = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = [re.findall(r"\btest_\w+", row.split("|")[3]) for row in ROWS[1:]]
    assert all(named)
    assert {name for row in named for name in row} <= there


def test_what_is_not_done_is_said_too() -> None:
    assert "## Not done yet" in (ROOT / "docs/security.md").read_text(encoding="utf-8")
