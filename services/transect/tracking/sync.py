"""`transect runs sync`: deliver every spool under TRANSECT_HOME, after MLflow, a trainer or a census was away."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from transect.errors import TransectError
from transect.registry import Registry, connect
from transect.settings import Settings
from transect.tracking.census_log import deliver_census, remove_cut_off, waiting_censuses
from transect.tracking.delivery import Delivery
from transect.tracking.run_history import RunHistory
from transect.tracking.spool import Spool

logger = logging.getLogger(__name__)

SWEEPS = "sweeps"


@dataclass(frozen=True)
class SpoolReport:
    """One run: how many entries were `delivered` now, how many are `left`, and a sentence for the user."""

    folder: Path
    run_id: str
    delivered: int
    left: int
    sentence: str


@dataclass(frozen=True)
class SyncReport:
    """One report for each run that had entries to deliver."""

    runs: tuple[SpoolReport, ...]

    @property
    def complete(self) -> bool:
        """Whether MLflow has everything now."""
        return all(run.left == 0 for run in self.runs)


def run_folders(settings: Settings) -> list[Path]:
    """The folders of trainings that have a spool, oldest first."""
    root = settings.home / "train"
    return sorted(folder for folder in root.glob("*") if Spool.exists(folder))


def spool_folders(settings: Settings) -> list[Path]:
    """Every folder with a spool: sweeps first, since MLflow needs the parent run before its trials."""
    sweeps = sorted(folder for folder in (settings.home / SWEEPS).glob("*") if Spool.exists(folder))
    return [*sweeps, *run_folders(settings)]


def sync_spools(settings: Settings) -> SyncReport:
    """Deliver every spool of a training, a sweep or a census under TRANSECT_HOME, and register pending models.

    A run whose trainer was killed ends as KILLED, or as FINISHED when only its registration was
    missing. A spool that another process has locked is skipped; one that cannot be delivered is
    reported with the reason and stays as it is. Idempotent.
    Raises RegistryError when there are entries to deliver and MLflow cannot be reached.
    """
    registry: Registry | None = None
    reports = []
    for folder in spool_folders(settings):
        spool = Spool(folder)
        with spool.lock() as mine:
            if not mine:
                reports.append(_locked_report(spool))
                continue
            # The previous holder of the lock may have delivered entries.
            spool = Spool(folder)
            _end_killed_run(spool)
            if spool.next() is None:
                continue
            registry = registry or connect(settings)
            reports.append(_deliver(spool, settings, registry))
    remove_cut_off(settings)
    for folder in waiting_censuses(settings):
        registry = registry or connect(settings)
        reports.append(_deliver_census(folder, registry))
    return SyncReport(tuple(reports))


def _end_killed_run(spool: Spool) -> None:
    """Journal the final status of a run whose process was killed."""
    history = RunHistory.read(spool)
    if not history.status:
        status = "FINISHED" if history.registering else "KILLED"
        spool.append("status", f"status {status}", status=status, time=int(time.time() * 1000))


def _deliver(spool: Spool, settings: Settings, registry: Registry) -> SpoolReport:
    refused = len(spool.state.rejected)
    delivery = Delivery(spool, settings, registry)
    waiting, why = len(spool.pending()), ""
    try:
        while delivery.send_next():
            pass
    except TransectError as error:
        why = str(error)
    left = len(spool.pending())
    delivered = waiting - left
    name, run_id = spool.run_folder.name, spool.state.run_id
    if left:
        sentence = f"{name}: {left} entries are not delivered and stay in {spool.folder}: {why}"
    else:
        version = f"; registered version {spool.state.version}" if spool.state.version else ""
        sentence = f"{name}: delivered {delivered} entries to run {run_id}{version}."
    if rejected := spool.state.rejected[refused:]:
        sentence += f" MLflow refused: {'; '.join(rejected)}."
    return SpoolReport(spool.run_folder, run_id, delivered, left, sentence)


def _deliver_census(folder: Path, registry: Registry) -> SpoolReport:
    try:
        run_id = deliver_census(folder, registry)
    except TransectError as error:
        sentence = f"{folder.name}: the census is not delivered and stays in {folder}: {error}"
        return SpoolReport(folder, "", 0, 1, sentence)
    if not run_id:
        return SpoolReport(folder, "", 0, 0, f"{folder.name}: a census is being logged just now.")
    return SpoolReport(folder, run_id, 1, 0, f"{folder.name}: delivered the census to run {run_id}.")


def _locked_report(spool: Spool) -> SpoolReport:
    sentence = f"{spool.run_folder.name}: it is training, or being delivered, just now."
    return SpoolReport(spool.run_folder, spool.state.run_id, 0, 0, sentence)


def undelivered_sentence(folder: Path, count: int, reason: str) -> str:
    """The message for a run that MLflow does not have in full."""
    because = f" ({reason.rstrip('.')})" if reason else ""
    return (
        f"MLflow lacks {count} entries of {folder.name}{because}; they are kept in {folder / 'spool'}: "
        "deliver them with: transect runs sync"
    )
