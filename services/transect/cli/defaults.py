"""What a command takes when the user names nothing: the sample training set, the configuration files."""

from pathlib import Path

from transect.settings import Settings


def sample_training_set(settings: Settings) -> Path:
    """The sample survey's training set under TRANSECT_HOME, made when missing; its data.yaml."""
    from transect.synth import make_dataset

    return make_dataset(settings.home / "sample" / "dataset")


def config_file(name: str) -> Path | None:
    """The file `name` in the working directory's configs/, if there is one; without it the built-in defaults hold."""
    path = Path("configs") / name
    return path if path.is_file() else None
