"""The log of a census, on disk before it is sent to MLflow, so that it can be delivered later.

A census that waits is a spool in TRANSECT_HOME/census: one journal entry, and copies of its files as they were. The
entry is written last, so a spool without it was cut off. One lock lets one process store and deliver at a time.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transect.errors import InputError, RegistryError
from transect.files import locked, locked_if_free
from transect.redaction import values_without_secrets
from transect.registry import CensusRun, Registry, connect
from transect.settings import Settings
from transect.tracking.spool import Spool

_FOLDER, _LOCK, _KIND = "census", "lock", "census"
_NOT_IN_FILE_NAMES = re.compile(r"[^\w-]+")
_LONGEST_NAME = 40


def log_census(run: CensusRun, settings: Settings) -> str:
    """Log a finished census, whose artifacts are files, and return the id of its run in MLflow; once, however often.

    Waits while another census of this TRANSECT_HOME is logged. Raises RegistryError when MLflow does not take it: the
    spool that the message names then keeps it, and `transect runs sync` or another call delivers it. Raises InputError
    when the spool cannot be written.
    """
    root = settings.home / _FOLDER
    with _locked(root):
        folder = _store(run, root)
        try:
            run_id = connect(settings).log_census_run(run)
        except RegistryError as error:
            raise type(error)(
                f"{error} What MLflow lacks is kept in {folder}; deliver it with: transect runs sync."
            ) from error
        _remove(folder)
    return run_id


def waiting_censuses(settings: Settings) -> list[Path]:
    """The folders of censuses that MLflow may lack, by name."""
    return sorted(folder for folder in (settings.home / _FOLDER).glob("*") if Spool.exists(folder))


def deliver_census(folder: Path, registry: Registry) -> str:
    """Log the census that waits in `folder`, and remove the folder; the run's id.

    Empty when another process logs a census just now, or has logged this one. Raises RegistryError when MLflow does not
    take it; then it still waits.
    """
    with locked_if_free(folder.parent / _LOCK) as mine:
        if not mine or not Spool.exists(folder):
            return ""
        run_id = registry.log_census_run(_read(Spool(folder)))
        _remove(folder)
    return run_id


def remove_cut_off(settings: Settings) -> None:
    """Remove what processes left that were killed while they stored a census; its results are elsewhere."""
    root = settings.home / _FOLDER
    if not root.is_dir():
        return
    with locked_if_free(root / _LOCK) as mine:
        for folder in root.glob("*/") if mine else ():
            if not Spool.exists(folder):
                shutil.rmtree(folder)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock on all censuses of a TRANSECT_HOME."""
    try:
        root.mkdir(parents=True, mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root} cannot be made: {error.strerror}; set TRANSECT_HOME.") from error
    with locked(root / _LOCK):
        yield


def _store(run: CensusRun, root: Path) -> Path:
    """The folder of the run's spool, written unless it is there; the caller holds the lock."""
    folder = root / _folder_name(run)
    if Spool.exists(folder):
        return folder
    try:
        # A process that was killed may have left a part.
        shutil.rmtree(folder, ignore_errors=True)
        spool = Spool.create(folder)
        files = [spool.store_file(path) for path in run.artifacts]
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"{folder} cannot take the files for MLflow: {error.strerror or error}; free the disk and run the same "
            "command again, or set TRANSECT_HOME."
        ) from error
    spool.append(
        _KIND,
        f"census {run.name}",
        name=run.name,
        params=values_without_secrets(run.params),
        metrics=dict(run.metrics),
        tags=values_without_secrets(run.tags),
        files=files,
    )
    return folder


def _read(spool: Spool) -> CensusRun:
    entry = spool.next()
    if entry is None or entry.kind != _KIND:
        raise RegistryError(
            f"{spool.journal} is no census that this version of Transect can read; remove {spool.run_folder}, and run "
            "the census again."
        )
    files = tuple(spool.stored_path(file) for file in entry.data["files"])
    content = {key: entry.data[key] for key in ("name", "params", "metrics", "tags")}
    return CensusRun(**content, artifacts=files)


def _folder_name(run: CensusRun) -> str:
    """The survey's name for people, and a hash that the same results have again."""
    digest = hashlib.sha256(json.dumps([run.name, *sorted(run.tags.items())]).encode()).hexdigest()
    return f"{_NOT_IN_FILE_NAMES.sub('_', run.name)[:_LONGEST_NAME]}-{digest[:12]}"


def _remove(folder: Path) -> None:
    # Without its journal it is no spool: a kill leaves a whole one, or none.
    Spool(folder).journal.unlink()
    shutil.rmtree(folder)
