"""Checks that every lock installs from wheels where Transect runs: Linux on x86_64 and arm64, macOS 15 on arm64.

    python tools/check_wheels.py

Nothing is installed: uv resolves each file of requirements/ for each platform without building from source. `make lock`
runs it, so that a new version without a wheel for one platform is seen at once. The exit code is 1 where one fails.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# It has no wheel anywhere; it is Python alone, so that building it needs no compiler.
PURE_SOURCE = ("clipboard",)
LINUX, ARM, MACOS = "x86_64-manylinux_2_36", "aarch64-manylinux_2_36", "aarch64-apple-darwin"
# What runs outside of containers runs on all; images are Linux, and those for NVIDIA cards x86_64 alone.
LOCKS: dict[str, tuple[tuple[str, str], ...]] = {
    "dev": ((LINUX, "3.11"), (LINUX, "3.13"), (ARM, "3.13"), (MACOS, "3.12"), (MACOS, "3.13")),
    "mutation": ((LINUX, "3.11"), (LINUX, "3.13"), (ARM, "3.13"), (MACOS, "3.12"), (MACOS, "3.13")),
    # datumaro has no wheel for Linux on arm64.
    "referees": ((LINUX, "3.11"), (LINUX, "3.13"), (MACOS, "3.12"), (MACOS, "3.13")),
    "detector": ((LINUX, "3.13"), (ARM, "3.13")),
    "census": ((LINUX, "3.13"), (ARM, "3.13")),
    "mlflow": ((LINUX, "3.13"), (ARM, "3.13")),
    "trainer": ((LINUX, "3.13"), (ARM, "3.13")),
    "detector-cuda": ((LINUX, "3.13"),),
    "census-cuda": ((LINUX, "3.13"),),
}


def main() -> int:
    """Resolve each lock for each platform; print one line for each that fails."""
    failed = 0
    for name, places in LOCKS.items():
        for platform, python in places:
            if reason := why_not(name, platform, python):
                failed += 1
                print(f"requirements/{name}.txt, {platform}, Python {python}: {reason}", file=sys.stderr)
    if not failed:
        print(f"All {len(LOCKS)} locks install from wheels on each of their platforms.")
    return min(failed, 1)


def why_not(name: str, platform: str, python: str) -> str:
    """Why a lock cannot be installed from wheels; empty where it can."""
    with tempfile.TemporaryDirectory() as target:
        return _resolve(name, platform, python, target)


def _resolve(name: str, platform: str, python: str, target: str) -> str:
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--dry-run", "--no-deps", "--quiet"]
    command += ["--requirement", str(ROOT / "requirements" / f"{name}.txt"), "--target", target]
    command += ["--python-platform", platform, "--python-version", python, "--only-binary", ":all:"]
    command += [part for package in PURE_SOURCE for part in ("--no-binary", package)]
    # The oldest macOS that is supported; uv's own default is older.
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "15.0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())


if __name__ == "__main__":
    sys.exit(main())
