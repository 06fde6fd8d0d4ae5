"""Copy runs between MLflow stores, completely and idempotently."""

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.entities import PagedList

from transect.errors import InputError, RegistryError
from transect.registry.client.connection import is_embedded, mlflow_errors_as, redact_uri
from transect.registry.client.names import TAG_COPY_OF, TAG_SOURCE_RUN
from transect.registry.client.queries import PAGE, paginate
from transect.registry.versions.registry import Registry

# Limits of one call to MLflow's batch endpoint.
_MAX_METRICS = 900
_MAX_TEXTS = 90
_RUN_ID = re.compile("[0-9a-f]{32}")
_FINAL = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class MlflowStore:
    """One MLflow store. `folder` is set for an exported folder, which may have been moved since it was made.

    Such a folder is untrusted: nothing outside it is read or written, whatever paths its mlflow.db contains.
    """

    registry: Registry
    folder: Path | None = None

    def root(self, run: Run) -> str:
        """The address of the artifacts of `run`, inside the folder if there is one.

        Raises InputError for an address outside the folder. For a server, raises InputError for an address that is
        neither on the server nor in an object store: a file of this machine, or a host that would get the credentials.
        """
        uri, run_id = str(run.info.artifact_uri), run.info.run_id
        if self.folder is not None:
            if (path := _path_in_export(uri, run_id)) is None:
                raise InputError(
                    f"{self.folder} says that the files of run {run_id} are at {quoted(uri)}, which is not in it; "
                    "only a folder that transect export wrote, with its files below artifacts/, can be copied."
                )
            return (self.folder.resolve() / path).as_uri()
        if not is_embedded(self.registry.uri) and not _is_safe_on_server(uri):
            raise InputError(
                f"MLflow at {redact_uri(self.registry.uri)} says that the files of run {run_id} are at {quoted(uri)}, "
                "which is neither on that server nor in an object store; delete that run in MLflow, or name the "
                "experiments to copy."
            )
        return uri

    def files(self, run: Run) -> ArtifactRepository:
        """The artifacts of `run`. Raises InputError as `root` does, and for links in a folder."""
        uri = self.root(run)
        if self.folder is not None:
            root = Path(unquote(urlsplit(uri).path))
            # The folders of the run, its experiment, and artifacts/; the path to `folder` itself may contain a link.
            above = [path for path in (*root.parents[:3], root) if path.is_symlink()]
            if (odd := next(chain(above, _odd_files(root)), None)) is not None:
                raise InputError(
                    f"{odd}, among the files of run {run.info.run_id}, is a link or no regular file, which an "
                    f"exported folder never holds; remove it, or have {self.folder} exported again."
                )
        return get_artifact_repository(uri, tracking_uri=self.registry.uri)


@dataclass(frozen=True)
class RunCopy:
    """The copy of a run in the target: its id, the fingerprint of its source, and its tags that name a run."""

    run_id: str
    fingerprint: str | None
    names_runs: Mapping[str, str]


@dataclass
class CopiedRuns:
    """Numbers of runs copied: new, changed, and unchanged ones.

    `ids` has the new id of each old one; `links` are tags of copies that name a run: (copy, tag, old id).
    """

    new: int = 0
    changed: int = 0
    same: int = 0
    ids: dict[str, str] = field(default_factory=dict)
    links: list[tuple[str, str, str]] = field(default_factory=list)


def origin_of(run: Run) -> str:
    """The id of the original run, across any number of copies."""
    return str(run.data.tags.get(TAG_SOURCE_RUN) or run.info.run_id)


def all_runs(place: MlflowStore, experiment_id: str) -> Iterator[Run]:
    """Yield the runs of an experiment that are not deleted, oldest first, fetched by pages."""

    def fetch(token: str | None) -> PagedList[Run]:
        with mlflow_errors_as(place.registry.uri, "listing the runs"):
            return place.registry.client.search_runs(
                [experiment_id], "", ViewType.ACTIVE_ONLY, PAGE, ["attributes.start_time ASC"], page_token=token
            )

    return paginate(fetch)


def copies_in(place: MlflowStore, experiment_id: str) -> dict[str, RunCopy]:
    """The runs that an experiment already has, by their own id and by that of the original run."""
    found: dict[str, RunCopy] = {}
    for run in all_runs(place, experiment_id):
        copy = RunCopy(run.info.run_id, run.data.tags.get(TAG_COPY_OF), _names_runs(run))
        found |= {origin_of(run): copy, copy.run_id: copy}
    return found


