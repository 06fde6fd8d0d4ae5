"""All inputs of a training, validated before it starts: bad input costs seconds."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from transect.config_files import placed
from transect.datasets import Dataset, SplitName, check_pixels, combine_digests, load_dataset, split_digest
from transect.engine.backends import check_backend
from transect.errors import InputError, UnreachableError
from transect.progress import progress
from transect.registry import Registry, connect
from transect.settings import Settings, SourceDiff
from transect.training.config.architecture import Architecture, resolve_architecture
from transect.training.config.background import MISSING, find_background
from transect.training.config.pretrained import StartingWeights, choose_weights
from transect.training.config.recipe import Recipe, load_recipe, override_key
from transect.training.trainer.environment import prepare_ultralytics

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "yolo11n"
# The width of MLflow's column for experiment names.
_LONGEST_EXPERIMENT = 256
# A folder's name takes 255 bytes, MLflow's column for the name of a run 250 characters; both add a time.
_LONGEST_ARCHITECTURE = 150

# The last stage of a training: validated weights, a package evaluated on the test split, a registered version.
Stage = Literal["trained", "evaluated", "registered"]


@dataclass(frozen=True)
class TrainRequest:
    """A user's request for a training.

    `model` is an Ultralytics detection architecture by name, a .yaml or a .pt; `data` a data.yaml.
    Both fall back to the recipe, and data then to `default_data`, which is called only if needed.
    `overrides` are KEY=VALUE texts for the recipe. `resume` resumes the newest run of this recipe and
    model that did not finish, `new_run` does so in a new run. `until` is the last stage. `run_tags` are
    tags of the run beside the recipe's; `experiment` overrides the recipe's MLflow experiment.
    """

    model: str | None = None
    config: Path = Path("configs/train/wildlife.yaml")
    data: Path | None = None
    overrides: tuple[str, ...] = ()
    default_data: Callable[[], Path] | None = None
    resume: bool = False
    new_run: bool = False
    until: Stage = "registered"
    run_tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A validated training. `background` are pictures of empty ground; `registry` is None while MLflow is away."""

    recipe: Recipe
    architecture: Architecture
    dataset: Dataset
    digests: Mapping[SplitName, str]
    digest: str
    weights: StartingWeights
    device: str
    arguments: Mapping[str, Any]
    registry: Registry | None
    background: tuple[Path, ...] = ()
    source_diff: SourceDiff = "own"


def make_plan(request: TrainRequest, settings: Settings) -> Plan:
    """Check recipe, data, model, device, MLflow and starting weights, cheapest first.

    Raises the fitting class of transect.errors, before anything is written to MLflow. An unreachable
    MLflow is no error; one that refuses access, or an address that is not MLflow's, is.
    """
    recipe = replace(load_recipe(request.config, request.overrides), experiment_name=request.experiment)
    _check_experiment(recipe)
    prepare_ultralytics(settings.home)
    architecture = resolve_architecture(_override(request, "model") or request.model or recipe.model or DEFAULT_MODEL)
    if recipe.head == "end-to-end" and not architecture.end_to_end:
        raise InputError(f"head=end-to-end does not fit {architecture.name}; yolo26 and yolov10 have such a head.")
    if len(architecture.name.encode()) > _LONGEST_ARCHITECTURE:
        raise InputError(
            f"Model {architecture.name[:40]}... names the run and its folder, and is longer than "
            f"{_LONGEST_ARCHITECTURE} bytes; rename the file."
        )
    # The backend evaluates the model only after hours of training.
    check_backend(settings.backend)
    dataset = load_dataset(_data_path(request, recipe))
    # torch takes seconds to import: the cheap checks come first.
    from transect.training.trainer.device import resolve_device
    from transect.training.trainer.shared_memory import check_shared_memory
    from transect.training.trainer.trainer import check_arguments

    device = resolve_device(settings.device)
    try:
        check_arguments({**recipe.train, "model": architecture.source, "device": device})
    except InputError as error:
        raise InputError(_with_place(str(error), recipe)) from error
    check_shared_memory(dataset, {**recipe.train, "model": architecture.source, "device": device})
    registry = _connect(settings)
    weights = choose_weights(architecture, recipe.pretrained or settings.pretrained, settings.home)
    logger.info("%s", weights.sentence)
    arguments = {**recipe.train, **_start(architecture, weights), "device": device}
    for remark in dataset.remarks:
        logger.warning("%s", remark)
    if dataset.test_is_val:
        logger.info("%s names no test split of its own: the validation split is the test split too.", dataset.path)
    background = find_background(recipe.background, dataset, recipe.path)
    if not background and request.until != "trained":
        logger.info("%s", MISSING)
    digests = _digests(dataset)
    _check_pixels(dataset, digests)
    return Plan(
        recipe=recipe,
        architecture=architecture,
        dataset=dataset,
        digests=digests,
        digest=combine_digests(dataset, digests),
        weights=weights,
        device=device,
        arguments=arguments,
        registry=registry,
        background=background,
        source_diff=settings.source_diff,
    )


