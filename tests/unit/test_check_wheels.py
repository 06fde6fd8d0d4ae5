"""Which locks are held to wheels; the check itself asks the package index (make lock)."""

from pathlib import Path

import check_wheels


def test_every_lock_that_is_installed_is_checked() -> None:
    files = {path.stem for path in (Path(__file__).parents[2] / "requirements").glob("*.txt")}
    # The installer itself, and what the benchmarks measure us against.
    assert set(check_wheels.LOCKS) == files - {"build", "bench"}


def test_a_package_without_a_wheel_is_named() -> None:
    reason = check_wheels.why_not("there-is-none", check_wheels.LINUX, "3.13")
    assert "there-is-none" in reason
