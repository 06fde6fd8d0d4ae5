"""Runs from one MLflow to another: everything that was logged, once, however often it is copied."""

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
from transect.registry.client.connection import is_embedded, shown, translated
from transect.registry.client.names import TAG_COPY_OF, TAG_SOURCE_RUN
from transect.registry.client.queries import PAGE, every
from transect.registry.versions.registry import Registry

# What one call of MLflow's batch endpoint takes.
_MAX_METRICS = 900
_MAX_TEXTS = 90
_RUN_ID = re.compile("[0-9a-f]{32}")
_FINAL = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Place:
    """One MLflow. `folder` is where the store lies, if it is a folder that may have been moved since it was made.

    Such a folder may come from anybody: nothing outside of it is read or written, whatever its mlflow.db names.
    """

    registry: Registry
    folder: Path | None = None

    def root(self, run: Run) -> str:
        """Where the artifacts of `run` are: in the folder, if there is one.

        Raises InputError for an address that leads out of the folder, or from a server to anywhere but to itself or an
        object store: to a file of this machine, or to a host that would be given the credentials.
        """
        uri, run_id = str(run.info.artifact_uri), run.info.run_id
        if self.folder is not None:
            if (path := _in_an_export(uri, run_id)) is None:
                raise InputError(
                    f"{self.folder} says that the files of run {run_id} are at {quoted(uri)}, which is not in it; "
                    "only what transect export wrote, with its files below artifacts/, can be copied."
                )
            return (self.folder.resolve() / path).as_uri()
        if not is_embedded(self.registry.uri) and not _is_of_server(uri):
            raise InputError(
                f"MLflow at {shown(self.registry.uri)} says that the files of run {run_id} are at {quoted(uri)}, "
                "which is neither on that server nor in an object store; delete that run in MLflow, or name the "
                "experiments to copy."
            )
        return uri

    def files(self, run: Run) -> ArtifactRepository:
        """The artifacts of `run`. Raises InputError as `root` does, and for links among those in a folder."""
        uri = self.root(run)
        if self.folder is not None:
            root = Path(unquote(urlsplit(uri).path))
            # The run, its experiment and artifacts/; the folder itself may be reached by a link.
            above = [path for path in (*root.parents[:3], root) if path.is_symlink()]
            if (odd := next(chain(above, _odd_files(root)), None)) is not None:
                raise InputError(
                    f"{odd}, among the files of run {run.info.run_id}, is a link or no regular file, which an "
                    f"exported folder never holds; remove it, or have {self.folder} exported again."
                )
        return get_artifact_repository(uri, tracking_uri=self.registry.uri)


@dataclass(frozen=True)
class Copy:
    """What a run became where it was copied to: its id, what it was copied of, and its tags that name a run."""

    run_id: str
    fingerprint: str | None
    names_runs: Mapping[str, str]


@dataclass
class CopiedRuns:
    """What was copied: runs that are new, that had changed, that were there already.

    `ids` has the new id of each old one; `links` are tags of copies that name a run: (copy, tag, old id).
    """

    new: int = 0
    changed: int = 0
    same: int = 0
    ids: dict[str, str] = field(default_factory=dict)
    links: list[tuple[str, str, str]] = field(default_factory=list)


def origin_of(run: Run) -> str:
    """The id of the run where it was first logged, however many copies lie between."""
    return str(run.data.tags.get(TAG_SOURCE_RUN) or run.info.run_id)


def all_runs(place: Place, experiment_id: str) -> Iterator[Run]:
    """Every run of an experiment that is not deleted, oldest first, a page of them at a time."""

    def ask(token: str | None) -> PagedList[Run]:
        with translated(place.registry.uri, "listing the runs"):
            return place.registry.client.search_runs(
                [experiment_id], "", ViewType.ACTIVE_ONLY, PAGE, ["attributes.start_time ASC"], page_token=token
            )

    return every(ask)


