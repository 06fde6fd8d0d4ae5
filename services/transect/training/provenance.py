"""Where a run came from: source revision, versions, machine, command."""

import getpass
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

UNKNOWN = "unknown"
_PACKAGES = {
    "transect": ("transect",),
    "ultralytics": ("ultralytics-opencv-headless", "ultralytics"),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "numpy": ("numpy",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "nncf": ("nncf",),
}


@dataclass(frozen=True)
class Provenance:
    """`git_commit` is "unknown" outside a repository or without git; `git_dirty` is False then.

    A container has no repository: whoever starts it passes GIT_COMMIT and GIT_DIRTY (true or false).
    """

    git_commit: str
    git_dirty: bool
    versions: dict[str, str]
    command: str
    host: str
    user: str


def read_provenance(folder: Path) -> Provenance:
    """The state of the repository around `folder`, and of this process."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        dirty = bool(_git(folder, "status", "--porcelain"))
    else:
        commit = os.environ.get("GIT_COMMIT") or UNKNOWN
        dirty = os.environ.get("GIT_DIRTY") == "true"
    return Provenance(
        git_commit=commit,
        git_dirty=dirty,
        versions={"python": platform.python_version(), **_versions()},
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        host=platform.node(),
        user=_user(),
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name, candidates in _PACKAGES.items():
        for candidate in candidates:
            try:
                found[name] = version(candidate)
            except PackageNotFoundError:
                continue
            break
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return UNKNOWN
