"""The registry: register packages as versions, resolve aliases to verified local folders."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException

from transect.engine import MANIFEST_FILE, Detector, PackageManifest, read_manifest
from transect.errors import InputError, NotRegisteredError, RegistryError
from transect.redaction import values_without_secrets
from transect.registry.client.census_run import CensusRun
from transect.registry.client.connection import is_embedded, mlflow_errors_as, open_client, redact_uri, sqlite_path
from transect.registry.client.finished_run import complete_run, end_killed_runs, find_same_run
from transect.registry.client.names import (
    CANDIDATE,
    CENSUS_EXPERIMENT,
    PREVIOUS,
    PRODUCTION,
    TAG_CENSUS_RESULTS,
    TAG_CENSUS_RUN,
    TAG_MODEL_VERSION,
    TAG_NOTE,
    TAG_REVIEW_RUN,
    TAG_REVIEWED_CENSUS,
    TAG_SHA256,
)
from transect.registry.client.queries import all_versions, none_if_missing
from transect.registry.versions.cache import LocalCache, ResolvedVersion
from transect.registry.versions.listing import VersionRow, rows_of
from transect.registry.versions.publish import ModelVersion, publish
from transect.registry.versions.reference import Reference, parse_reference
from transect.settings import Settings

_NEXT_STEP = {
    CANDIDATE: "train one: make train (or transect train)",
    PRODUCTION: "promote one: make promote (or transect models promote)",
    PREVIOUS: "it appears with the second promotion",
}


def connect(settings: Settings) -> "Registry":
    """Open the registry at `settings.store_uri`.

    Exports MLflow's address and credentials to the environment, because MLflow's client and child
    processes read them there. Raises RegistryError within about ten seconds if the server does not respond,
    rejects the credentials, or the address is not usable.
    """
    return Registry(open_client(settings), settings)


def _model_links(params: Mapping[str, Any]) -> dict[str, str]:
    """Tags that link a census to its model version, if it has one; the note is Markdown."""
    name, version = (str(params.get(key) or "") for key in ("model", "model_version"))
    if not name or not version:
        return {}
    note = f"Counted with [{name} version {version}](#/models/{quote(name, safe='')}/versions/{version})."
    return {TAG_MODEL_VERSION: f"{name}/{version}", TAG_NOTE: note}


def store_file(settings: Settings) -> Path:
    """The database file of the embedded store; raises InputError if MLFLOW_TRACKING_URI is another kind of store."""
    path = sqlite_path(settings.store_uri) if is_embedded(settings.store_uri) else None
    if path is None:
        raise InputError(
            f"MLFLOW_TRACKING_URI={redact_uri(settings.store_uri)} is not a local store; name one with --db-path."
        )
    return path


class Registry:
    """The program's interface to MLflow. Every failure is a RegistryError with one sentence."""

    def __init__(self, client: MlflowClient, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self.cache = LocalCache(settings.cache_dir)
        self.cache.clean()

    @property
    def uri(self) -> str:
        """The tracking URI in use."""
        return self.settings.store_uri

    def experiment(self, name: str) -> str:
        """The id of experiment `name`, created when missing.

        In the embedded store its artifacts are below `settings.artifacts_dir`; a server chooses the location itself.
        """
        with mlflow_errors_as(self.uri, f"opening the experiment {name!r}"):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                return self._create_experiment(name)
        if found.lifecycle_stage == "deleted":
            raise RegistryError(
                f"The experiment {name!r} was deleted in MLflow; restore it (mlflow experiments restore "
                f"--experiment-id {found.experiment_id}) or use another configuration name."
            )
        return str(found.experiment_id)

    def register(self, package: Path, run_id: str, *, tags: dict[str, str]) -> ModelVersion:
        """Verify `package`, log its files to the run, create a version, set the alias `candidate`.

        Adds the tag transect.package_sha256. If any step fails, nothing stays registered: a version
        without its alias is deleted, and so is a model that this call created.
        Raises PackageError for a package that fails verification, RegistryError for MLflow's failures.
        """
        return publish(self.client, self.uri, self.settings.model_name, package, run_id=run_id, tags=tags)

    def resolve(self, reference: str) -> ResolvedVersion:
        """Resolve `reference` (see parse_reference) to its current version."""
        wanted = parse_reference(reference, self.settings.model_name)
        found = self._look_up(wanted)
        if found is None:
            raise NotRegisteredError(self._missing(wanted))
        sha256 = found.tags.get(TAG_SHA256)
        if sha256 is None:
            raise RegistryError(
                f"{wanted} was not registered by Transect (it has no tag {TAG_SHA256}); "
                "train one with make train, or point the alias at another version."
            )
        return ResolvedVersion(
            name=wanted.name,
            version=str(found.version),
            run_id=found.run_id or "",
            source=found.source or "",
            package_sha256=sha256,
            aliases=tuple(sorted(found.aliases)),
            alias=wanted.alias,
            tags=dict(found.tags),
        )

    def fetch(self, resolved: ResolvedVersion) -> Path:
        """The verified local folder of `resolved`, downloaded if it is not in the cache.

        Raises PackageError if the files are not those that were registered, RegistryError if they
        cannot be fetched. Opening the package checks that it runs; the caller may then call
        `cache.remember(resolved)`, so that `cache.last_known` returns it without MLflow.
        """
        folder = self.cache.get(resolved)
        if folder is not None:
            return folder
        with mlflow_errors_as(self.uri, f"downloading {resolved}"):
            return self.cache.put(resolved, lambda scratch: self._download(resolved, scratch))

    def open(self, resolved: ResolvedVersion) -> Detector:
        """Fetch `resolved` and open it with the settings' backend and precision; the caller closes it.

        Raises the exceptions of `fetch` and Detector.open.
        """
        # `fetch` has just verified every hash.
        return Detector.from_settings(self.fetch(resolved), self.settings, ref=resolved.ref, verify=False)

    def list_versions(self) -> list[VersionRow]:
        """All versions of the model, newest first; empty if the model does not exist."""
        name = self.settings.model_name
        with mlflow_errors_as(self.uri, f"listing the versions of {name}"):
            model = none_if_missing(self.client, name, lambda: self.client.get_registered_model(name))
            if model is None:
                return []
            return rows_of(model.aliases, all_versions(self.client, name))

    def manifest(self, resolved: ResolvedVersion) -> PackageManifest:
        """The manifest of a version, from the cache or downloaded without the model."""
        folder = self.cache.get(resolved)
        if folder is not None:
            return read_manifest(folder)
        with mlflow_errors_as(self.uri, f"reading the manifest of {resolved}"):
            return self.cache.peek(resolved, lambda scratch: self._download_manifest(resolved, scratch))

    def log_census_run(self, run: CensusRun) -> str:
        """Log a finished census in the experiment `census`; returns the id of its run.

        A finished run of the same census (its tag transect.census_run) with the same results (transect.census_results)
        is not logged again, and one that was cut off is completed. Another RUNNING run of the census, left by a killed
        process, is marked KILLED. A review of a census is logged in the same way, and named in the run of its census
        (transect.review_run_id). A run that could not be logged completely is marked FAILED. Raises RegistryError;
        the results on disk stay unchanged.
        """
        experiment = self.experiment(CENSUS_EXPERIMENT)
        known = {key: run.tags[key] for key in (TAG_CENSUS_RUN, TAG_CENSUS_RESULTS) if key in run.tags}
        with mlflow_errors_as(self.uri, f"logging the census {run.name!r}"):
            found = find_same_run(self.client, experiment, known) if len(known) == 2 else None
            if TAG_CENSUS_RUN in known:
                end_killed_runs(self.client, experiment, {TAG_CENSUS_RUN: known[TAG_CENSUS_RUN]}, but=found)
            if found is not None and found.info.status == "FINISHED":
                return str(found.info.run_id)
            if found is None:
                tags = values_without_secrets({**run.tags, **_model_links(run.params)})
                found = self.client.create_run(experiment, run_name=run.name, tags=tags)
            run_id = complete_run(self.client, found, params=run.params, metrics=run.metrics, artifacts=run.artifacts)
            if (reviewed := run.tags.get(TAG_REVIEWED_CENSUS)) is not None:
                census = find_same_run(self.client, experiment, {TAG_CENSUS_RUN: reviewed})
                if census is not None:
                    self.client.set_tag(census.info.run_id, TAG_REVIEW_RUN, run_id)
            return run_id

    def _create_experiment(self, name: str) -> str:
        location = None
        if is_embedded(self.uri):
            location = (self.settings.artifacts_dir.absolute() / name.replace("/", "_")).as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException:
            other = self.client.get_experiment_by_name(name)
            if other is None:
                raise
            # Another process created it.
            return str(other.experiment_id)

    def _look_up(self, wanted: Reference) -> MlflowVersion | None:
        with mlflow_errors_as(self.uri, f"looking up {wanted}"):
            if (alias := wanted.alias) is not None:
                return none_if_missing(
                    self.client, wanted.name, lambda: self.client.get_model_version_by_alias(wanted.name, alias)
                )
            return none_if_missing(
                self.client, wanted.name, lambda: self.client.get_model_version(wanted.name, str(wanted.version))
            )

    def _missing(self, wanted: Reference) -> str:
        with mlflow_errors_as(self.uri, f"looking up {wanted.name}"):
            model = none_if_missing(self.client, wanted.name, lambda: self.client.get_registered_model(wanted.name))
            known = [] if model is None else [str(row.version) for row in all_versions(self.client, wanted.name)]
            # The stack creates the model before its first version.
            if model is None or not known:
                missing = f"no model named {wanted.name}" if model is None else f"no version of {wanted.name} yet"
                return (
                    f"MLflow at {redact_uri(self.uri)} has {missing}; "
                    "train one: make train (or transect train), or set TRANSECT_MODEL_NAME."
                )
            if wanted.alias is None:
                return (
                    f"Model {wanted.name} has no version {wanted.version}; it has {', '.join(sorted(known, key=int))}."
                )
        advice = _NEXT_STEP.get(str(wanted.alias), f"it has {', '.join(sorted(model.aliases)) or 'none'}")
        return f"No version of {wanted.name} has the alias {wanted.alias}; {advice}."

    def _download(self, resolved: ResolvedVersion, scratch: Path) -> Path:
        return self._get_artifact(resolved, resolved.source, scratch)

    def _download_manifest(self, resolved: ResolvedVersion, scratch: Path) -> Path:
        return self._get_artifact(resolved, f"{resolved.source}/{MANIFEST_FILE}", scratch).parent

    def _get_artifact(self, resolved: ResolvedVersion, uri: str, scratch: Path) -> Path:
        # Each kind of store fails differently on a missing file; an empty listing is the same in all.
        stored = mlflow.artifacts.list_artifacts(artifact_uri=resolved.source, tracking_uri=self.uri)
        if MANIFEST_FILE not in {PurePosixPath(item.path).name for item in stored}:
            raise RegistryError(
                f"The files of {resolved} are not in the artifact store ({resolved.source}); "
                "restore them from a backup, or train again."
            )
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(scratch), tracking_uri=self.uri))
