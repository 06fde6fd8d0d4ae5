"""Register a package on disk as a model version, all or nothing."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from transect.engine import PackageManifest, package_sha256, verify_package
from transect.errors import RegistryError
from transect.redaction import values_without_secrets
from transect.registry.client.connection import mlflow_errors_as, redact_uri
from transect.registry.client.names import (
    CANDIDATE,
    PACKAGE_PATH,
    TAG_COMMIT,
    TAG_DATASET_DIGEST,
    TAG_MODEL_VERSION,
    TAG_SHA256,
)
from transect.registry.client.queries import all_versions, none_if_missing, stored_files
from transect.registry.client.uploads import upload

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelVersion:
    """A version that was just registered."""

    name: str
    version: str
    run_id: str


def publish(
    client: MlflowClient, uri: str, name: str, package: Path, *, run_id: str, tags: dict[str, str]
) -> ModelVersion:
    """Log the verified `package` to the run, create a version of model `name`, set the alias `candidate`.

    If any step fails, nothing stays registered. Raises PackageError or RegistryError.
    """
    manifest = verify_package(package)
    all_tags = {**values_without_secrets(tags), TAG_SHA256: package_sha256(package)}
    with mlflow_errors_as(uri, f"registering {package} as {name}"):
        run = client.get_run(run_id)
        _upload(client, run_id, package)
        _check_upload(client, uri, run_id, package, manifest)
        source = f"{run.info.artifact_uri.rstrip('/')}/{PACKAGE_PATH}"
        with _model(client, name):
            # Open-source MLflow creates versions synchronously; there is nothing to wait for.
            created = client.create_model_version(
                name, source, run_id, tags=all_tags, description=_origin(run, all_tags), await_creation_for=0
            )
            version = str(created.version)
            with _removed_on_failure(f"{name} version {version}", lambda: client.delete_model_version(name, version)):
                client.set_tag(run_id, TAG_MODEL_VERSION, f"{name}/{version}")
                client.set_registered_model_alias(name, CANDIDATE, version)
    return ModelVersion(name, version, run_id)


def _upload(client: MlflowClient, run_id: str, package: Path) -> None:
    paths = sorted(path for path in package.rglob("*") if path.is_file())
    folders = (PurePosixPath(PACKAGE_PATH, *path.parent.relative_to(package).parts) for path in paths)
    for error in upload(client, run_id, [(path, str(folder)) for path, folder in zip(paths, folders, strict=True)]):
        if error is not None:
            raise error


def _origin(run: Run, tags: dict[str, str]) -> str:
    """The origin of a version, in Markdown with a link for MLflow's pages."""
    info, commit = run.info, run.data.tags.get(TAG_COMMIT)
    parts = [f"Trained by [{info.run_name or info.run_id}](#/experiments/{info.experiment_id}/runs/{info.run_id})"]
    if digest := tags.get(TAG_DATASET_DIGEST):
        parts.append(f"on the data set `{digest}`")
    if commit:
        parts.append(f"from commit `{commit}`")
    return f"{', '.join(parts)}."


@contextmanager
def _model(client: MlflowClient, name: str) -> Iterator[None]:
    """Create the registered model if it does not exist; a new one is deleted again on failure."""
    if none_if_missing(client, name, lambda: client.get_registered_model(name)) is not None:
        yield
        return
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        # Another process created it.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        yield
        return
    with _removed_on_failure(f"the empty model {name}", lambda: _delete_if_empty(client, name)):
        yield


@contextmanager
def _removed_on_failure(what: str, remove: Callable[[], None]) -> Iterator[None]:
    # BaseException: Ctrl-C must not leave a partial registration either.
    try:
        yield
    except BaseException:
        try:
            remove()
        except MlflowException as error:
            _log.warning("%s could not be removed again (%s); delete it in MLflow's UI.", what, error)
        raise


def _delete_if_empty(client: MlflowClient, name: str) -> None:
    if not all_versions(client, name):
        client.delete_registered_model(name)


def _check_upload(client: MlflowClient, uri: str, run_id: str, package: Path, manifest: PackageManifest) -> None:
    stored = {info.path: info.file_size for info in stored_files(client, run_id, PACKAGE_PATH)}
    for name, expected in manifest.files.items():
        size = stored.get(f"{PACKAGE_PATH}/{name}")
        if size != expected.size:
            raise RegistryError(
                f"MLflow at {redact_uri(uri)} stored {size or 0} of the {expected.size} bytes of {package / name}; "
                "check the artifact store and register again."
            )
