"""Atomic writes, content hashes, and locks between processes of one machine.

Locks are flock(2): the system releases them even after kill -9, and readers can share one. The library filelock shares
a lock only through an SQLite database.
"""

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
# Names of temporary files of atomic_path; SQLite's journals append to them.
_PART = re.compile(r"\..*\.[a-z0-9_]{8}\.part([.-].*)?", re.DOTALL)
# Most file systems limit names to 255 bytes.
_LONGEST_STEM = 40


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content as 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success, rename it to `target`.

    For libraries that write files by name. Readers see the old or the new file, never a part, also
    after kill -9 or a power cut: the data is flushed to disk before the rename. `remove_partial`
    removes leftovers of killed processes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Keep the suffix, because writers such as cv2 and pyarrow use it.
    prefix, suffix = f".{target.stem[:_LONGEST_STEM]}.", f".part{target.suffix}"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        # mkstemp creates private files; the result gets the default permissions.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(target: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to `target` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def atomic_write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON; raises ValueError for NaN and infinity, which JSON lacks."""
    atomic_write(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def remove_partial(folder: Path) -> None:
    """Remove temporary files of `atomic_path` that killed writers left in `folder` itself.

    The caller must ensure that no process is writing there.
    """
    with os.scandir(folder) as entries:
        left = [entry.path for entry in entries if _PART.fullmatch(entry.name)]
    for path in left:
        Path(path).unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, exclusively or `shared`; waits for it.

    The system releases it even after kill -9.
    """
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Try to hold `path` exclusively, and yield whether that succeeded; never waits."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def private_files() -> Iterator[None]:
    """Make files and folders created in the `with` block private to their owner (0600 and 0700).

    Applies to all threads of the process.
    """
    usual = os.umask(0o077)
    os.umask(usual | 0o077)
    try:
        yield
    finally:
        os.umask(usual)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
