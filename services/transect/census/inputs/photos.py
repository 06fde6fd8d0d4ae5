"""The photos of a survey, wherever they lie: their size and tag, their metadata and their content."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from transect.files import sha256_file
from transect.imagery import is_tiff
from transect.stores import Store, StoredFile

# Metadata of a JPEG lie before its pixels, within this much of nearly all cameras' files.
_HEAD_BYTES = 128 * 1024
# A larger file is not held in memory.
_MOST_IN_MEMORY = 256 << 20
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class ChangedPhotoError(Exception):
    """A photo is no longer what it was when the survey was read."""


class NotAFileError(Exception):
    """A photo's name belongs to a pipe, a device or a folder."""


@dataclass(frozen=True)
class Content:
    """The content of a photo, in memory or in a file."""

    source: Path | bytes

    def sha256(self) -> str:
        """Its SHA-256 as lower-case hexadecimal digits; reads a file again."""
        if isinstance(self.source, Path):
            return sha256_file(self.source)
        return hashlib.sha256(self.source).hexdigest()


Stamp = tuple[int | str, int]
"""When a photo's content was written, or its ETag, and its size in bytes."""


class Photo(Protocol):
    """One file of a survey. Methods raise OSError where it cannot be read, StoreError where its store is away."""

    def stamp(self) -> Stamp:
        """What is another once the content is."""

    def tag(self) -> str:
        """A text that is another whenever the content may be, also where somebody set the file's time back."""

    def head(self) -> AbstractContextManager[Path]:
        """A context manager of a file that has the photo's metadata, though not its pixels."""

    def content(self) -> AbstractContextManager[Content]:
        """A context manager of the whole content. Raises ChangedPhotoError where it is another than was listed."""


@dataclass(frozen=True)
class LocalPhoto:
    """A photo in a folder."""

    path: Path

    def stamp(self) -> Stamp:
        """The time of its last change in ns, and its size."""
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size

    def tag(self) -> str:
        """The times of its content and of its inode, the inode's number, and the size."""
        status = self.path.stat()
        return f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}-{status.st_size}"

    @contextmanager
    def head(self) -> Iterator[Path]:
        """The file itself. Raises NotAFileError for a pipe: reading a pipe would block."""
        if self.path.exists() and not self.path.is_file():
            raise NotAFileError(self.path)
        yield self.path

    @contextmanager
    def content(self) -> Iterator[Content]:
        """The file itself."""
        yield Content(self.path)


@dataclass(frozen=True)
class StoredPhoto:
    """A photo in an object store, as it was listed."""

    store: Store
    listed: StoredFile

    def stamp(self) -> Stamp:
        """The object's tag when it was listed: what is read is compared with it."""
        return self.listed.tag, self.listed.size

    def tag(self) -> str:
        """The same as a text."""
        return f"{self.listed.tag}-{self.listed.size}"

    @contextmanager
    def head(self) -> Iterator[Path]:
        """A file of the object's size that has its metadata: of a JPEG the first part, and holes in place of pixels."""
        name, size = self.listed.name, self.listed.size
        start = self.store.read_start(name, min(_HEAD_BYTES, size)) if size else b""
        with _temporary(name) as path:
            if len(start) < size and not _has_all_metadata(start):
                self._require_same(self.store.fetch(name, path))
            else:
                with path.open("wb") as stream:
                    stream.write(start)
                    stream.truncate(size)
            yield path

    @contextmanager
    def content(self) -> Iterator[Content]:
        """The object in memory; a TIFF, which is read in windows, and a very large object in a temporary file."""
        name = self.listed.name
        if self.listed.size <= _MOST_IN_MEMORY:
            whole, found = self.store.read(name)
            self._require_same(found)
            if not is_tiff(whole):
                yield Content(whole)
                return
            with _temporary(name) as path:
                path.write_bytes(whole)
                yield Content(path)
            return
        with _temporary(name) as path:
            self._require_same(self.store.fetch(name, path))
            yield Content(path)

    def _require_same(self, found: StoredFile) -> None:
        if (found.tag, found.size) != (self.listed.tag, self.listed.size):
            raise ChangedPhotoError(self.listed.name)


@contextmanager
def _temporary(name: str) -> Iterator[Path]:
    """The path of a new file with the same suffix, by which kinds of raw files are told apart."""
    with tempfile.TemporaryDirectory(prefix="transect-photo-") as folder:
        yield Path(folder) / f"photo{PurePosixPath(name).suffix}"


def _has_all_metadata(start: bytes) -> bool:
    """Whether the start of a file is that of a JPEG up to its pixels (ITU-T T.81, annex B)."""
    if not start.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 4 <= len(start):
        if start[at] != 0xFF:
            return False
        marker = start[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return True
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(start[at + 2 : at + 4], "big")
    return False
