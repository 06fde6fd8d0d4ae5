"""A spool's entries, sent to MLflow in order; every call may be repeated without harm.

A call that MLflow took while its answer was lost is sent again. MLflow's store ignores a metric that
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

logger = logging.getLogger(__name__)

TAG_LOCAL_ID = "transect.local_id"
# Bytes of files that go together.
_SMALL = 8 << 20
# Only these say that a call itself is wrong: credentials are mended, limits lifted, databases come back.
_FINAL = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")


class Delivery:
    """Sends one spool. The caller holds the spool's lock."""

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
        """MLflow, opened when it is first needed. Raises RegistryError."""
        if self._registry is None:
            self._registry = connect(self.settings)
        return self._registry

    def send_next(self) -> bool:
        """Send the oldest entry, and those behind it that may go with it; False when there is none.

        An entry that MLflow refuses for good is put aside and told, so that it holds up nothing.
        Raises RegistryError for what may pass: MLflow is away, or somebody has to mend something.
        """
        entries = going_together(self.spool.undelivered(), self._size)
        if not entries:
            return False
        # What is refused among several is found by sending the first of them alone.
        if len(entries) == 1 or not self._send_together(entries):
            self._send_alone(entries[0])
        return True

    def _send_alone(self, entry: Entry) -> None:
        send = self._send.get(entry.kind)
        if send is None:
            self.spool.rejected(entry, "this version of Transect does not know it")
            return
        try:
            learned = send(entry)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the rest of the spool must not be lost
            why = self._judge(entry, error)
            logger.warning("MLflow refused the %s: %s.", entry.what, why)
            self.spool.rejected(entry, why)
        else:
            self.spool.delivered(entry, **learned)

    def _send_together(self, entries: Sequence[Entry]) -> bool:
        """Send metrics in one call, and files side by side; False when MLflow refuses the first, or all, for good."""
        if entries[0].kind == "metrics":
            errors = self._metrics_together(entries)
        else:
            files = [(self.spool.path_of(entry.data["file"]), entry.data["folder"]) for entry in entries]
            errors = upload(self._client, self.spool.state.run_id, files)
        for entry, error in zip(entries, errors, strict=True):
            if error is not None:
                self._judge(entry, error)
                return entry is not entries[0]
            self.spool.delivered(entry)
        return True

    def _metrics_together(self, entries: Sequence[Entry]) -> list[Exception | None]:
        try:
            self._batch(metrics=[metric for entry in entries for metric in _metrics_of(entry)])
        except Exception as error:  # noqa: BLE001 - it is judged as one of a single entry
            return [error] * len(entries)
        return [None] * len(entries)

    def _size(self, entry: Entry) -> int | None:
        path = self.spool.path_of(entry.data["file"])
        return path.stat().st_size if path.is_file() else None

    def _judge(self, entry: Entry, error: Exception) -> str:
        """Why MLflow will never take `entry`. Raises RegistryError when it may still do."""
        if isinstance(error, UnreachableError):
            raise error
        if isinstance(error, PackageError):
            return _line(error)
        if isinstance(error, FileNotFoundError) and not isinstance(error, requests.RequestException):
            return f"{error.filename} is gone"
        if isinstance(error, RegistryError) and error.__cause__ is None:
            raise error
        cause = error.__cause__ if isinstance(error, RegistryError) else error
        if not _is_final(cause):
            raise UnreachableError(f"MLflow did not take the {entry.what}: {_line(error)}.") from error
        self._refuse_lost_run()
        return _line(error)

    def _refuse_lost_run(self) -> None:
        run_id = self.spool.state.run_id
        if not run_id:
            return
        try:
            stage = self._client.get_run(run_id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise UnreachableError(f"MLflow did not say what became of run {run_id}: {_line(error)}.") from error
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
        # An earlier attempt may have made it.
        found = self._client.search_runs(
            [experiment], f"tags.`{TAG_LOCAL_ID}` = '{data['local_id']}'", ViewType.ALL, max_results=1
        )
        if found:
            return {"run_id": str(found[0].info.run_id)}
        tags = {**data["tags"], TAG_LOCAL_ID: data["local_id"], **_nesting(data.get("nested_in", ""))}
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
        path = self.spool.path_of(entry.data["file"])
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
        name_run(package, run_id)
        name = self.settings.model_name
        sha256 = package_sha256(package)
        for version in self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
            if version.tags.get(TAG_SHA256) == sha256:
                self._finish_registration(name, str(version.version))
                return {"version": str(version.version)}
        return {"version": self.registry.register(package, run_id, tags=entry.data["tags"]).version}

    def _finish_registration(self, name: str, version: str) -> None:
        """Give the alias to a version that a killed process left without it, unless a newer one has it."""
        current = self._client.get_registered_model(name).aliases.get(CANDIDATE)
        if current is None or int(current) < int(version):
            self._client.set_registered_model_alias(name, CANDIDATE, version)


def going_together(entries: Iterable[Entry], size: Callable[[Entry], int | None]) -> list[Entry]:
    """The first entry, and those behind it that may be sent with it, since their order does not matter.

    Metrics go with metrics, as many as MLflow takes in one call. Small files go with small files to
    other places: large ones would share the line, and for as long as all of them take nothing would be
    delivered. `size` gives the bytes of an entry's file, or None when it is gone.
    """
    together: list[Entry] = []
    places: set[tuple[str | None, str]] = set()
    room = 0
    for entry in entries:
        if together and entry.kind != together[0].kind:
            break
        if entry.kind == "metrics":
            room += len(entry.data["values"])
            fits = room <= MAX_METRICS_PER_BATCH
        elif entry.kind == "artifact" and (there := size(entry)) is not None:
            place = (entry.data["folder"], Path(entry.data["file"]).name)
            room += there
            fits = place not in places and room <= _SMALL and len(together) < AT_ONCE
            places.add(place)
        else:
            fits = False
        if fits or not together:
            together.append(entry)
        if not fits:
            break
    return together


def _metrics_of(entry: Entry) -> list[Metric]:
    time, step = entry.data["time"], entry.data["step"]
    return [Metric(name, value, time, step) for name, value in entry.data["values"].items()]


def _nesting(folder: str) -> dict[str, str]:
    """MLflow's tag of a run that is part of the one in `folder`. Raises UnreachableError while that one is not made."""
    if not folder:
        return {}
    run_id = Spool(Path(folder)).state.run_id
    if not run_id:
        raise UnreachableError(f"MLflow has not made the run of {folder} yet, which this one is part of.")
    return {MLFLOW_PARENT_RUN_ID: run_id}


def name_run(package: Path, run_id: str) -> None:
    """Write MLflow's id of the run into a package that was built before MLflow had given one.

    MLmodel first and package.json, which lists its hash, last: killed in between, the same call mends it. The caller
    holds the spool's lock.
    """
    manifest = read_manifest(package)
    if manifest.run_id:
        return
    # A killed call may have left one, and nothing unlisted may lie in a package.
    remove_partial(package)
    model = yaml.safe_load((package / MLMODEL_FILE).read_text(encoding="utf-8"))
    atomic_write(package / MLMODEL_FILE, yaml.safe_dump({**model, "run_id": run_id}, sort_keys=False))
    # One of schema 2 waited in its spool for this version of Transect; it lists the file from now on.
    named = {"run_id": run_id, "schema_version": SCHEMA_VERSION}
    files = {**manifest.files, **hash_files(package, [MLMODEL_FILE])}
    write_manifest(package, manifest.model_copy(update={**named, "files": files}))


def _is_final(cause: BaseException | None) -> bool:
    """Whether MLflow understood a call and refused it."""
    if isinstance(cause, requests.HTTPError):
        return cause.response is not None and cause.response.status_code == requests.codes.bad_request
    return isinstance(cause, MlflowException) and cause.error_code in _FINAL


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
