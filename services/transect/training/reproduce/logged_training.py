"""A finished training read from MLflow: its inputs and its metric histories."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from transect.config_files import read_yaml_mapping, read_yaml_value
from transect.errors import InputError
from transect.files import atomic_write
from transect.registry import Registry, RunRow, find_run
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.names import TAG_NOTE
from transect.registry.client.queries import stored_files
from transect.settings import Settings
from transect.tracking.run_log import TAG_DRIFT
from transect.training.config.recipe import TRAIN_KEYS
from transect.training.plan import TrainRequest

TAG_REPRODUCES = "transect.reproduces"
_RECIPE, _PATCH, _PACKAGES = "config/recipe.yaml", "source/changes.patch", "source/requirements.txt"
_NEEDED = frozenset({"architecture", "data", "dataset_digest", "model", "pretrained", "weights_used"})
# TRANSECT_PRETRAINED by the kind of weights that it led to; a file keeps its path.
_PRETRAINED = {"none": "none", "starter": "starter", "ultralytics": "auto", "checkpoint": "auto"}


@dataclass(frozen=True)
class LoggedTraining:
    """A training to repeat: its run, its files in `folder`, and the value of each metric at each step.

    `experiment_id` is MLflow's, for links. `drift` maps each parameter that changed on a resume to its old and new
    value; None where the tag cannot be read.
    """

    row: RunRow
    folder: Path
    experiment_id: str
    histories: Mapping[str, Mapping[int, float]]
    drift: Mapping[str, Mapping[str, str]] | None

    @property
    def recipe(self) -> Path:
        """The recipe that repeats it."""
        return self.folder / Path(_RECIPE).name

    @property
    def patch(self) -> Path:
        """The patch of local changes to the commit; missing when there were none."""
        return self.folder / Path(_PATCH).name

    @property
    def packages(self) -> Path:
        """Every installed package with its version, as a requirements file."""
        return self.folder / Path(_PACKAGES).name

    def request(self, data: Path | None) -> TrainRequest:
        """The request that repeats it up to the same stage, without registration; `data` overrides the data.yaml."""
        link = f"[{self.row.name}](#/experiments/{self.experiment_id}/runs/{self.row.run_id})"
        evaluated = any(name.startswith("test/") for name in self.row.metrics)
        return TrainRequest(
            config=self.recipe,
            data=data or Path(self.row.params["data"]),
            until="evaluated" if evaluated else "trained",
            run_tags={TAG_REPRODUCES: self.row.run_id, TAG_NOTE: f"{link} once more, to see whether it is the same."},
            experiment=self.row.experiment,
        )


def fetch_logged_training(registry: Registry, reference: str, settings: Settings) -> LoggedTraining:
    """Read the training that `reference` names (see find_run); its files go to TRANSECT_HOME/reproduce/RUN.

    Raises NotRegisteredError when there is no such run, InputError for one that is no finished training,
    RegistryError.
    """
    row = find_run(registry, reference)
    with mlflow_errors_as(registry.uri, f"reading run {row.run_id}"):
        client = registry.client
        stored = {info.path for part in ("config", "source") for info in stored_files(client, row.run_id, part)}
        _require_finished_training(row, stored)
        folder = (settings.home / "reproduce" / row.run_id).absolute()
        with tempfile.TemporaryDirectory(prefix="transect-reproduce-") as scratch:
            for path in sorted({_RECIPE, _PATCH, _PACKAGES} & stored):
                content = Path(client.download_artifacts(row.run_id, path, scratch)).read_bytes()
                atomic_write(folder / Path(path).name, content)
        histories = {
            name: {one.step: one.value for one in client.get_metric_history(row.run_id, name)}
            for name in row.metrics
            if is_deterministic_metric(name)
        }
        experiment_id = client.get_run(row.run_id).info.experiment_id
    logged = LoggedTraining(row, folder, str(experiment_id), histories, _read_drift(row.tags.get(TAG_DRIFT, "{}")))
    _write_recipe(logged)
    return logged


def is_deterministic_metric(metric: str) -> bool:
    """Whether a metric is the same in a repeated training; system load and measured speed are not."""
    return not (metric.startswith("system/") or metric.endswith("/speedup"))


def _require_finished_training(row: RunRow, stored: set[str]) -> None:
    name = f"Run {row.name} ({row.run_id}) of {row.experiment}"
    if _RECIPE not in stored or not set(row.params) >= _NEEDED:
        raise InputError(
            f"{name} is no training that got as far as its first epoch: it has no {_RECIPE} or not all parameters; "
            "name a run of transect train (transect runs list shows them)."
        )
    if row.status != "FINISHED":
        raise InputError(
            f"{name} is {row.status}, and only a finished training can be repeated; "
            "transect train --resume resumes one that was cut off."
        )


def _read_drift(text: str) -> dict[str, dict[str, str]] | None:
    try:
        found: dict[str, dict[str, str]] = json.loads(text)
    except ValueError:
        # MLflow truncates long tags.
        return None
    return found


def _write_recipe(logged: LoggedTraining) -> None:
    """Complete the logged recipe with the values that came from the command line and the environment."""
    row = logged.row
    try:
        document: dict[str, Any] = dict(read_yaml_mapping(logged.recipe, InputError))
        kind, model = row.params["weights_used"], row.params["model"]
        document["model"] = model if Path(model).is_absolute() else row.params["architecture"]
        document["pretrained"] = _PRETRAINED.get(kind, row.params["pretrained"])
        document["train"] |= {
            name: read_yaml_value(change["new"], f"the value of {name}")
            for name, change in (logged.drift or {}).items()
            if name in TRAIN_KEYS
        }
    except (InputError, KeyError, TypeError) as error:
        raise InputError(
            f"The recipe that run {row.run_id} logged ({_RECIPE}) is damaged: {' '.join(str(error).split())}."
        ) from error
    atomic_write(logged.recipe, yaml.safe_dump(document, sort_keys=False))
