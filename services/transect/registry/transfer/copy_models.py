"""Registered models from one MLflow to another, after the runs that made their versions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.entities.model_registry import RegisteredModel

from transect.errors import InputError
from transect.registry.client.connection import translated
from transect.registry.client.names import TAG_SOURCE_VERSION
from transect.registry.client.queries import all_versions, every, or_none
from transect.registry.transfer.copy_runs import Place, quoted

# A folder among a run's artifacts: no part of it starts with a dot, and none is spelt with a percent sign.
_FOLDER = re.compile(r"(\w[\w .-]*(/\w[\w .-]*)*)?")


@dataclass
class CopiedModels:
    """How many versions are new and how many were there, and what was left out or left alone, in a sentence each."""

    new: int = 0
    same: int = 0
    remarks: list[str] = field(default_factory=list)


def copy_models(source: Place, target: Place, runs: Mapping[str, str], *, move_aliases: bool) -> CopiedModels:
    """Copy each version that a run among `runs` (old ids and new ones) made, with description, tags and aliases.

    Version numbers stay where nothing is in their way; transect.source_version keeps the old one. An
    alias that the target's model has on another version stays there unless `move_aliases`.
    """
    copied = CopiedModels()
    for model in _models(source):
        with translated(target.registry.uri, f"copying the model {model.name}"):
            _copy_model(source, target, model, runs, copied, move_aliases=move_aliases)
    return copied


def _models(source: Place) -> list[RegisteredModel]:
    client = source.registry.client
    with translated(source.registry.uri, "listing the registered models"):
        found = every(lambda token: client.search_registered_models(max_results=100, page_token=token))
        # The list of a server with many models leaves aliases out.
        return [client.get_registered_model(model.name) for model in found]


def _copy_model(
    source: Place,
    target: Place,
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
    there = or_none(client, name, lambda: client.get_registered_model(name))
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
            # It was made here, and may have been promoted or taken back since it was copied.
            continue
        for key, value in _repointed(version, runs).items():
            if made.tags.get(key) != value:
                client.set_model_version_tag(name, made.version, key, value)
    _copy_aliases(target, model, there.aliases, numbers, copied, move=move_aliases)


def _repointed(version: MlflowVersion, runs: Mapping[str, str]) -> dict[str, str]:
    """The version's tags; one that named a copied run, such as that of its verdict, names the copy."""
    return {key: runs.get(value, value) for key, value in version.tags.items()}


def _folder_of(version: MlflowVersion, run: Run) -> str | None:
    """Where among the artifacts of `run` the files of a version are; None when they are somewhere else."""
    whole, root = str(version.source).rstrip("/"), str(run.info.artifact_uri).rstrip("/")
    path = whole.removeprefix(root).removeprefix("/")
    return path if f"{root}/{path}".rstrip("/") == whole and _FOLDER.fullmatch(path) else None


def _elsewhere(source: Place, version: MlflowVersion) -> str:
    """The remark about a version whose files are not among those of its run. Raises InputError for one in a folder."""
    what = f"{version.name} version {version.version}"
    why = f"its files are at {quoted(str(version.source))}, which is not among those of its run {version.run_id}"
    if source.folder is not None:
        raise InputError(f"{source.folder} says of {what} that {why}; only what transect export wrote can be copied.")
    return f"{what} is left out: {why}."


def _create(target: Place, version: MlflowVersion, runs: Mapping[str, str], old: Run, path: str) -> MlflowVersion:
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
    """A description whose links to the run that made the version lead to its copy."""
    link = "#/experiments/{0.experiment_id}/runs/{0.run_id}"
    return description.replace(link.format(old.info), link.format(new.info))


def _copy_aliases(
    target: Place,
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
                f"The alias {alias} of {name} stays with version {there[alias]}; what is copied has it on "
                f"version {number} (--move-aliases moves it)."
            )
            continue
        client.set_registered_model_alias(name, alias, number)


def _origin(version: MlflowVersion) -> str:
    return str(version.tags.get(TAG_SOURCE_VERSION) or version.version)
