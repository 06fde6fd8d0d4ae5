"""Copy registered models between MLflow stores, after the runs of their versions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.entities.model_registry import RegisteredModel

from transect.errors import InputError
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.names import TAG_SOURCE_VERSION
from transect.registry.client.queries import all_versions, none_if_missing, paginate
from transect.registry.transfer.copy_runs import MlflowStore, quoted

# A folder among a run's artifacts: no part starts with a dot, and none contains a percent sign.
_FOLDER = re.compile(r"(\w[\w .-]*(/\w[\w .-]*)*)?")


@dataclass
class CopiedModels:
    """Numbers of new and of existing versions, and a sentence for each that was skipped or left unchanged."""

    new: int = 0
    same: int = 0
    remarks: list[str] = field(default_factory=list)


def copy_models(
    source: MlflowStore, target: MlflowStore, runs: Mapping[str, str], *, move_aliases: bool
) -> CopiedModels:
    """Copy each version made by a run in `runs` (old id to new id), with description, tags and aliases.

    Version numbers stay the same where they are free; transect.source_version keeps the old one. An
    alias that the target's model has on another version stays there unless `move_aliases`.
    """
    copied = CopiedModels()
    for model in _models(source):
        with mlflow_errors_as(target.registry.uri, f"copying the model {model.name}"):
            _copy_model(source, target, model, runs, copied, move_aliases=move_aliases)
    return copied


def _models(source: MlflowStore) -> list[RegisteredModel]:
    client = source.registry.client
    with mlflow_errors_as(source.registry.uri, "listing the registered models"):
        found = paginate(lambda token: client.search_registered_models(max_results=100, page_token=token))
        # A listing omits aliases if the server has many models.
        return [client.get_registered_model(model.name) for model in found]


def _copy_model(
    source: MlflowStore,
    target: MlflowStore,
    model: RegisteredModel,
    runs: Mapping[str, str],
    copied: CopiedModels,
    *,
    move_aliases: bool,
) -> None:
    client, name = target.registry.client, model.name
    wanted = sorted(all_versions(source.registry.client, name), key=lambda version: int(version.version))
    for version in wanted:
        if not version.run_id:
            copied.remarks.append(f"{name} version {version.version} is left out: no run made it.")
    wanted = [version for version in wanted if version.run_id in runs]
    if not wanted:
        return
    there = none_if_missing(client, name, lambda: client.get_registered_model(name))
    if there is None:
        there = client.create_registered_model(name, tags=dict(model.tags), description=model.description)
    known = {(_origin(version), version.run_id): version for version in all_versions(client, name)}
    numbers: dict[str, str] = {}
    for version in wanted:
        made = known.get((_origin(version), runs[str(version.run_id)]))
        if made is None:
            old = source.registry.client.get_run(str(version.run_id))
            if (path := _folder_of(version, old)) is None:
                copied.remarks.append(_elsewhere(source, version))
                continue
            made = _create(target, version, runs, old, path)
            copied.new += 1
        else:
            copied.same += 1
        numbers[str(version.version)] = str(made.version)
        if TAG_SOURCE_VERSION not in made.tags:
            # It originates here, and may have been promoted or rolled back since it was copied.
            continue
        for key, value in _repointed(version, runs).items():
            if made.tags.get(key) != value:
                client.set_model_version_tag(name, made.version, key, value)
    _copy_aliases(target, model, there.aliases, numbers, copied, move=move_aliases)


def _repointed(version: MlflowVersion, runs: Mapping[str, str]) -> dict[str, str]:
    """The version's tags, with ids of copied runs (such as its verdict's) replaced by those of the copies."""
    return {key: runs.get(value, value) for key, value in version.tags.items()}


def _folder_of(version: MlflowVersion, run: Run) -> str | None:
    """The path of a version's files among the artifacts of `run`; None if they are elsewhere."""
    whole, root = str(version.source).rstrip("/"), str(run.info.artifact_uri).rstrip("/")
    path = whole.removeprefix(root).removeprefix("/")
    return path if f"{root}/{path}".rstrip("/") == whole and _FOLDER.fullmatch(path) else None


def _elsewhere(source: MlflowStore, version: MlflowVersion) -> str:
    """The remark on a version whose files are not among its run's. Raises InputError if the source is a folder."""
    label = f"{version.name} version {version.version}"
    why = f"its files are at {quoted(str(version.source))}, which is not among those of its run {version.run_id}"
    if source.folder is not None:
        raise InputError(
            f"{source.folder} says of {label} that {why}; only a folder that transect export wrote can be copied."
        )
    return f"{label} is left out: {why}."


def _create(target: MlflowStore, version: MlflowVersion, runs: Mapping[str, str], old: Run, path: str) -> MlflowVersion:
    run_id = runs[str(version.run_id)]
    new = target.registry.client.get_run(run_id)
    return target.registry.client.create_model_version(
        version.name,
        f"{str(new.info.artifact_uri).rstrip('/')}/{path}",
        run_id,
        tags={**_repointed(version, runs), TAG_SOURCE_VERSION: _origin(version)},
        description=_relinked(version.description or "", old, new),
        await_creation_for=0,
    )


def _relinked(description: str, old: Run, new: Run) -> str:
    """A description with links to the version's run replaced by links to its copy."""
    link = "#/experiments/{0.experiment_id}/runs/{0.run_id}"
    return description.replace(link.format(old.info), link.format(new.info))


def _copy_aliases(
    target: MlflowStore,
    model: RegisteredModel,
    there: Mapping[str, str],
    numbers: Mapping[str, str],
    copied: CopiedModels,
    *,
    move: bool,
) -> None:
    client, name = target.registry.client, model.name
    for alias, old in model.aliases.items():
        number = numbers.get(str(old))
        if number is None or str(there.get(alias)) == number:
            continue
        if alias in there and not move:
            copied.remarks.append(
                f"The alias {alias} of {name} stays with version {there[alias]}; the copied model has it on "
                f"version {number} (--move-aliases moves it)."
            )
            continue
        client.set_registered_model_alias(name, alias, number)


def _origin(version: MlflowVersion) -> str:
    return str(version.tags.get(TAG_SOURCE_VERSION) or version.version)
