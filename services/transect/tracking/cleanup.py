"""The folders of trainings under TRANSECT_HOME: which of them MLflow has in full, so that they may go."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run

from transect.registry import CleanRule, Registry
from transect.registry.client.connection import translated
from transect.registry.client.queries import run_or_none
from transect.settings import Settings
from transect.tracking.run_history import History
from transect.tracking.spool import Spool
from transect.tracking.sync import run_folders, spool_folders

_IN_USE = "it is training, or being delivered, just now"


@dataclass(frozen=True)
class Leftover:
    """The folder of a training that may go, and its bytes."""

    folder: Path
    size: int


@dataclass(frozen=True)
class Leftovers:
    """What may go, and what the rule names too but has to stay, with the reason."""

    going: tuple[Leftover, ...]
    staying: tuple[tuple[Path, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all that may go."""
        return sum(one.size for one in self.going)


def undelivered_runs(settings: Settings) -> dict[str, str]:
    """Runs of which MLflow does not have everything, by their ids, with the reason why they must not go there."""
    found = {}
    for folder in spool_folders(settings):
        spool = Spool(folder)
        if spool.state.run_id and spool.next() is not None:
            found[spool.state.run_id] = f"{folder.name} has more to tell about it: transect runs sync"
    return found


def plan_leftovers(
    settings: Settings, registry: Registry, rule: CleanRule, *, now: datetime | None = None
) -> Leftovers:
    """Look for folders of trainings that may go; changes nothing.

    Never goes: a folder in use, one with something that MLflow does not have or refused, one whose run
    is not in MLflow any more, and a trial of a sweep that is not finished. A run's age counts from what
    it told last. Raises RegistryError.
    """
    now = now or datetime.now(UTC)
    seen: dict[str, int] = {}
    going: list[Leftover] = []
    staying: list[tuple[Path, str]] = []
    for folder in reversed(run_folders(settings)):
        spool = Spool(folder)
        history = History.read(spool)
        if history.status and history.status not in rule.statuses:
            continue
        if rule.experiment and history.experiment != rule.experiment:
            continue
        seen[history.experiment] = seen.get(history.experiment, 0) + 1
        if seen[history.experiment] <= rule.keep or now - _last_told(spool) < rule.older_than:
            continue
        if why := _IN_USE if _in_use(spool) else _why_it_stays(spool, registry):
            staying.append((folder, why))
        else:
            going.append(Leftover(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())))
    return Leftovers(tuple(going), tuple(staying))


def remove_leftovers(registry: Registry, leftovers: Leftovers) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Remove the folders that `leftovers` lets go: those that are removed, and those that stay after all and why."""
    gone: list[Path] = []
    stayed: list[tuple[Path, str]] = []
    for leftover in leftovers.going:
        spool = Spool(leftover.folder)
        with spool.lock() as mine:
            # Whoever had the lock until now may have added something.
            if why := _why_it_stays(Spool(leftover.folder), registry) if mine else _IN_USE:
                stayed.append((leftover.folder, why))
                continue
            _remove(spool)
        gone.append(leftover.folder)
    return gone, stayed


def _why_it_stays(spool: Spool, registry: Registry) -> str:
    """Why the folder of this spool must not go; empty when it may."""
    if not History.read(spool).status:
        return "it was cut off: transect runs sync ends it, --resume goes on with it"
    if left := len(spool.pending()):
        return f"{left} entries are not delivered: transect runs sync"
    if spool.state.rejected:
        return f"MLflow refused {len(spool.state.rejected)} entries, which are nowhere else"
    with translated(registry.uri, f"looking up run {spool.state.run_id}"):
        run = _run(registry, spool.state.run_id)
        if run is None:
            return f"MLflow has no run {spool.state.run_id} any more, so that this is all there is of it"
        sweep = _run(registry, run.data.tags.get("mlflow.parentRunId", ""))
        if sweep is not None and sweep.info.status != "FINISHED":
            return f"it is a trial of {sweep.info.run_name}, which is not finished"
    return ""


def _in_use(spool: Spool) -> bool:
    with spool.lock() as mine:
        return not mine


def _run(registry: Registry, run_id: str) -> Run | None:
    """A run that is in MLflow and not deleted."""
    run = run_or_none(registry.client, run_id)
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def _last_told(spool: Spool) -> datetime:
    return datetime.fromtimestamp(spool.journal.stat().st_mtime, UTC)


def _remove(spool: Spool) -> None:
    """Remove the folder of a spool; one that is killed on the way leaves it as it was but for other files, or none."""
    for path in spool.run_folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path != spool.folder:
                shutil.rmtree(path)
        else:
            path.unlink()
    # Without its journal it is no spool any more; with a journal and no state everything would be told once more.
    spool.journal.unlink()
    shutil.rmtree(spool.run_folder)
