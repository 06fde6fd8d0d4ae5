"""Clean-up of MLflow runs: select those that may be deleted, give the reason for each that must stay, delete.

MLflow's delete hides a run, and can be undone. docs/tracking.md explains how to free the space and
what that removes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from transect.errors import InputError
from transect.progress import progress
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.names import CENSUS_EXPERIMENT, TAG_MODEL_RUN, TAG_VERDICT_RUN
from transect.registry.client.queries import all_versions, stored_files
from transect.registry.runs.search import RunRow, list_runs
from transect.registry.versions.registry import Registry

# Tags that name another run which a run depends on.
_PARENTS = ("transect.parent_run", "mlflow.parentRunId", "transect.reproduces")
# Tags of a run of the experiment `promotion` that name the trainings it decided about.
_DECIDED = ("transect.candidate_run", "transect.production_run", "transect.rolled_back_run")
_STATUSES = ("FINISHED", "FAILED", "KILLED")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d+)([hdw])")


@dataclass(frozen=True)
class CleanRule:
    """Selects runs that ended in one of `statuses` more than `older_than` ago and are not among the newest `keep`.

    `keep` counts the runs with such a status in each experiment. `experiment` is a name; empty means all.
    """

    statuses: frozenset[str]
    older_than: timedelta
    keep: int = 0
    experiment: str = ""

    @classmethod
    def parse(cls, statuses: str, older_than: str, keep: int = 0, experiment: str = "") -> "CleanRule":
        """Parse a rule from texts such as failed,killed and 30d. Raises InputError."""
        wanted = frozenset(word.strip().upper() for word in statuses.split(",") if word.strip())
        if unknown := sorted(wanted - set(_STATUSES)):
            known = ", ".join(_STATUSES).lower()
            raise InputError(f"--status {unknown[0].lower()} is not usable: give some of {known}, with commas between.")
        if not wanted:
            raise InputError("--status names nothing; give some of finished, failed, killed.")
        age = _AGE.fullmatch(older_than.strip())
        if age is None:
            raise InputError(f"--older-than {older_than!r} is not usable: give hours, days or weeks, such as 12h, 30d.")
        try:
            return cls(wanted, timedelta(**{_UNITS[age[2]]: int(age[1])}), keep, experiment)
        except OverflowError as error:
            raise InputError(f"--older-than {older_than} is longer than any run is old; give less.") from error


@dataclass(frozen=True)
class RemovableRun:
    """A run that may be deleted, and the bytes of its files."""

    run: RunRow
    size: int


@dataclass(frozen=True)
class Cleaning:
    """Runs that may be deleted, and runs that the rule selects but that must stay, with the reason."""

    removable: tuple[RemovableRun, ...]
    kept: tuple[tuple[RunRow, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all files that may be deleted."""
        return sum(one.size for one in self.removable)


def plan_cleaning(
    registry: Registry, rule: CleanRule, protected: Mapping[str, str] | None = None, *, now: datetime | None = None
) -> Cleaning:
    """Find runs that may be deleted; changes nothing.

    Never deleted: the run of a version of any registered model, a verdict or other decision about one,
    a finished census and the training of its model, a trial of an unfinished sweep, the runs in
    `protected` (run id to reason), and the parent of any run that stays.
    Raises NotRegisteredError for an experiment that does not exist, RegistryError.
    """
    rows = list_runs(registry, limit=0)
    wanted = rows
    if rule.experiment:
        wanted = list_runs(registry, experiment=rule.experiment, limit=0)
    selected = _select(wanted, rule, now or datetime.now(UTC))
    reasons = {**_reasons(rows, _versions(registry)), **(protected or {})}
    _keep_dependencies(rows, selected, reasons)
    with (
        mlflow_errors_as(registry.uri, "measuring the files of runs"),
        progress("Measuring", len(selected) - sum(row.run_id in reasons for row in selected), "runs") as advance,
    ):
        removable = []
        for row in selected:
            if row.run_id not in reasons:
                size = sum(int(info.file_size or 0) for info in stored_files(registry.client, row.run_id))
                removable.append(RemovableRun(row, size))
                advance()
    kept = tuple((row, reasons[row.run_id]) for row in selected if row.run_id in reasons)
    return Cleaning(tuple(removable), kept)


