"""Delivery of a spool's entries to MLflow, in order; every call is idempotent.

A call whose response was lost is sent again. MLflow's store ignores a metric that
it has with the same name, step, time and value, a parameter with the same value, and an input that
the run has; tags, artifacts and the status are overwritten by the same. A run is found again by the
tag transect.local_id, and a registered version by its run and the hash of its package.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import MAX_METRICS_PER_BATCH

from transect.engine import MLMODEL_FILE, SCHEMA_VERSION, hash_files, package_sha256, read_manifest, write_manifest
from transect.errors import PackageError, RegistryError, UnreachableError
from transect.files import atomic_write, remove_partial
from transect.registry import Registry, connect
from transect.registry.client.names import CANDIDATE, TAG_SHA256
from transect.registry.client.uploads import AT_ONCE, upload
from transect.settings import Settings
from transect.tracking.spool import Entry, Spool
from transect.wording import one_line

logger = logging.getLogger(__name__)

TAG_LOCAL_ID = "transect.local_id"
# Most bytes of files in one batch.
_SMALL = 8 << 20
# Only these mean that the call itself is wrong: other failures (credentials, limits, databases) may pass.
_FINAL = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")


class Delivery:
    """Delivers one spool. The caller holds the spool's lock."""

    def __init__(self, spool: Spool, settings: Settings, registry: Registry | None = None) -> None:
        self.spool = spool
        self.settings = settings
        self._registry = registry
        self._send: dict[str, Callable[[Entry], dict[str, str]]] = {
            "create": self._create,
            "metrics": self._metrics,
            "params": self._params,
            "tags": self._tags,
            "artifact": self._artifact,
            "dataset": self._dataset,
            "status": self._status,
            "register": self._register,
        }

    @property
    def registry(self) -> Registry:
        """MLflow, connected on first use. Raises RegistryError."""
        if self._registry is None:
            self._registry = connect(self.settings)
        return self._registry

    def send_next(self) -> bool:
        """Send the oldest entry, and those behind it that fit in its batch; False when there is none.

        An entry that MLflow refuses for good is set aside with a warning, so that it blocks nothing.
        Raises RegistryError for failures that may pass: MLflow is away, or an operator has to act.
        """
        entries = next_batch(self.spool.undelivered(), self._size)
        if not entries:
            return False
        # If a batch is refused, its first entry is sent alone to find the bad one.
        if len(entries) == 1 or not self._send_together(entries):
            self._send_alone(entries[0])
        return True

    def _send_alone(self, entry: Entry) -> None:
        send = self._send.get(entry.kind)
        if send is None:
            self.spool.mark_rejected(entry, "this version of Transect has no such kind of entry")
            return
        try:
            changes = send(entry)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the rest of the spool must not be lost
            why = self._why_rejected(entry, error)
            logger.warning("MLflow refused the %s: %s.", entry.what, why)
            self.spool.mark_rejected(entry, why)
        else:
            self.spool.mark_delivered(entry, **changes)

    def _send_together(self, entries: Sequence[Entry]) -> bool:
        """Send metrics in one call, and files in parallel; False when MLflow refuses the first, or all, for good."""
        if entries[0].kind == "metrics":
            errors = self._metrics_together(entries)
        else:
            files = [(self.spool.stored_path(entry.data["file"]), entry.data["folder"]) for entry in entries]
            errors = upload(self._client, self.spool.state.run_id, files)
        for entry, error in zip(entries, errors, strict=True):
            if error is not None:
                self._why_rejected(entry, error)
                return entry is not entries[0]
            self.spool.mark_delivered(entry)
        return True

    def _metrics_together(self, entries: Sequence[Entry]) -> list[Exception | None]:
        try:
            self._batch(metrics=[metric for entry in entries for metric in _metrics_of(entry)])
        except Exception as error:  # noqa: BLE001 - classified as for a single entry
            return [error] * len(entries)
        return [None] * len(entries)

    def _size(self, entry: Entry) -> int | None:
        path = self.spool.stored_path(entry.data["file"])
        return path.stat().st_size if path.is_file() else None

    def _why_rejected(self, entry: Entry, error: Exception) -> str:
        """Why MLflow will never take `entry`. Raises RegistryError when it may take it later."""
        if isinstance(error, UnreachableError):
            raise error
        if isinstance(error, PackageError):
            return one_line(error)
        if isinstance(error, FileNotFoundError) and not isinstance(error, requests.RequestException):
            return f"{error.filename} is missing"
        if isinstance(error, RegistryError) and error.__cause__ is None:
            raise error
        cause = error.__cause__ if isinstance(error, RegistryError) else error
        if not _is_final(cause):
            raise UnreachableError(f"MLflow did not take the {entry.what}: {one_line(error)}.") from error
        self._require_run()
        return one_line(error)

    def _require_run(self) -> None:
        run_id = self.spool.state.run_id
        if not run_id:
            return
        try:
            stage = self._client.get_run(run_id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise UnreachableError(
                    f"MLflow did not return the state of run {run_id}: {one_line(error)}."
                ) from error
            raise RegistryError(
                f"MLflow has no run {run_id}: it was removed, or MLFLOW_TRACKING_URI is another server."
            ) from error
        if stage == "deleted":
            raise RegistryError(
                f"Run {run_id} was deleted in MLflow; restore it with mlflow runs restore --run-id {run_id}, "
                "or its experiment."
            )

    @property
    def _client(self) -> MlflowClient:
        return self.registry.client

    def _create(self, entry: Entry) -> dict[str, str]:
        data = entry.data
        experiment = self.registry.experiment(data["experiment"])
        # An earlier attempt may have created it.
        found = self._client.search_runs(
            [experiment], f"tags.`{TAG_LOCAL_ID}` = '{data['local_id']}'", ViewType.ALL, max_results=1
        )
        if found:
            return {"run_id": str(found[0].info.run_id)}
        tags = {**data["tags"], TAG_LOCAL_ID: data["local_id"], **_parent_tag(data.get("nested_in", ""))}
        run = self._client.create_run(experiment, start_time=data["time"], tags=tags, run_name=data["name"])
        return {"run_id": str(run.info.run_id)}

    def _metrics(self, entry: Entry) -> dict[str, str]:
        return self._batch(metrics=_metrics_of(entry))

    def _params(self, entry: Entry) -> dict[str, str]:
        return self._batch(params=[Param(name, text) for name, text in entry.data["values"].items()])

    def _tags(self, entry: Entry) -> dict[str, str]:
        return self._batch(tags=[RunTag(name, text) for name, text in entry.data["values"].items()])

    def _batch(self, **parts: Any) -> dict[str, str]:
        self._client.log_batch(self.spool.state.run_id, **parts)
        return {}

    def _artifact(self, entry: Entry) -> dict[str, str]:
        path = self.spool.stored_path(entry.data["file"])
        if not path.is_file():
            raise FileNotFoundError(2, "no such file", str(path))
        self._client.log_artifact(self.spool.state.run_id, str(path), entry.data["folder"])
        return {}

    def _dataset(self, entry: Entry) -> dict[str, str]:
        data = entry.data
        dataset = Dataset(
            name=data["name"],
            digest=data["digest"],
            source_type="local",
            source=data["source"],
            profile=data["profile"],
        )
        given = DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", data["context"])])
        self._client.log_inputs(self.spool.state.run_id, datasets=[given])
        return {}

    def _status(self, entry: Entry) -> dict[str, str]:
        run_id, status = self.spool.state.run_id, entry.data["status"]
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status, end_time=entry.data["time"])
        return {}

    def _register(self, entry: Entry) -> dict[str, str]:
        package, run_id = Path(entry.data["package"]), self.spool.state.run_id
        write_run_id(package, run_id)
        name = self.settings.model_name
        sha256 = package_sha256(package)
        for version in self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
            if version.tags.get(TAG_SHA256) == sha256:
                self._finish_registration(name, str(version.version))
                return {"version": str(version.version)}
        return {"version": self.registry.register(package, run_id, tags=entry.data["tags"]).version}

    def _finish_registration(self, name: str, version: str) -> None:
        """Set the alias on a version that a killed process left without it, unless a newer one has it."""
        current = self._client.get_registered_model(name).aliases.get(CANDIDATE)
        if current is None or int(current) < int(version):
            self._client.set_registered_model_alias(name, CANDIDATE, version)


