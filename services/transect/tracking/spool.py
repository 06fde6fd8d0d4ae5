"""A run's log, on disk before it is sent to MLflow: a journal, the files it names, and the delivery offset.

The journal is JSON lines and not a database. An entry is one write and one fsync. A process killed
while it writes leaves at most one torn last line, whose `append` never returned. People can read and
repair it with an editor, on any file system.
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
    """One call to MLflow; `what` names it for people, `end` is the byte behind it in the journal."""

    kind: str
    what: str
    data: dict[str, Any]
    end: int


@dataclass(frozen=True)
class DeliveryState:
    """Delivery progress.

    The first `offset` bytes of the journal are delivered. `run_id` is MLflow's id of the run and
    `version` that of the registered model, once they exist. `rejected` names the entries that MLflow
    refused for good, with the reasons.
    """

    offset: int = 0
    run_id: str = ""
    version: str = ""
    rejected: tuple[str, ...] = ()


class Spool:
    """The spool in one run's folder. Any thread may append; only the holder of `lock` delivers."""

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
            _sync_folder(folder)
        except OSError as error:
            raise InputError(f"{folder} cannot be made: {error.strerror}; set TRANSECT_HOME.") from error
        return cls(run_folder)

    @staticmethod
    def exists(run_folder: Path) -> bool:
        """Whether the run in this folder has a spool with at least one entry."""
        journal = run_folder / SPOOL / _JOURNAL
        return journal.is_file() and journal.stat().st_size > 0

    def lock(self) -> AbstractContextManager[bool]:
        """Lock the spool for delivery if it is free; the context's value is whether that worked."""
        return locked_if_free(self.folder / _LOCK)

    def append(self, kind: str, what: str, **data: Any) -> None:
        """Append an entry; it is on disk when this returns. Raises InputError when it cannot be written.

        NaN and infinity are kept as Python's JSON writes them.
        """
        line = json.dumps({"kind": kind, "what": what, **data}, ensure_ascii=False).encode() + b"\n"
        with self._appending:
            try:
                _append_line(self.journal, line)
            except OSError as error:
                raise InputError(
                    f"{self.journal} cannot take the {what}: {error.strerror}; free the disk, and run the same command "
                    "again (a training with --resume)."
                ) from error

    def store_file(self, path: Path, clean: Callable[[str], str] | None = None) -> str:
        """Copy a file as it is now, until its entry is delivered; returns its path in the spool.

        With `clean`, its text is passed through `clean` first.
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

    def stored_path(self, kept: str) -> Path:
        """The path of a file that `store_file` copied."""
        return self.folder / kept

    def entries(self, offset: int = 0) -> Iterator[Entry]:
        """The entries from this byte of the journal on. A damaged line has the kind `damaged`."""
        with self.journal.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield _entry(line, offset)

    def undelivered(self) -> Iterator[Entry]:
        """The entries that are not delivered yet, oldest first, read lazily."""
        return self.entries(self.state.offset)

    def pending(self) -> list[Entry]:
        """The entries that are not delivered yet, oldest first."""
        return list(self.undelivered())

    def next(self) -> Entry | None:
        """The oldest entry that is not delivered yet."""
        return next(self.undelivered(), None)

    def mark_delivered(self, entry: Entry, **changes: Any) -> None:
        """Record that `entry` is delivered, with new state (`run_id`, `version`), and remove its file."""
        state = replace(self.state, offset=entry.end, **changes)
        atomic_write_json(self.folder / _STATE, asdict(state))
        self.state = state
        if entry.kind == "artifact":
            shutil.rmtree(self.stored_path(entry.data["file"]).parent, ignore_errors=True)

    def mark_rejected(self, entry: Entry, why: str) -> None:
        """Record that MLflow will never take `entry`; entry and file stay in the spool."""
        rejected = (*self.state.rejected, f"{entry.what} ({why})")
        state = replace(self.state, offset=entry.end, rejected=rejected)
        atomic_write_json(self.folder / _STATE, asdict(state))
        self.state = state

    def _read_state(self) -> DeliveryState:
        try:
            found = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            return DeliveryState(**{**found, "rejected": tuple(found["rejected"])})
        except FileNotFoundError:
            return DeliveryState()
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


def _append_line(journal: Path, line: bytes) -> None:
    """Append a line and fsync it, all of it or nothing."""
    handle = os.open(journal, os.O_RDWR | os.O_APPEND)
    try:
        end = _drop_torn_line(handle)
        if os.write(handle, line) != len(line):
            os.ftruncate(handle, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    finally:
        os.close(handle)


def _drop_torn_line(handle: int) -> int:
    """Truncate a last line that a killed process left torn; returns the length of the journal."""
    end = os.fstat(handle).st_size
    if end == 0 or os.pread(handle, 1, end - 1) == b"\n":
        return end
    kept = os.pread(handle, end, 0).rfind(b"\n") + 1
    os.ftruncate(handle, kept)
    return kept


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
