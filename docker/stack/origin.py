"""What a container cannot know itself: who started it, on which machine, from which image and which source."""

import getpass
import os
import platform
import subprocess
import sys
from pathlib import Path

from compose import ROOT, answer, setting

# Standard library alone, as everything here; first, since the Python that runs it may have another version installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "services"))
from transect.redaction import DIFF_OPTIONS, diff_without_secrets

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
        if dirty and _may_be_published():
            write_changes(ROOT, CHANGES)
            told["GIT_CHANGES"] = _INSIDE
            options = ["--volume", f"{CHANGES}:{_INSIDE}:ro"]
    for name, text in told.items():
        options += ["--env", f"{name}={text}"]
    return options


def write_changes(repository: Path, target: Path) -> None:
    """Write what turns the commit of `repository` into its present state; new files are named, not published.

    Files and hunks that look like secrets are left out, and said.
    A container that reads the older file keeps it.
    """
    names = _git(repository, "ls-files", "--others", "--exclude-standard").decode(errors="surrogateescape")
    unknown = "".join(f"# not in git: {name}\n" for name in names.splitlines())
    patch = _git(repository, "diff", *DIFF_OPTIONS, "HEAD").decode(errors="surrogateescape")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(diff_without_secrets(unknown + patch).encode(errors="surrogateescape"))
    temporary.chmod(0o644)  # the container's user is a stranger here
    temporary.replace(target)


def _may_be_published() -> bool:
    """As TRANSECT_SOURCE_DIFF says; Transect's own repository is the one that this program lies at the top of."""
    wanted = setting("TRANSECT_SOURCE_DIFF", "own")
    top = answer(["git", "-C", str(ROOT), "rev-parse", "--show-toplevel"]) or ""
    return wanted == "always" or (wanted == "own" and Path(top).resolve() == ROOT.resolve())


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True).stdout


def _user() -> str:
    """Who typed the command; with sudo, who that was before."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
