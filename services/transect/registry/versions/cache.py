"""Cache of verified model packages, and of the last version of each alias.

Layout below TRANSECT_HOME/cache/models, one folder a model name::

    NAME/3-0f8a1c2b9d4e/      version 3, package hash 0f8a1c2b9d4e...: a complete, verified package
    NAME/.3-0f8a1c2b9d4e.tensorrt/  engines that TensorRT built for it
    NAME/alias-production.json  the version of `production` at the last `remember`
    NAME/.in-use/3-0f8a1c2b9d4e   locked by each process that serves the version
    .incoming/                  downloads and removals in progress; leftovers of killed processes are removed at start
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from transect.engine import (
    ModelRef,
    PackageManifest,
    package_sha256,
    read_manifest,
    tensorrt_folder,
    unlisted_files,
    verify_package,
)
from transect.errors import PackageError, RegistryError
from transect.files import atomic_write_json, locked, locked_if_free

_log = logging.getLogger(__name__)
_IN_USE = ".in-use"


@dataclass(frozen=True, kw_only=True)
class ResolvedVersion:
    """One registered version, as MLflow described it at the time of the request.

    `source` is the URI of its files, `package_sha256` the hash written at registration, `alias` the
    requested alias (None if a version number was requested).
    """

    name: str
    version: str
    run_id: str
    source: str
    package_sha256: str
    aliases: tuple[str, ...] = ()
    alias: str | None = None
    tags: dict[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    @property
    def ref(self) -> ModelRef:
        """The reference to this version in results."""
        return ModelRef(name=self.name, version=self.version, run_id=self.run_id)


class LocalCache:
    """The cache folder; several processes may share it."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir / "models"

    def get(self, resolved: ResolvedVersion) -> Path | None:
        """The folder of `resolved` if it is cached and passes verification, else None."""
        folder = self._folder(resolved)
        if not folder.is_dir():
            return None
        # Before schema 3 the engines were inside the package, where verification now rejects them.
        shutil.rmtree(folder / "tensorrt", ignore_errors=True)
        try:
            _check(folder, resolved)
        except PackageError as error:
            _log.warning("%s in the cache is damaged and is fetched again: %s", resolved, error)
            return None
        # The modification time records the last use; a read-only cache is never pruned.
        with suppress(OSError):
            os.utime(folder)
        return folder

    def put(self, resolved: ResolvedVersion, download: Callable[[Path], Path]) -> Path:
        """Download a package into the cache: verify it, and keep the files that its package.json lists.

        `download` fills an empty folder and returns the package's. The package is complete or absent: it is
        renamed into place only after verification. If two processes add the same version, the first wins
        and the other discards its copy. Raises PackageError if the files are not those that were registered.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self.clean()
        with self._incoming() as scratch:
            fetched = download(scratch)
            for name in unlisted_files(fetched, _check(fetched, resolved)):
                (fetched / name).unlink()
            return self._move_in(fetched, resolved)

    def peek(self, resolved: ResolvedVersion, download: Callable[[Path], Path]) -> PackageManifest:
        """Read the manifest of `resolved` from a folder that `download` fills with package.json alone."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._incoming() as scratch:
            folder = download(scratch)
            _check_identity(folder, resolved)
            return read_manifest(folder)

    def clean(self) -> None:
        """Remove leftovers of killed downloads, unless a live process is downloading now."""
        incoming = self.root / ".incoming"
        if not incoming.is_dir():
            return
        with locked_if_free(self.root / ".lock") as alone:
            if alone:
                shutil.rmtree(incoming)

    def remember(self, resolved: ResolvedVersion) -> None:
        """Record that `resolved.alias` names this version, which is cached and known to run.

        Does nothing for a version that was not resolved by an alias.
        """
        if resolved.alias is not None:
            atomic_write_json(self._alias_file(resolved.name, resolved.alias), asdict(resolved))

    def last_known(self, name: str, alias: str) -> tuple[ResolvedVersion, Path] | None:
        """The version last recorded for `alias` of model `name`, verified again; None if missing or damaged."""
        resolved = self._read_note(self._alias_file(name, alias))
        folder = None if resolved is None else self.get(resolved)
        return None if resolved is None or folder is None else (resolved, folder)

    def in_use(self, resolved: ResolvedVersion) -> AbstractContextManager[None]:
        """Prevent all processes from pruning this version for the duration of a `with` block, or of the process."""
        marks = self._model_folder(resolved.name) / _IN_USE
        marks.mkdir(parents=True, exist_ok=True)
        return locked(marks / self._folder(resolved).name, shared=True)

    def prune(self, name: str, keep: int) -> list[Path]:
        """Remove all but the `keep` most recently used versions of model `name`; returns the removed folders.

        Versions recorded for an alias or in use by any process stay. If killed, it leaves each version
        complete or absent.
        """
        model = self._model_folder(name)
        # Another process may prune a folder meanwhile.
        found = sorted(_by_last_use(model), reverse=True)
        remembered = self._remembered(model)
        spare = [folder for _, folder in found[keep:] if folder.name not in remembered]
        return [folder for folder in spare if self._remove(folder)]

    def _remembered(self, model: Path) -> set[str]:
        notes = (self._read_note(note) for note in model.glob("alias-*.json"))
        return {self._folder(resolved).name for resolved in notes if resolved is not None}

    def _remove(self, folder: Path) -> bool:
        mark = folder.parent / _IN_USE / folder.name
        with ExitStack() as held:
            scratch = held.enter_context(self._incoming())
            mark.parent.mkdir(exist_ok=True)
            if not held.enter_context(locked_if_free(mark)):
                return False
            try:
                folder.rename(scratch / folder.name)
                with suppress(FileNotFoundError):
                    tensorrt_folder(folder).rename(scratch / "tensorrt")
            except OSError:
                return False
            mark.unlink(missing_ok=True)
        return True

    @contextmanager
    def _incoming(self) -> Iterator[Path]:
        with locked(self.root / ".lock", shared=True):
            incoming = self.root / ".incoming"
            incoming.mkdir(exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=incoming))
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _move_in(self, fetched: Path, resolved: ResolvedVersion) -> Path:
        folder = self._folder(resolved)
        folder.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                fetched.rename(folder)
            except OSError as error:
                if not folder.is_dir():
                    raise RegistryError(f"{folder} cannot be written: {error}. Check TRANSECT_HOME.") from error
            else:
                return folder
            if self.get(resolved) is not None:
                return folder
            with suppress(FileNotFoundError):
                folder.rename(fetched.with_name("damaged"))
        raise RegistryError(f"{folder} is damaged and cannot be replaced; remove it and try again.")

    def _folder(self, resolved: ResolvedVersion) -> Path:
        return self._model_folder(resolved.name) / f"{resolved.version}-{resolved.package_sha256[:12]}"

    def _read_note(self, note: Path) -> ResolvedVersion | None:
        try:
            content = json.loads(note.read_text(encoding="utf-8"))
            return ResolvedVersion(**{**content, "aliases": tuple(content["aliases"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("%s cannot be read and is not used: %s", note, error)
            return None

    def _alias_file(self, name: str, alias: str) -> Path:
        return self._model_folder(name) / f"alias-{quote(alias, safe='')}.json"

    def _model_folder(self, name: str) -> Path:
        # A name that consists of dots must not lead out of the cache.
        return self.root / quote(name, safe="").replace(".", "%2E")


def _by_last_use(model: Path) -> Iterator[tuple[float, Path]]:
    for folder in model.glob("[!.]*-*"):
        with suppress(OSError):
            if folder.is_dir():
                yield folder.stat().st_mtime, folder


def _check(folder: Path, resolved: ResolvedVersion) -> PackageManifest:
    manifest = verify_package(folder)
    _check_identity(folder, resolved)
    return manifest


def _check_identity(folder: Path, resolved: ResolvedVersion) -> None:
    if package_sha256(folder) != resolved.package_sha256:
        raise PackageError(
            f"The files of {resolved} are not the ones that were registered: package.json does not have "
            "the hash in the version's tag transect.package_sha256. Train again, or restore the artifacts."
        )
