"""The starter weights: a trained model and its arguments, without details of the training machine."""

import io
from pathlib import Path
from typing import Any

from transect.files import atomic_write
from transect.training.config.pretrained import STARTER
from transect.training.config.safe_load import load_checkpoint

# Arguments that are paths on the training machine.
_PLACES = frozenset({"data", "project", "name", "save_dir", "model", "pretrained", "cfg", "source"})


def write_starter(checkpoint: Path, target: Path = STARTER) -> Path:
    """Write the model in `checkpoint` to `target` as the starter weights; returns `target`.

    Half precision and no optimizer, as Ultralytics' own weights. Paths, the repository and scores
    of the run are left out. Raises InputError when `checkpoint` is not a detector's.
    """
    import torch

    model = load_checkpoint(checkpoint)
    arguments: dict[str, Any] = {name: value for name, value in model.args.items() if name not in _PLACES}
    model.args = arguments
    del model.pt_path
    content = {
        "model": model.half(),
        "train_args": arguments,
        "license": "AGPL-3.0-or-later",
        "description": "Trained by Transect on pictures that it made itself.",
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write(target, buffer.getvalue())
    return target
