"""Files that are whole or absent: atomic writes, content hashes, and locks between processes of one machine."""

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
# How a file is named while it is written; SQLite's journals beside it add to the name.
_PART = re.compile(r"\..*\.[a-z0-9_]{8}\.part([.-].*)?", re.DOTALL)
# A name of 255 bytes is the longest that most file systems take.
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
    """Yield a temporary path beside `target`; on success it takes `target`'s place.

    For libraries that write files by name. Readers see the old file or the new one, never a
    part, also after kill -9 or a power cut: the data is flushed to disk before the rename. What a
    killed process leaves is for `remove_partial`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers such as cv2 and pyarrow look at it.
    prefix, suffix = f".{target.stem[:_LONGEST_STEM]}.", f".part{target.suffix}"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        # mkstemp made it private; the finished file gets the usual permissions.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(target: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def atomic_write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused, since JSON has neither."""
    atomic_write(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in `folder` itself: files named as `atomic_path` names them until they are whole.

    The caller must know that nobody is writing there now.
    """
    with os.scandir(folder) as entries:
        left = [entry.path for entry in entries if _PART.fullmatch(entry.name)]
    for path in left:
        Path(path).unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, alone or together with other `shared` holders; waits for it.

    The system frees it even after kill -9.
    """
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold `path` alone when nobody else does, and say whether that worked; never waits."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def private_files() -> Iterator[None]:
    """Files and folders that are made during a `with` block are for their owner alone (0600 and 0700).

    It holds for all threads of the process.
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
