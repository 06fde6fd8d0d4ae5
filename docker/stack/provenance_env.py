"""Provenance that a container cannot determine itself: user, host, image and source version."""

import getpass
import os
import platform
import subprocess
import sys
from pathlib import Path

from compose import ROOT, output_of, setting

# redaction needs only the standard library; first in the path, since another version may be installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "services"))
from transect.redaction import DIFF_OPTIONS, diff_without_secrets

CHANGES = ROOT / "runs" / "stack" / "changes.patch"
_INSIDE = "/opt/transect/changes.patch"


def provenance_options(image: str) -> list[str]:
    """Options of `docker compose run` that pass it to a container of `image`, for its runs and the gate's tags."""
    variables = {"USER": _user(), "HOST_NAME": platform.node() or "unknown"}
    if digest := output_of(["docker", "image", "inspect", "--format", "{{.Id}}", image]):
        variables["CONTAINER_IMAGE"] = f"{image}@{digest}"
    options = []
    if commit := output_of(["git", "-C", str(ROOT), "rev-parse", "HEAD"]):
        dirty = bool(output_of(["git", "-C", str(ROOT), "status", "--porcelain"]))
        variables |= {"GIT_COMMIT": commit, "GIT_DIRTY": str(dirty).lower()}
        if dirty and _may_be_published():
            write_changes(ROOT, CHANGES)
            variables["GIT_CHANGES"] = _INSIDE
            options = ["--volume", f"{CHANGES}:{_INSIDE}:ro"]
    for name, text in variables.items():
        options += ["--env", f"{name}={text}"]
    return options


def write_changes(repository: Path, target: Path) -> None:
    """Write the patch from the commit of `repository` to its working tree; untracked files are only named.

    Files and hunks that look like secrets are replaced by a comment. The file is replaced atomically, so a
    running container keeps the old one.
    """
    names = _git(repository, "ls-files", "--others", "--exclude-standard").decode(errors="surrogateescape")
    unknown = "".join(f"# not in git: {name}\n" for name in names.splitlines())
    patch = _git(repository, "diff", *DIFF_OPTIONS, "HEAD").decode(errors="surrogateescape")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(diff_without_secrets(unknown + patch).encode(errors="surrogateescape"))
    temporary.chmod(0o644)  # readable for the container's user
    temporary.replace(target)


def _may_be_published() -> bool:
    """Whether TRANSECT_SOURCE_DIFF permits it; `own` requires that this program is at the top of the repository."""
    wanted = setting("TRANSECT_SOURCE_DIFF", "own")
    top = output_of(["git", "-C", str(ROOT), "rev-parse", "--show-toplevel"]) or ""
    return wanted == "always" or (wanted == "own" and Path(top).resolve() == ROOT.resolve())


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True).stdout


def _user() -> str:
    """The user that ran the command; with sudo, the original one."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
