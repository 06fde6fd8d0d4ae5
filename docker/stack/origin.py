"""What a container cannot know itself: who started it, on which machine, from which image and which source."""

import getpass
import os
import platform
import subprocess
from pathlib import Path

from compose import ROOT, answer

CHANGES = ROOT / "runs" / "stack" / "changes.patch"
_INSIDE = "/opt/transect/changes.patch"


def origin(image: str) -> list[str]:
    """Options of `docker compose run` that tell it to a container of `image`, for its runs and the gate's tags."""
    told = {"USER": _user(), "HOST_NAME": platform.node() or "unknown"}
    if digest := answer(["docker", "image", "inspect", "--format", "{{.Id}}", image]):
        told["CONTAINER_IMAGE"] = f"{image}@{digest}"
    options = []
    if commit := answer(["git", "-C", str(ROOT), "rev-parse", "HEAD"]):
        dirty = bool(answer(["git", "-C", str(ROOT), "status", "--porcelain"]))
        told |= {"GIT_COMMIT": commit, "GIT_DIRTY": str(dirty).lower()}
        if dirty:
            write_changes(ROOT, CHANGES)
            told["GIT_CHANGES"] = _INSIDE
            options = ["--volume", f"{CHANGES}:{_INSIDE}:ro"]
    for name, text in told.items():
        options += ["--env", f"{name}={text}"]
    return options


def write_changes(repository: Path, target: Path) -> None:
    """Write what turns the commit of `repository` into its present state; new files are named, not published.

    A container that reads the older file keeps it.
    """
    names = _git(repository, "ls-files", "--others", "--exclude-standard").decode(errors="surrogateescape")
    unknown = "".join(f"# not in git: {name}\n" for name in names.splitlines())
    patch = _git(repository, "diff", "--binary", "--no-color", "--no-ext-diff", "HEAD")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(unknown.encode(errors="surrogateescape") + patch)
    temporary.chmod(0o644)  # the container's user is a stranger here
    temporary.replace(target)


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True).stdout


def _user() -> str:
    """Who typed the command; with sudo, who that was before."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
