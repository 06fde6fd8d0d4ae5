"""The interface of a store: named files that are written whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StoredFile:
    """A file of a store: its name below the store's address, with forward slashes, and its size in bytes.

    `tag` changes whenever the content does: the ETag of an object, the times and inode of a file.
    """

    name: str
    size: int
    tag: str


class Store(Protocol):
    """Named files below one address. Safe to use from several threads.

    Methods raise FileNotFoundError for a missing file, PermissionError for one that may not be read or written, another
    OSError where a folder fails, and StoreError where an object store does not answer or refuses for long.
    """

    @property
    def address(self) -> str:
        """The address, without credentials."""

    def files(self, below: str = "") -> Iterator[StoredFile]:
        """Every file whose name begins with the folder `below`, in no particular order; none where it is missing."""

    def stat(self, name: str) -> StoredFile:
        """Size and tag of a file."""

    def read(self, name: str) -> tuple[bytes, StoredFile]:
        """The whole content of a file, with the size and tag that it had when it was read."""

    def read_start(self, name: str, size: int) -> bytes:
        """The first `size` bytes of a file, or all of a shorter one."""

    def fetch(self, name: str, target: Path) -> StoredFile:
        """Write a file's content to `target` without holding it in memory; size and tag as read() gives them."""

    def write(self, name: str, content: bytes) -> StoredFile:
        """Write a file, whole or not at all; one that exists is replaced."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file only if there is none of this name; whether it was written. Of several writers one succeeds."""

    def replace(self, name: str, content: bytes, tag: str) -> bool:
        """Write a file only if it still has this tag; whether it was written. Of several writers one succeeds."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is missing is no error."""
