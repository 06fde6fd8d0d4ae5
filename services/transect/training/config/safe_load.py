"""Safe loading of Ultralytics checkpoints: no code in them runs."""

from pathlib import Path
from typing import Any

from transect.errors import InputError


def load_checkpoint(path: Path) -> Any:
    """The model in an Ultralytics checkpoint, unpickled under its allow-list of classes.

    Raises InputError for a missing file, one that is no checkpoint, or another task's.
    """
    if not path.is_file():
        raise InputError(f"Weights {path} do not exist; give a .pt file, or auto, starter or none.")
    from ultralytics.nn.tasks import load_checkpoint as load

    try:
        model, _ = load(path)
    except Exception as error:  # a damaged or hostile file fails in any way
        raise InputError(
            f"Weights {path} cannot be used: they are no Ultralytics checkpoint of known model classes, or damaged."
        ) from error
    if model.task != "detect":
        raise InputError(f"Weights {path} are for the task {model.task!r}; Transect trains detectors.")
    return model
