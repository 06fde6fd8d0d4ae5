"""What a command takes when the user names nothing: the sample training set, the production model."""

from pathlib import Path
from typing import TYPE_CHECKING

from transect.errors import RegistryError
from transect.settings import Settings

if TYPE_CHECKING:
    from transect.engine import Detector


def sample_training_set(settings: Settings) -> Path:
    """The sample survey's training set under TRANSECT_HOME, made when missing; its data.yaml."""
    from transect.synth import make_dataset

    return make_dataset(settings.home / "sample" / "dataset")


def config_file(name: str) -> Path | None:
    """The file `name` in the working directory's configs/, if there is one; without it the built-in defaults hold."""
    path = Path("configs") / name
    return path if path.is_file() else None


def open_detector(settings: Settings, model: str) -> "Detector":
    """Open a package folder, or fetch and verify a registered version.

    `model` empty means the alias TRANSECT_MODEL_ALIAS of TRANSECT_MODEL_NAME. Raises PackageError
    or RegistryError.
    """
    if model and Path(model).is_dir():
        from transect.engine import Detector

        return Detector.from_settings(Path(model), settings)
    from transect.registry import connect

    registry = connect(settings)
    try:
        resolved = registry.resolve(model or f"models:/{settings.model_name}@{settings.model_alias}")
    except RegistryError as error:
        if not model or model.startswith("models:/"):
            raise
        # A mistyped folder reads like an alias.
        raise type(error)(f"There is no folder {model} here, so it was read as a model version. {error}") from error
    return registry.open(resolved)