def next_batch(entries: Iterable[Entry], size: Callable[[Entry], int | None]) -> list[Entry]:
    """The first entry, and those behind it that may be sent with it, since their order does not matter.

    Metrics are batched with metrics, up to MLflow's limit for one call. Small files are batched with
    small files of other paths. Large ones go alone: they would share the bandwidth, and none would be
    recorded as delivered until all are. `size` gives the bytes of an entry's file, or None when it is
    missing.
    """
    batch: list[Entry] = []
    paths: set[tuple[str | None, str]] = set()
    used = 0
    for entry in entries:
        if batch and entry.kind != batch[0].kind:
            break
        if entry.kind == "metrics":
            used += len(entry.data["values"])
            fits = used <= MAX_METRICS_PER_BATCH
        elif entry.kind == "artifact" and (file_size := size(entry)) is not None:
            path = (entry.data["folder"], Path(entry.data["file"]).name)
            used += file_size
            fits = path not in paths and used <= _SMALL and len(batch) < AT_ONCE
            paths.add(path)
        else:
            fits = False
        if fits or not batch:
            batch.append(entry)
        if not fits:
            break
    return batch


def _metrics_of(entry: Entry) -> list[Metric]:
    time, step = entry.data["time"], entry.data["step"]
    return [Metric(name, value, time, step) for name, value in entry.data["values"].items()]


def _parent_tag(folder: str) -> dict[str, str]:
    """MLflow's parent tag for the run in `folder`. Raises UnreachableError while MLflow has not created that run."""
    if not folder:
        return {}
    run_id = Spool(Path(folder)).state.run_id
    if not run_id:
        raise UnreachableError(f"MLflow has not created the parent run of {folder} yet.")
    return {MLFLOW_PARENT_RUN_ID: run_id}


def write_run_id(package: Path, run_id: str) -> None:
    """Write MLflow's id of the run into a package that was built before MLflow had created the run.

    MLmodel is written first and package.json, which lists its hash, last: after a kill in between, the same call
    repairs the package. The caller holds the spool's lock.
    """
    manifest = read_manifest(package)
    if manifest.run_id:
        return
    # A killed call may have left a partial file, and a package may hold no unlisted one.
    remove_partial(package)
    model = yaml.safe_load((package / MLMODEL_FILE).read_text(encoding="utf-8"))
    atomic_write(package / MLMODEL_FILE, yaml.safe_dump({**model, "run_id": run_id}, sort_keys=False))
    # A package of schema 2 may have waited in its spool; it lists the file from now on.
    updates = {"run_id": run_id, "schema_version": SCHEMA_VERSION}
    files = {**manifest.files, **hash_files(package, [MLMODEL_FILE])}
    write_manifest(package, manifest.model_copy(update={**updates, "files": files}))


def _is_final(cause: BaseException | None) -> bool:
    """Whether MLflow understood a call and refused it."""
    if isinstance(cause, requests.HTTPError):
        return cause.response is not None and cause.response.status_code == requests.codes.bad_request
    return isinstance(cause, MlflowException) and cause.error_code in _FINAL
