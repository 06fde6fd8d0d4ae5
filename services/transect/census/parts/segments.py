"""Segments: many small records in a file of a store.

A record is one line: CRC-32 of the rest in eight hexadecimal digits, the record's key as JSON, a tab, its content as
JSON. Lines that do not fit their checksum are left out, so that a damaged file costs the work it held and no more.
Writers never share a file: each has a name of its own, so any number of processes may write to one folder of a store.

In a folder a writer appends each record at once, so that a process that is killed loses nothing; the last line of such
a file may be cut off. An object store has no appending: there records are gathered for seconds, and each file is
written whole or not at all.
"""

import gzip
import json
import logging
import os
import secrets
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from transect.errors import StoreError
from transect.stores import FolderStore, Store

logger = logging.getLogger(__name__)

Key = tuple[str, ...]
# A killed process loses what it found in so many seconds, at most, where nothing can be appended; a folder's file is
# flushed to the disk as often.
_KEPT_AFTER_S = 5.0
# A segment is written when it has so many records or bytes before its time is up.
_MOST_RECORDS, _MOST_BYTES = 1000, 4 << 20
# More files than that are merged into files of _MERGED_RECORDS.
_MANY_SEGMENTS, _MERGED_RECORDS = 100, 20_000
_WHOLE, _APPENDED = ".jsonl.gz", ".jsonl"


def read_segments(store: Store, folder: str) -> Iterator[tuple[Key, bytes]]:
    """Key and content (JSON) of every record in a folder of a store, file by file in the order of their names.

    Raises what a Store raises; a file that is gone when its turn comes was merged into another, which is read too.
    """
    seen = set[str]()
    while True:
        names = sorted({one.name for one in store.files(folder) if _is_segment(one.name)} - seen)
        if not names:
            return
        for name in names:
            seen.add(name)
            with suppress(FileNotFoundError):
                yield from _records(store.read(name)[0], f"{store.address}/{name}")


def merge_segments(store: Store, folder: str) -> int:
    """Put many small files of a folder into few large ones; how many there were, 0 where they were few.

    The caller must be the only process that merges or writes there. Others may read meanwhile: nothing is removed
    before it is in another file.
    """
    small = sorted(one.name for one in store.files(folder) if _is_segment(one.name) and "/merged-" not in one.name)
    if len(small) < _MANY_SEGMENTS:
        return 0
    lines = dict[bytes, None]()
    for name in small:
        for key, content in _records(store.read(name)[0], f"{store.address}/{name}"):
            lines[_line(key, content)] = None
    whole = list(lines)
    for start in range(0, len(whole), _MERGED_RECORDS):
        name = f"{folder}/merged-{secrets.token_hex(6)}{_WHOLE}"
        store.write(name, gzip.compress(b"".join(whole[start : start + _MERGED_RECORDS]), 1, mtime=0))
    for name in small:
        store.remove(name)
    return len(small)


class SegmentWriter:
    """Adds records to a folder of a store. Thread-safe; a context manager that writes what is left.

    A failure to write is raised by the next add(), or at the end.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._lock = threading.Lock()
        self._file: _Appended | _Gathered = (
            _Appended(store.folder / folder) if isinstance(store, FolderStore) else _Gathered(store, folder)
        )
        self._timer: threading.Timer | None = None
        self._failure: Exception | None = None

    def add(self, key: Key, content: Any) -> None:
        """Add a record; `content` is what JSON takes. Raises what a Store raises."""
        line = _line(key, json.dumps(content, allow_nan=False, separators=(",", ":")).encode())
        with self._lock:
            self._raise_failure()
            self._file.add(line)
            if self._timer is None:
                self._timer = threading.Timer(_KEPT_AFTER_S, self._in_time)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what was added, for good. Raises what a Store raises."""
        with self._lock:
            self._raise_failure()
            self._write()

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
                return
            # What was found is kept if possible; the reason to end is the one that is raised.
            with suppress(OSError, StoreError), self._lock:
                self._write()
        finally:
            self._file.close()

    def _in_time(self) -> None:
        with self._lock:
            try:
                self._write()
            except (OSError, StoreError) as error:
                self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._file.flush()


class _Appended:
    """A file of one writer in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream: BinaryIO | None = None

    def add(self, line: bytes) -> None:
        if self._stream is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: the system has each line at once, and a line that was cut off fails its checksum.
            self._stream = (self._folder / f"{secrets.token_hex(8)}{_APPENDED}").open("xb", buffering=0)
        self._stream.write(line)

    def flush(self) -> None:
        if self._stream is not None:
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Gathered:
    """Files of one writer in an object store."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._name, self._number = secrets.token_hex(8), 0
        self._lines: list[bytes] = []
        self._bytes = 0

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= _MOST_RECORDS or self._bytes >= _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            name = f"{self._folder}/{self._name}-{self._number:06d}{_WHOLE}"
            self._store.write(name, gzip.compress(b"".join(self._lines), 1, mtime=0))
            self._number += 1
            self._lines, self._bytes = [], 0

    def close(self) -> None:
        """Nothing is open."""


def _is_segment(name: str) -> bool:
    return name.endswith((_WHOLE, _APPENDED))


def _line(key: Sequence[str], content: bytes) -> bytes:
    rest = json.dumps(list(key), separators=(",", ":")).encode() + b"\t" + content
    return b"%08x" % zlib.crc32(rest) + rest + b"\n"


def _records(packed: bytes, name: str) -> Iterator[tuple[Key, bytes]]:
    try:
        whole = gzip.decompress(packed) if name.endswith(_WHOLE) else packed
    except (OSError, EOFError, zlib.error):
        logger.warning("%s is damaged; what it held is done again.", name)
        return
    # The last line of a file that somebody appends to, or was killed while doing so, may be cut off.
    end = whole.rfind(b"\n") + 1
    damaged = 0
    for line in whole[:end].split(b"\n")[:-1]:
        checksum, rest = line[:8], line[8:]
        if checksum != b"%08x" % zlib.crc32(rest):
            damaged += 1
            continue
        key, _, content = rest.partition(b"\t")
        yield tuple(json.loads(key)), content
    if damaged:
        logger.warning("%s has %d damaged lines; what they held is done again.", name, damaged)
