"""Export experiments to a folder that is an MLflow store, and import them into another MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Experiment

from transect.errors import InputError, NotRegisteredError
from transect.files import locked_if_free
from transect.progress import progress
from transect.registry.client.connection import mlflow_errors_as, sqlite_path
from transect.registry.client.queries import all_experiments
from transect.registry.transfer.copy_models import CopiedModels, copy_models
from transect.registry.transfer.copy_runs import (
    CopiedRuns,
    MlflowStore,
    all_runs,
    copies_in,
    copy_run,
    origin_of,
    point_to_copies,
)
from transect.registry.versions.registry import Registry, connect
from transect.wording import count_of

_STORE = "mlflow.db"
_LOCK = ".transect-copy.lock"
# MLflow creates this experiment itself, with its artifacts in the working directory.
_DEFAULT, _DEFAULT_COPY = "Default", "default_runs"


@dataclass(frozen=True)
class Copied:
    """The result of a copy: experiments, runs and model versions."""

    experiments: int
    runs: CopiedRuns
    models: CopiedModels

    @property
    def sentence(self) -> str:
        """A summary for users."""
        runs, models = self.runs, self.models
        return (
            f"{count_of(self.experiments, 'experiment')}: {count_of(runs.new, 'run')} copied, {runs.changed} brought "
            f"up to date, {runs.same} there already; {count_of(models.new, 'model version')} copied, {models.same} "
            "there already."
        )


def export_store(registry: Registry, out: Path, experiments: Sequence[str] = ()) -> Copied:
    """Copy experiments (default: all) with their runs, artifacts, model versions and aliases into the folder `out`.

    `out` becomes a store: mlflow.db and artifacts/. Another export to it adds new and changed runs, and keeps
    those deleted at the source. Nothing is written outside `out`. Raises InputError for a folder that contains
    something else, or links out of itself, and RegistryError.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder to export to.")
    if out.is_dir() and not (out / _STORE).is_file() and any(path.name != _LOCK for path in out.iterdir()):
        raise InputError(f"{out} contains something that is not an export; name a new folder.")
    _refuse_itself(registry, out)
    _refuse_links(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}; name another folder.") from error
    with locked_if_free(out / _LOCK) as free:
        if not free:
            raise InputError(f"Another command is copying into or from {out}; wait for it.")
        target = MlflowStore(_folder_registry(registry, out), out)
        return _copy(MlflowStore(registry), target, experiments, move_aliases=True)


def import_store(
    registry: Registry, folder: Path, experiments: Sequence[str] = (), *, move_aliases: bool = False
) -> Copied:
    """Copy experiments (default: all) of an exported `folder` into the MLflow of `registry`.

    The folder may have been moved since it was made. Another import adds new and changed runs. An existing
    alias stays where it is unless `move_aliases`, so that an import does not change the served version.
    Nothing is read outside the folder. Raises InputError for a folder that is no store, or links out of
    itself, and RegistryError.
    """
    _refuse_links(folder)
    if not (folder / _STORE).is_file():
        raise InputError(f"{folder} is no exported store: it has no {_STORE}; transect export makes one.")
    _refuse_itself(registry, folder)
    with locked_if_free(folder / _LOCK) as free:
        if not free:
            raise InputError(f"Another command is copying into or from {folder}; wait for it.")
        source = MlflowStore(_folder_registry(registry, folder), folder)
        return _copy(source, MlflowStore(registry), experiments, move_aliases=move_aliases)


def _folder_registry(registry: Registry, folder: Path) -> Registry:
    return connect(registry.settings.model_copy(update={"tracking_uri": "", "home": folder}))


def _refuse_itself(registry: Registry, folder: Path) -> None:
    own = sqlite_path(registry.uri) if registry.uri.startswith("sqlite:") else None
    if own is not None and own.resolve() == (folder / _STORE).resolve():
        raise InputError(f"{folder} is the store that is in use; name another folder, or set MLFLOW_TRACKING_URI.")


def _refuse_links(folder: Path) -> None:
    """Raise InputError if a file of the store in `folder` is a link, which may lead to a private file of the user."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ours = path.name.startswith(_STORE) or path.name in (_LOCK, "artifacts")
        if ours and (path.is_symlink() or not (path.is_file() or path.is_dir())):
            raise InputError(
                f"{path} is a link or no regular file, which an exported folder never holds; "
                "have the folder exported again."
            )


def _copy(source: MlflowStore, target: MlflowStore, names: Sequence[str], *, move_aliases: bool) -> Copied:
    copied = CopiedRuns()
    # Counted first and fetched again, so that memory never holds more than a page.
    counts = {one: _count(source, one) for one in _experiments(source, names)}
    found = [one for one, many in counts.items() if many or one.name != _DEFAULT]
    with progress("Copying", sum(counts.values()), "runs") as advance:
        for experiment in found:
            experiment_id = _experiment(target, experiment)
            there = copies_in(target, experiment_id)
            for run in all_runs(source, experiment.experiment_id):
                # A run created meanwhile may shift another onto the next page.
                if run.info.run_id not in copied.ids:
                    known = there.get(origin_of(run))
                    copy_run(source, target, run, copied, experiment_id=experiment_id, known=known)
                    advance()
    point_to_copies(target, copied)
    models = copy_models(source, target, copied.ids, move_aliases=move_aliases)
    return Copied(len(found), copied, models)


def _count(source: MlflowStore, experiment: Experiment) -> int:
    """The number of runs. Raises InputError for a run whose files cannot be copied, before any copy."""
    return sum(1 for run in all_runs(source, experiment.experiment_id) if source.root(run))


def _experiments(source: MlflowStore, names: Sequence[str]) -> list[Experiment]:
    with mlflow_errors_as(source.registry.uri, "listing the experiments"):
        known = {experiment.name: experiment for experiment in all_experiments(source.registry.client)}
    for name in names:
        if name not in known:
            raise NotRegisteredError(f"There is no experiment {name!r} to copy; there are {', '.join(sorted(known))}.")
    return [known[name] for name in dict.fromkeys(names)] if names else [known[name] for name in sorted(known)]


def _experiment(target: MlflowStore, experiment: Experiment) -> str:
    """The id of the target's experiment, created when missing; its existing tags stay unchanged."""
    name = _DEFAULT_COPY if experiment.name == _DEFAULT else experiment.name
    experiment_id = target.registry.experiment(name)
    client = target.registry.client
    with mlflow_errors_as(target.registry.uri, f"opening the experiment {name!r}"):
        there = client.get_experiment(experiment_id).tags
        for key, value in experiment.tags.items():
            if key not in there:
                client.set_experiment_tag(experiment_id, key, value)
    return experiment_id
