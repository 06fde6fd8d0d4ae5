"""A store in a folder of this machine, or of a file system that several machines share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from transect.files import atomic_path, atomic_write, locked
from transect.stores.store import StoredFile

_LOCK = ".store.lock"


class FolderStore:
    """A folder, made when the first file is written. Hidden files and folders are not its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self.folder)

    def files(self, below: str = "") -> Iterator[StoredFile]:
        """See Store.files()."""
        for place, folders, names in os.walk(self.folder / below):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(place) / name
                if not name.startswith("."):
                    try:
                        yield self._stored(path)
                    except FileNotFoundError:
                        continue  # removed since it was listed

    def stat(self, name: str) -> StoredFile:
        """See Store.stat()."""
        return self._stored(self._path(name))

    def read(self, name: str) -> tuple[bytes, StoredFile]:
        """See Store.read()."""
        path = self._path(name)
        found = self._stored(path)
        return path.read_bytes(), found

    def read_start(self, name: str, size: int) -> bytes:
        """See Store.read_start()."""
        with self._path(name).open("rb") as stream:
            return stream.read(size)

    def fetch(self, name: str, target: Path) -> StoredFile:
        """See Store.fetch()."""
        path = self._path(name)
        found = self._stored(path)
        with path.open("rb") as stream, target.open("wb") as copy:
            while chunk := stream.read(1 << 20):
                copy.write(chunk)
        return found

    def write(self, name: str, content: bytes) -> StoredFile:
        """See Store.write()."""
        path = self._path(name)
        atomic_write(path, content)
        return self._stored(path)

    def create(self, name: str, content: bytes) -> bool:
        """See Store.create()."""
        path = self._path(name)
        with self._locked():
            if path.exists():
                return False
            atomic_write(path, content)
        return True

    def replace(self, name: str, content: bytes, tag: str) -> bool:
        """See Store.replace()."""
        path = self._path(name)
        with self._locked():
            try:
                if self._stored(path).tag != tag:
                    return False
            except FileNotFoundError:
                return False
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        return True

    def remove(self, name: str) -> None:
        """See Store.remove()."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise ValueError(f"{name!r} is no name of a file in a store")
        return self.folder.joinpath(*parts)

    def _stored(self, path: Path) -> StoredFile:
        status = path.stat()
        # The time of the last change of the inode cannot be set back, as that of the content can.
        tag = f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
        return StoredFile(path.relative_to(self.folder).as_posix(), status.st_size, tag)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the writers that look before they write; NFS passes such locks between machines too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / _LOCK):
            yield
