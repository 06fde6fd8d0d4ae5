"""Clean-up of run folders under TRANSECT_HOME: those that MLflow has in full may be removed."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run

from transect.registry import CleanRule, Registry
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.queries import run_or_none
from transect.settings import Settings
from transect.tracking.run_history import RunHistory
from transect.tracking.spool import Spool
from transect.tracking.sync import run_folders, spool_folders

_IN_USE = "it is training, or being delivered, just now"


@dataclass(frozen=True)
class RemovableRunFolder:
    """The folder of a training that may be removed, and its size in bytes."""

    folder: Path
    size: int


@dataclass(frozen=True)
class RemovableRunFolders:
    """The folders that may be removed, and those that match the rule but must be kept, with the reason."""

    removable: tuple[RemovableRunFolder, ...]
    kept: tuple[tuple[Path, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all removable folders."""
        return sum(one.size for one in self.removable)


def undelivered_runs(settings: Settings) -> dict[str, str]:
    """Runs that MLflow does not have in full, by id, with the reason why they must not be deleted there."""
    found = {}
    for folder in spool_folders(settings):
        spool = Spool(folder)
        if spool.state.run_id and spool.next() is not None:
            found[spool.state.run_id] = f"{folder.name} has entries of it that are not delivered: transect runs sync"
    return found


def find_removable_folders(
    settings: Settings, registry: Registry, rule: CleanRule, *, now: datetime | None = None
) -> RemovableRunFolders:
    """Find folders of trainings that may be removed; changes nothing.

    Always kept: a folder in use, one with entries that MLflow lacks or refused, one whose run
    is not in MLflow any more, and a trial of a sweep that is not finished. A run's age counts from its
    last journal entry. Raises RegistryError.
    """
    now = now or datetime.now(UTC)
    seen: dict[str, int] = {}
    removable: list[RemovableRunFolder] = []
    kept: list[tuple[Path, str]] = []
    for folder in reversed(run_folders(settings)):
        spool = Spool(folder)
        history = RunHistory.read(spool)
        if history.status and history.status not in rule.statuses:
            continue
        if rule.experiment and history.experiment != rule.experiment:
            continue
        seen[history.experiment] = seen.get(history.experiment, 0) + 1
        if seen[history.experiment] <= rule.keep or now - _last_entry_time(spool) < rule.older_than:
            continue
        if why := _IN_USE if _in_use(spool) else _why_kept(spool, registry):
            kept.append((folder, why))
        else:
            removable.append(
                RemovableRunFolder(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
            )
    return RemovableRunFolders(tuple(removable), tuple(kept))


def remove_run_folders(registry: Registry, folders: RemovableRunFolders) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Remove the removable `folders`; returns those removed, and those kept after all with the reason."""
    removed: list[Path] = []
    kept: list[tuple[Path, str]] = []
    for run_folder in folders.removable:
        spool = Spool(run_folder.folder)
        with spool.lock() as mine:
            # The previous holder of the lock may have added entries.
            if why := _why_kept(Spool(run_folder.folder), registry) if mine else _IN_USE:
                kept.append((run_folder.folder, why))
                continue
            _remove(spool)
        removed.append(run_folder.folder)
    return removed, kept


def _why_kept(spool: Spool, registry: Registry) -> str:
    """Why the folder of this spool must be kept; empty when it may be removed."""
    if not RunHistory.read(spool).status:
        return "it was cut off: transect runs sync ends it, --resume resumes it"
    if left := len(spool.pending()):
        return f"{left} entries are not delivered: transect runs sync"
    if spool.state.rejected:
        return f"MLflow refused {len(spool.state.rejected)} entries, which are nowhere else"
    with mlflow_errors_as(registry.uri, f"looking up run {spool.state.run_id}"):
        run = _run(registry, spool.state.run_id)
        if run is None:
            return f"MLflow has no run {spool.state.run_id} any more, so that this is its only copy"
        sweep = _run(registry, run.data.tags.get("mlflow.parentRunId", ""))
        if sweep is not None and sweep.info.status != "FINISHED":
            return f"it is a trial of {sweep.info.run_name}, which is not finished"
    return ""


def _in_use(spool: Spool) -> bool:
    with spool.lock() as mine:
        return not mine


def _run(registry: Registry, run_id: str) -> Run | None:
    """The run if MLflow has it and it is not deleted."""
    run = run_or_none(registry.client, run_id)
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def _last_entry_time(spool: Spool) -> datetime:
    return datetime.fromtimestamp(spool.journal.stat().st_mtime, UTC)


def _remove(spool: Spool) -> None:
    """Remove a run folder, its spool last: a kill leaves a whole spool, or none."""
    for path in spool.run_folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path != spool.folder:
                shutil.rmtree(path)
        else:
            path.unlink()
    # Without its journal it is no spool; with a journal and no state everything would be sent again.
    spool.journal.unlink()
    shutil.rmtree(spool.run_folder)