def _check_experiment(recipe: Recipe) -> None:
    if not recipe.experiment.strip() or len(recipe.experiment) > _LONGEST_EXPERIMENT:
        raise InputError(
            f"The MLflow experiment is named after the path of its file, and {recipe.experiment[:40]!r}... has "
            f"{len(recipe.experiment)} characters: MLflow takes 1 to {_LONGEST_EXPERIMENT}; move the file, or run from "
            "a folder that is nearer to it."
        )


def _with_place(problem: str, recipe: Recipe) -> str:
    """Ultralytics' error message, with the file and line of the value that it names."""
    named = [where for key, where in recipe.places.items() if re.search(rf"\b{re.escape(key)}=", problem)]
    return placed(problem, named[0] if len(named) == 1 else "")


def _connect(settings: Settings) -> Registry | None:
    try:
        return connect(settings)
    except UnreachableError as error:
        logger.warning("%s Training starts all the same; its log is kept on disk until MLflow is back.", error)
        return None


def _override(request: TrainRequest, key: str) -> str | None:
    """The value of a top-level key on the command line, which overrides the option of its name."""
    found = [text.partition("=")[2] for text in request.overrides if override_key(text) == key]
    return found[-1] if found else None


def _data_path(request: TrainRequest, recipe: Recipe) -> Path:
    path = _override(request, "data") or request.data or recipe.data
    if path is None and request.default_data is not None:
        return request.default_data()
    if path is None:
        raise InputError(f"Recipe {recipe.path} names no data and none was given: --data PATH of a data.yaml.")
    return Path(path)


def _start(architecture: Architecture, weights: StartingWeights) -> dict[str, Any]:
    """Ultralytics' `model` and `pretrained` for these weights."""
    if weights.path is None:
        return {"model": architecture.source, "pretrained": False}
    if weights.path == architecture.checkpoint:
        return {"model": architecture.source, "pretrained": True}
    return {"model": architecture.source, "pretrained": str(weights.path)}


def _digests(dataset: Dataset) -> dict[SplitName, str]:
    digests: dict[SplitName, str] = {}
    with progress("Reading the training set", sum(len(split.images) for split in dataset.splits.values())) as advance:
        for name, split in dataset.splits.items():
            same = name == "test" and dataset.test_is_val
            digests[name] = digests["val"] if same else split_digest(dataset, name)
            advance(len(split.images))
    return digests


# Splits by digest: the trials of a sweep share theirs.
_decoded: set[str] = set()


def _check_pixels(dataset: Dataset, digests: Mapping[SplitName, str]) -> None:
    """Decode the splits that this process has not decoded, and log remarks. Raises DatasetError as check_pixels."""
    wanted: dict[str, SplitName] = {}
    for name, digest in digests.items():
        if digest not in _decoded:
            wanted.setdefault(digest, name)
    if not wanted:
        return
    with progress("Decoding the training set", sum(len(dataset.splits[name].images) for name in wanted.values())) as go:
        for digest, name in wanted.items():
            for remark in check_pixels(dataset.splits[name], name, go):
                logger.warning("%s", remark)
            _decoded.add(digest)
