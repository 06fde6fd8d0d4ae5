"""Runs from one MLflow to another: everything that was logged, once, however often it is copied."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from transect.errors import RegistryError
from transect.registry.connection import shown, translated
from transect.registry.names import TAG_COPY_OF, TAG_SOURCE_RUN
from transect.registry.store import Registry

# What one call of MLflow's batch endpoint takes.
_MAX_METRICS = 900
_MAX_TEXTS = 90
_PAGE = 1000
_FINAL = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Place:
    """One MLflow. `folder` is where the store lies, if it is a folder that may have been moved since it was made."""

    registry: Registry
    folder: Path | None = None

    def root(self, run: Run) -> str:
        """Where the artifacts of `run` are."""
        uri = str(run.info.artifact_uri)
        if self.folder is not None:
            # .../artifacts/EXPERIMENT/RUN/artifacts, as `Registry.experiment` and MLflow make it.
            parts = PurePosixPath(unquote(urlsplit(uri).path)).parts[-4:]
            moved = self.folder.absolute().joinpath(*parts)
            if moved.is_dir() or not Path(unquote(urlsplit(uri).path)).is_dir():
                return moved.as_uri()
        return uri

    def files(self, run: Run) -> ArtifactRepository:
        """The artifacts of `run`."""
        return get_artifact_repository(self.root(run), tracking_uri=self.registry.uri)


@dataclass
class CopiedRuns:
    """What was copied: runs that are new, that had changed, that were there already; and old ids with the new ones."""

    new: int = 0
    changed: int = 0
    same: int = 0
    ids: dict[str, str] = field(default_factory=dict)


def origin_of(run: Run) -> str:
    """The id of the run where it was first logged, however many copies lie between."""
    return str(run.data.tags.get(TAG_SOURCE_RUN) or run.info.run_id)


def all_runs(place: Place, experiment_id: str) -> list[Run]:
    """Every run of an experiment that is not deleted, oldest first."""
    client = place.registry.client
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], "", ViewType.ACTIVE_ONLY, _PAGE, ["attributes.start_time ASC"], page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def copy_run(
    source: Place, target: Place, run: Run, copied: CopiedRuns, *, experiment_id: str, known: Run | None
) -> None:
    """Bring `run` into an experiment of `target`, where `known` is its copy so far; nothing is written twice.

    A copy that was broken off is finished, one whose source changed since is brought up to date, and
    the original itself is left alone. Raises RegistryError.
    """
    old_id = run.info.run_id
    with translated(target.registry.uri, f"copying run {old_id}"):
        if known is not None and known.info.run_id == origin_of(run):
            # The run comes home.
            copied.same += 1
            copied.ids[old_id] = known.info.run_id
            return
        files = dict(_walk(source.files(run)))
        fingerprint = _fingerprint(run, files)
        if known is not None and known.data.tags.get(TAG_COPY_OF) == fingerprint:
            copied.same += 1
            copied.ids[old_id] = known.info.run_id
            return
        made = known or _create(target, run, experiment_id)
        copied.ids[old_id] = made.info.run_id
        broken_off = TAG_COPY_OF not in made.data.tags
        _copy_numbers(source, target, run, made.info.run_id)
        _copy_files(source.files(run), target.files(made), files, resume=broken_off)
        _check_files(target, made, files)
        _finish(target, run, made.info.run_id, fingerprint)
        if known is None or broken_off:
            copied.new += 1
        else:
            copied.changed += 1


def point_to_copies(target: Place, copied: CopiedRuns, runs: Sequence[Run]) -> None:
    """Let tags of the copies that named another copied run, such as a parent, name its copy."""
    for run in runs:
        for name, value in run.data.tags.items():
            if value in copied.ids and name != TAG_SOURCE_RUN and copied.ids[value] != value:
                with translated(target.registry.uri, f"linking the copy of run {run.info.run_id}"):
                    target.registry.client.set_tag(copied.ids[run.info.run_id], name, copied.ids[value])


def _create(target: Place, run: Run, experiment_id: str) -> Run:
    tags = {TAG_SOURCE_RUN: origin_of(run)}
    if user := run.data.tags.get("mlflow.user"):
        tags["mlflow.user"] = user
    return target.registry.client.create_run(
        experiment_id, start_time=run.info.start_time, tags=tags, run_name=run.info.run_name
    )


def _copy_numbers(source: Place, target: Place, run: Run, run_id: str) -> None:
    old, client = source.registry.client, target.registry.client
    metrics: list[Metric] = []
    for name in run.data.metrics:
        metrics += [
            Metric(name, one.value, one.timestamp, one.step) for one in old.get_metric_history(run.info.run_id, name)
        ]
    for start in range(0, len(metrics), _MAX_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _MAX_METRICS])
    params = [Param(name, value) for name, value in run.data.params.items()]
    tags = [RunTag(name, value) for name, value in run.data.tags.items() if name not in (TAG_COPY_OF, TAG_SOURCE_RUN)]
    for start in range(0, max(len(params), len(tags)), _MAX_TEXTS):
        part = slice(start, start + _MAX_TEXTS)
        client.log_batch(run_id, params=params[part])
        client.log_batch(run_id, tags=tags[part])
    if run.inputs is not None and run.inputs.dataset_inputs:
        client.log_inputs(run_id, datasets=run.inputs.dataset_inputs)


def _copy_files(source: ArtifactRepository, target: ArtifactRepository, files: Mapping[str, int], resume: bool) -> None:
    there = dict(_walk(target)) if resume else {}
    for name, size in files.items():
        if there.get(name) == size:
            continue
        with tempfile.TemporaryDirectory(prefix="transect-copy-") as scratch:
            parent = str(PurePosixPath(name).parent)
            target.log_artifact(source.download_artifacts(name, scratch), None if parent == "." else parent)


def _check_files(target: Place, run: Run, files: Mapping[str, int]) -> None:
    stored = dict(_walk(target.files(run)))
    for name, size in files.items():
        if stored.get(name) != size:
            raise RegistryError(
                f"{shown(target.registry.uri)} holds {stored.get(name, 0)} of the {size} bytes of {name} of run "
                f"{run.info.run_id}; look at its artifact store and run the same command again."
            )


def _finish(target: Place, run: Run, run_id: str, fingerprint: str) -> None:
    client = target.registry.client
    if run.info.status in _FINAL:
        client.set_terminated(run_id, status=run.info.status, end_time=run.info.end_time)
    else:
        client.update_run(run_id, status=run.info.status)
    client.set_tag(run_id, TAG_COPY_OF, fingerprint)


def _fingerprint(run: Run, files: Mapping[str, int]) -> str:
    """What changes when anything of the run changes; the history of a metric never changes but at its end."""
    info, data = run.info, run.data
    tags = {name: value for name, value in data.tags.items() if name != TAG_COPY_OF}
    told = [info.status, info.run_name, info.start_time, info.end_time, data.params, tags, data.metrics, dict(files)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _walk(files: ArtifactRepository, folder: str | None = None) -> Iterator[tuple[str, int]]:
    for info in files.list_artifacts(folder):
        if info.is_dir:
            yield from _walk(files, info.path)
        else:
            yield info.path, int(info.file_size or 0)
