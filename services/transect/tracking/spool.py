"""What a run tells MLflow, on disk before it is sent: a journal, the files it names, how far delivery is.

The journal is JSON lines and not a database: an entry is one write and one flush to disk, a process
that is killed while it writes leaves at most one torn last line, which was never promised to anybody,
and it can be read and repaired with an editor, on any file system.
"""

import errno
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transect.errors import InputError
from transect.files import atomic_path, atomic_write_json, locked_if_free

SPOOL = "spool"
_JOURNAL, _STATE, _FILES, _LOCK = "journal.jsonl", "state.json", "files", "lock"


@dataclass(frozen=True)
class Entry:
    """One thing to tell MLflow; `what` names it for people, `end` is the byte behind it in the journal."""

    kind: str
    what: str
    data: dict[str, Any]
    end: int


@dataclass(frozen=True)
class State:
    """How far delivery is.

    The first `offset` bytes of the journal are delivered; `run_id` is MLflow's name of the run and
    `version` that of the registered model, once there are any; `rejected` says what MLflow refused
    for good, and why.
    """

    offset: int = 0
    run_id: str = ""
    version: str = ""
    rejected: tuple[str, ...] = ()


class Spool:
    """The spool in one run's folder. Any thread may append; whoever holds `lock` delivers."""

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.folder = run_folder / SPOOL
        self.journal = self.folder / _JOURNAL
        self._appending = threading.Lock()
        self.state = self._read_state()

    @classmethod
    def create(cls, run_folder: Path) -> "Spool":
        """A new, empty spool. Raises InputError when it cannot be written."""
        folder = run_folder / SPOOL
        try:
            folder.mkdir(parents=True, mode=0o700)
            (folder / _JOURNAL).touch()
            _flush(folder)
        except OSError as error:
            raise InputError(f"{folder} cannot be made: {error.strerror}; set TRANSECT_HOME.") from error
        return cls(run_folder)

    @staticmethod
    def exists(run_folder: Path) -> bool:
        """Whether the run in this folder has a spool with at least one entry."""
        journal = run_folder / SPOOL / _JOURNAL
        return journal.is_file() and journal.stat().st_size > 0

    def lock(self) -> AbstractContextManager[bool]:
        """Hold the spool for delivery when nobody does, and say whether that worked."""
        return locked_if_free(self.folder / _LOCK)

    def append(self, kind: str, what: str, **data: Any) -> None:
        """Add an entry; it is on disk when this returns. Raises InputError when the disk does not take it.

        NaN and infinity are kept as Python's JSON writes them.
        """
        line = json.dumps({"kind": kind, "what": what, **data}, ensure_ascii=False).encode() + b"\n"
        with self._appending:
            try:
                _append_whole(self.journal, line)
            except OSError as error:
                raise InputError(
                    f"{self.journal} cannot take the {what}: {error.strerror}; free the disk, and go on with --resume."
                ) from error

    def keep(self, path: Path, clean: Callable[[str], str] | None = None) -> str:
        """Copy a file as it is now, so that it is there when its entry is delivered; its path in the spool.

        `clean` is told its text, and what it gives is kept.
        """
        files = self.folder / _FILES
        files.mkdir(exist_ok=True)
        target = Path(tempfile.mkdtemp(dir=files, prefix="")) / path.name
        with atomic_path(target) as temporary:
            if clean is None:
                shutil.copyfile(path, temporary)
            else:
                text = path.read_bytes().decode(errors="surrogateescape")
                temporary.write_bytes(clean(text).encode(errors="surrogateescape"))
        return str(target.relative_to(self.folder))

    def path_of(self, kept: str) -> Path:
        """Where `keep` put a file."""
        return self.folder / kept

    def entries(self, offset: int = 0) -> Iterator[Entry]:
        """The entries from this byte of the journal on. A line that is damaged has the kind `damaged`."""
        with self.journal.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield _entry(line, offset)

    def undelivered(self) -> Iterator[Entry]:
        """What is not delivered yet, oldest first, as it is read."""
        return self.entries(self.state.offset)

    def pending(self) -> list[Entry]:
        """What is not delivered yet, oldest first."""
        return list(self.undelivered())

    def next(self) -> Entry | None:
        """The oldest entry that is not delivered yet."""
        return next(self.undelivered(), None)

    def delivered(self, entry: Entry, **changes: Any) -> None:
        """Note that `entry` is done with, and what was learned (`run_id`, `version`); its file goes."""
        state = replace(self.state, offset=entry.end, **changes)
        atomic_write_json(self.folder / _STATE, asdict(state))
        self.state = state
        if entry.kind == "artifact":
            shutil.rmtree(self.path_of(entry.data["file"]).parent, ignore_errors=True)

    def rejected(self, entry: Entry, why: str) -> None:
        """Note that MLflow will never take `entry`; it stays in the journal, and its file where it is."""
        told = (*self.state.rejected, f"{entry.what} ({why})")
        state = replace(self.state, offset=entry.end, rejected=told)
        atomic_write_json(self.folder / _STATE, asdict(state))
        self.state = state

    def _read_state(self) -> State:
        try:
            found = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            return State(**{**found, "rejected": tuple(found["rejected"])})
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.folder / _STATE} cannot be read ({error}); remove it, and everything is delivered once more."
            ) from error


def _entry(line: bytes, end: int) -> Entry:
    try:
        data = json.loads(line)
        return Entry(data.pop("kind"), data.pop("what"), data, end)
    except (ValueError, KeyError, AttributeError):
        return Entry("damaged", f"a damaged entry that ends at byte {end}", {}, end)


def _append_whole(journal: Path, line: bytes) -> None:
    """Append a line and flush it to disk, all of it or nothing."""
    handle = os.open(journal, os.O_RDWR | os.O_APPEND)
    try:
        end = _whole_lines(handle)
        if os.write(handle, line) != len(line):
            os.ftruncate(handle, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    finally:
        os.close(handle)


def _whole_lines(handle: int) -> int:
    """Cut off a last line that a killed process left torn; the length of the journal then."""
    end = os.fstat(handle).st_size
    if end == 0 or os.pread(handle, 1, end - 1) == b"\n":
        return end
    kept = os.pread(handle, end, 0).rfind(b"\n") + 1
    os.ftruncate(handle, kept)
    return kept


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