def copy_run(
    source: MlflowStore, target: MlflowStore, run: Run, copied: CopiedRuns, *, experiment_id: str, known: RunCopy | None
) -> None:
    """Copy `run` into an experiment of `target`, where `known` is its existing copy; nothing is written twice.

    An interrupted copy is completed, one whose source changed is updated, and the original run itself
    stays unchanged. Raises RegistryError.
    """
    old_id = run.info.run_id
    with mlflow_errors_as(target.registry.uri, f"copying run {old_id}"):
        if known is not None and known.run_id == origin_of(run):
            # The target has the original.
            copied.same += 1
            copied.ids[old_id] = known.run_id
            return
        files = dict(_walk(source.files(run)))
        fingerprint = _fingerprint(run, files)
        links = _names_runs(run)
        if known is not None and known.fingerprint == fingerprint:
            copied.same += 1
            copied.ids[old_id] = known.run_id
            # Links that already point to a copy stay.
            copied.links += [
                (known.run_id, name, old) for name, old in links.items() if known.names_runs.get(name) == old
            ]
            return
        made = (
            target.registry.client.get_run(known.run_id) if known is not None else _create(target, run, experiment_id)
        )
        copied.ids[old_id] = made.info.run_id
        interrupted = TAG_COPY_OF not in made.data.tags
        _copy_numbers(source, target, run, made.info.run_id)
        _copy_files(source.files(run), target.files(made), files, resume=interrupted)
        _check_files(target, made, files)
        _finish(target, run, made.info.run_id, fingerprint)
        copied.links += [(made.info.run_id, name, old) for name, old in links.items()]
        if known is None or interrupted:
            copied.new += 1
        else:
            copied.changed += 1


def point_to_copies(target: MlflowStore, copied: CopiedRuns) -> None:
    """Replace run ids in tags of the copies, such as a parent's, by the ids of the copied runs."""
    for run_id, name, old in copied.links:
        if copied.ids.get(old, old) != old:
            with mlflow_errors_as(target.registry.uri, f"linking run {run_id}"):
                target.registry.client.set_tag(run_id, name, copied.ids[old])


def _names_runs(run: Run) -> dict[str, str]:
    """Tags whose whole value is a run id, except the tag of the run's own origin."""
    return {key: value for key, value in run.data.tags.items() if key != TAG_SOURCE_RUN and _RUN_ID.fullmatch(value)}


def _create(target: MlflowStore, run: Run, experiment_id: str) -> Run:
    tags = {TAG_SOURCE_RUN: origin_of(run)}
    if user := run.data.tags.get("mlflow.user"):
        tags["mlflow.user"] = user
    return target.registry.client.create_run(
        experiment_id, start_time=run.info.start_time, tags=tags, run_name=run.info.run_name
    )


def _copy_numbers(source: MlflowStore, target: MlflowStore, run: Run, run_id: str) -> None:
    old, client = source.registry.client, target.registry.client
    metrics = (
        Metric(name, one.value, one.timestamp, one.step)
        for name in run.data.metrics
        for one in old.get_metric_history(run.info.run_id, name)
    )
    while batch := list(islice(metrics, _MAX_METRICS)):
        client.log_batch(run_id, metrics=batch)
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


def _check_files(target: MlflowStore, run: Run, files: Mapping[str, int]) -> None:
    stored = dict(_walk(target.files(run)))
    for name, size in files.items():
        if stored.get(name) != size:
            raise RegistryError(
                f"{redact_uri(target.registry.uri)} has {stored.get(name, 0)} of the {size} bytes of {name} of run "
                f"{run.info.run_id}; check its artifact store and run the same command again."
            )


def _finish(target: MlflowStore, run: Run, run_id: str, fingerprint: str) -> None:
    client = target.registry.client
    if run.info.status in _FINAL:
        client.set_terminated(run_id, status=run.info.status, end_time=run.info.end_time)
    else:
        client.update_run(run_id, status=run.info.status)
    client.set_tag(run_id, TAG_COPY_OF, fingerprint)


def _fingerprint(run: Run, files: Mapping[str, int]) -> str:
    """A hash of the run's state. The last value of a metric is enough: MLflow only appends to its history."""
    info, data = run.info, run.data
    tags = {name: value for name, value in data.tags.items() if name != TAG_COPY_OF}
    state = [info.status, info.run_name, info.start_time, info.end_time, data.params, tags, data.metrics, dict(files)]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _walk(files: ArtifactRepository, folder: str | None = None) -> Iterator[tuple[str, int]]:
    for info in files.list_artifacts(folder):
        if info.is_dir:
            yield from _walk(files, info.path)
        else:
            yield info.path, int(info.file_size or 0)


def _odd_files(folder: Path) -> Iterator[Path]:
    """Entries below `folder` that are neither folders nor regular files; links are not followed."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        # A run that logged nothing has no folder.
        return
    for entry in entries:
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _odd_files(Path(entry.path))
        elif not stat.S_ISREG(mode):
            yield Path(entry.path)


def _path_in_export(uri: str, run_id: str) -> PurePosixPath | None:
    """The path artifacts/EXPERIMENT/RUN/artifacts that `Registry.experiment` and MLflow create; else None."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    path = PurePosixPath(unquote(parts.path))
    tail = path.parts[-4:]
    fits = (
        parts.scheme in ("", "file")
        and not (parts.netloc or parts.query or parts.fragment)
        and ".." not in path.parts
        and "\0" not in str(path)
        and _RUN_ID.fullmatch(run_id) is not None
        and len(tail) == 4
        and (tail[0], *tail[2:]) == ("artifacts", run_id, "artifacts")
    )
    return PurePosixPath(*tail) if fits else None


def _is_safe_on_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    if parts.scheme == "mlflow-artifacts":
        # With a host it is another server, and MLflow's client would send it this server's password.
        return not parts.netloc
    return parts.scheme not in ("", "file", "http", "https", "ftp", "sftp")


def quoted(uri: str) -> str:
    """An untrusted address, for messages: on one line and without its password."""
    try:
        return repr(redact_uri(uri))
    except ValueError:
        return repr(uri)
