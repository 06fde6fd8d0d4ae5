"""Provenance of a run: source revision, versions, machine, command."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from transect.redaction import DIFF_OPTIONS, command_without_secrets, diff_without_secrets
from transect.registry.promotion.alias_lock import host_name
from transect.settings import SourceDiff
from transect.settings.account import user_name

UNKNOWN = "unknown"
# A longer diff is data that was left in the repository.
_LONGEST_DIFF = 10_000_000
# Meaningless for a package installed elsewhere: it does not lie in services/transect there.
_OWN_REPOSITORY = Path(__file__).resolve().parents[3]
_PACKAGES = {
    "transect": ("transect",),
    "ultralytics": ("ultralytics-opencv-headless", "ultralytics"),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "numpy": ("numpy",),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "nncf": ("nncf",),
}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """`git_commit` is "unknown" outside a repository or without git; `git_dirty` is False then.

    A container has no repository: its environment provides GIT_COMMIT and GIT_DIRTY (true or false),
    and HOST_NAME, since a container's own host name is its id.
    """

    git_commit: str
    git_dirty: bool
    versions: dict[str, str]
    command: str
    host: str
    user: str


def read_provenance(folder: Path) -> Provenance:
    """The state of the repository around `folder`, and of this process."""
    commit = (_git(folder, "rev-parse", "HEAD") or "").strip()
    if commit:
        dirty = bool(_git(folder, "status", "--porcelain"))
    else:
        commit = os.environ.get("GIT_COMMIT") or UNKNOWN
        dirty = os.environ.get("GIT_DIRTY") == "true"
    return Provenance(
        git_commit=commit,
        git_dirty=dirty,
        versions={"python": platform.python_version(), **_versions()},
        command=command_without_secrets([Path(sys.argv[0]).name, *sys.argv[1:]]),
        host=host_name(),
        user=user_name(UNKNOWN),
    )


def source_diff(folder: Path, wanted: SourceDiff = "own") -> str:
    """The patch (for `git apply`) from the commit of the repository around `folder` to its working tree.

    `own`: only in Transect's own repository; `always`: in any; `never`. Files and hunks that look like secrets are
    left out and marked (transect.redaction). Untracked files are named in lines above the patch, without their
    content: the user did not ask to publish them. Empty where nothing differs. Outside a repository, the patch is
    the content of the file that GIT_CHANGES names, if it is set.
    """
    if wanted == "never":
        return ""
    answer = _git(folder, "rev-parse", "--show-toplevel")
    if not answer:
        return diff_without_secrets(_changes_from_file())
    root = Path(answer.rstrip("\n"))
    if wanted == "own" and root.resolve() != _OWN_REPOSITORY:
        return ""
    changes = _git(root, "diff", *DIFF_OPTIONS, "HEAD") or ""
    unknown = (_git(root, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    if len(changes) > _LONGEST_DIFF:
        unknown.append(f"(the changes are {len(changes)} characters long and were left out)")
        changes = ""
    lines = [f"# not in git: {name}" for name in unknown]
    return diff_without_secrets("".join(f"{line}\n" for line in lines) + changes)


def _changes_from_file() -> str:
    path = Path(os.environ.get("GIT_CHANGES", ""))
    if not path.is_file():
        return ""
    changes = path.read_bytes()
    if len(changes) > _LONGEST_DIFF:
        return f"# (the changes are {len(changes)} bytes long and were left out)\n"
    return changes.decode(errors="surrogateescape")


def installed_packages() -> str:
    """Every installed package with its version, one a line, as pip reads it."""
    found = {f"{name.lower()}=={one.version}\n" for one in distributions() if (name := one.metadata["Name"])}
    return "".join(sorted(found))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    # Undecoded: a patch may hold bytes that are not text, and line ends that matter.
    return answer.stdout.decode(errors="surrogateescape")


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
