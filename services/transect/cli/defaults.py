"""Defaults of commands: the sample training set and configuration files."""

from pathlib import Path

from transect.settings import Settings


def sample_training_set(settings: Settings) -> Path:
    """The sample survey's training set under TRANSECT_HOME, created if missing; returns its data.yaml."""
    from transect.synth import make_dataset

    return make_dataset(settings.home / "sample" / "dataset")


def config_file(name: str) -> Path | None:
    """The file `name` in the working directory's configs/, or None, which means the built-in defaults."""
    path = Path("configs") / name
    return path if path.is_file() else None