def clean_runs(
    registry: Registry, cleaning: Cleaning, rule: CleanRule
) -> tuple[list[RunRow], list[tuple[RunRow, str]]]:
    """Delete the removable runs of `cleaning`; returns the deleted ones, and those that stay with the reason.

    Each is checked again just before and just after: a run that resumed or made a version in between
    stays, or is restored. Raises RegistryError.
    """
    deleted: list[RunRow] = []
    stayed: list[tuple[RunRow, str]] = []
    with progress("Removing", len(cleaning.removable), "runs") as advance:
        for one in cleaning.removable:
            row = one.run
            with mlflow_errors_as(registry.uri, f"deleting run {row.run_id}"):
                why = _delete(registry.client, row.run_id, rule)
            if why:
                stayed.append((row, why))
            else:
                deleted.append(row)
            advance()
    return deleted, stayed


def _delete(client: MlflowClient, run_id: str, rule: CleanRule) -> str:
    """Delete a run; returns the reason if it stays, else an empty string."""
    info = client.get_run(run_id).info
    if info.lifecycle_stage != "active":
        return "it was deleted meanwhile"
    if info.status not in rule.statuses:
        return f"it is {info.status} now"
    if made := _version_made_by(client, run_id):
        return f"{made} meanwhile"
    client.delete_run(run_id)
    if made := _version_made_by(client, run_id):
        client.restore_run(run_id)
        return f"{made} meanwhile"
    return ""


def _version_made_by(client: MlflowClient, run_id: str) -> str:
    versions = client.search_model_versions(f"run_id = '{run_id}'", max_results=1)
    return f"it made {versions[0].name} version {versions[0].version}" if versions else ""


def _select(rows: Sequence[RunRow], rule: CleanRule, now: datetime) -> list[RunRow]:
    """The runs that `rule` selects, newest first in each experiment."""
    selected: list[RunRow] = []
    seen: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: row.started, reverse=True):
        if row.status not in rule.statuses:
            continue
        seen[row.experiment] = seen.get(row.experiment, 0) + 1
        if seen[row.experiment] > rule.keep and now - (row.ended or row.started) >= rule.older_than:
            selected.append(row)
    return selected


def _versions(registry: Registry) -> list[ModelVersion]:
    """All versions of all registered models."""
    with mlflow_errors_as(registry.uri, "listing the registered versions"):
        return all_versions(registry.client)


def _reasons(rows: Iterable[RunRow], versions: Iterable[ModelVersion]) -> dict[str, str]:
    """The reason to keep a run by its id, for its kind and for its versions."""
    reasons: dict[str, str] = {}
    made: dict[str, str] = {}
    for version in versions:
        name = f"{version.name} version {version.version}"
        if version.run_id:
            made.setdefault(version.run_id, name)
        if verdict := version.tags.get(TAG_VERDICT_RUN):
            reasons[verdict] = f"it is the verdict on {name}"
    for row in rows:
        decided = [made[run_id] for name in _DECIDED if (run_id := row.tags.get(name, "")) in made]
        if decided:
            reasons.setdefault(row.run_id, f"it is a decision about {decided[0]}")
        if row.experiment == CENSUS_EXPERIMENT and row.status == "FINISHED":
            reasons[row.run_id] = "it is a census, whose results may be in use"
            if trained := row.tags.get(TAG_MODEL_RUN):
                reasons.setdefault(trained, f"the census {row.name} counted with its model")
    return reasons | {run_id: f"it made {name}" for run_id, name in made.items()}


def _keep_dependencies(rows: Sequence[RunRow], selected: Sequence[RunRow], reasons: dict[str, str]) -> None:
    """Add the dependencies of the runs that stay to `reasons`, until nothing changes."""
    known = {row.run_id: row for row in rows}
    candidates = {row.run_id for row in selected}
    found = True
    while found:
        removable = candidates - set(reasons)
        kept = [row for run_id, row in known.items() if run_id not in removable]
        parents = {
            parent: f"{row.name or row.run_id}, which stays, names it as its parent"
            for row in kept
            for name in _PARENTS
            if (parent := row.tags.get(name, "")) in removable
        }
        trials = {
            run_id: f"it is a trial of {sweep.name or sweep.run_id}, which is not finished"
            for run_id in removable
            if (sweep := known.get(known[run_id].tags.get("mlflow.parentRunId", ""))) is not None
            and sweep.run_id not in removable
            and sweep.status != "FINISHED"
        }
        found = bool(parents or trials)
        reasons |= trials | parents