def copies_in(place: Place, experiment_id: str) -> dict[str, Copy]:
    """What is in an experiment already, by its own id and by that of the run where it was first logged."""
    found: dict[str, Copy] = {}
    for run in all_runs(place, experiment_id):
        copy = Copy(run.info.run_id, run.data.tags.get(TAG_COPY_OF), _names_runs(run))
        found |= {origin_of(run): copy, copy.run_id: copy}
    return found


def copy_run(
    source: Place, target: Place, run: Run, copied: CopiedRuns, *, experiment_id: str, known: Copy | None
) -> None:
    """Bring `run` into an experiment of `target`, where `known` is its copy so far; nothing is written twice.

    A copy that was broken off is finished, one whose source changed since is brought up to date, and
    the original itself is left alone. Raises RegistryError.
    """
    old_id = run.info.run_id
    with translated(target.registry.uri, f"copying run {old_id}"):
        if known is not None and known.run_id == origin_of(run):
            # The run comes home.
            copied.same += 1
            copied.ids[old_id] = known.run_id
            return
        files = dict(_walk(source.files(run)))
        fingerprint = _fingerprint(run, files)
        links = _names_runs(run)
        if known is not None and known.fingerprint == fingerprint:
            copied.same += 1
            copied.ids[old_id] = known.run_id
            # Those that point to a copy already need nothing.
            copied.links += [
                (known.run_id, name, old) for name, old in links.items() if known.names_runs.get(name) == old
            ]
            return
        made = (
            target.registry.client.get_run(known.run_id) if known is not None else _create(target, run, experiment_id)
        )
        copied.ids[old_id] = made.info.run_id
        broken_off = TAG_COPY_OF not in made.data.tags
        _copy_numbers(source, target, run, made.info.run_id)
        _copy_files(source.files(run), target.files(made), files, resume=broken_off)
        _check_files(target, made, files)
        _finish(target, run, made.info.run_id, fingerprint)
        copied.links += [(made.info.run_id, name, old) for name, old in links.items()]
        if known is None or broken_off:
            copied.new += 1
        else:
            copied.changed += 1


def point_to_copies(target: Place, copied: CopiedRuns) -> None:
    """Let tags of the copies that named another copied run, such as a parent, name its copy."""
    for run_id, name, old in copied.links:
        if copied.ids.get(old, old) != old:
            with translated(target.registry.uri, f"linking run {run_id}"):
                target.registry.client.set_tag(run_id, name, copied.ids[old])


def _names_runs(run: Run) -> dict[str, str]:
    """Tags whose whole value is the id of a run; where the run itself came from is another matter."""
    return {key: value for key, value in run.data.tags.items() if key != TAG_SOURCE_RUN and _RUN_ID.fullmatch(value)}


def _create(target: Place, run: Run, experiment_id: str) -> Run:
    tags = {TAG_SOURCE_RUN: origin_of(run)}
    if user := run.data.tags.get("mlflow.user"):
        tags["mlflow.user"] = user
    return target.registry.client.create_run(
        experiment_id, start_time=run.info.start_time, tags=tags, run_name=run.info.run_name
    )


def _copy_numbers(source: Place, target: Place, run: Run, run_id: str) -> None:
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


def _odd_files(folder: Path) -> Iterator[Path]:
    """What below `folder` is neither a folder nor a regular file; links are not followed."""
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


def _in_an_export(uri: str, run_id: str) -> PurePosixPath | None:
    """artifacts/EXPERIMENT/RUN/artifacts, as `Registry.experiment` and MLflow make it; None for another address."""
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


def _is_of_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    if parts.scheme == "mlflow-artifacts":
        # With a host it is another server, to which MLflow's client would send the password of this one.
        return not parts.netloc
    return parts.scheme not in ("", "file", "http", "https", "ftp", "sftp")


def quoted(uri: str) -> str:
    """An address that anybody may have written, for messages: on one line and without its password."""
    try:
        return repr(shown(uri))
    except ValueError:
        return repr(uri)
