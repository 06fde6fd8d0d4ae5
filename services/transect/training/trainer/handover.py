"""A generated data.yaml for Ultralytics, without any content of the user's file.

Ultralytics opens the file of its argument `data` whenever it validates outside of a training, searches the images from
the working directory, and where it does not find them runs the shell command or Python under `download:`. So only
`load_dataset` reads the user's file.
"""

from pathlib import Path
from typing import Any

import yaml

from transect.datasets import Dataset, SplitName
from transect.files import atomic_write

FOLDER = "dataset"
_SPLITS: tuple[SplitName, ...] = ("train", "val")


def write_data_yaml(dataset: Dataset, folder: Path) -> Path:
    """Write lists of the training and validation images, as absolute paths, and a data.yaml into the run's `folder`.

    Returns the path of the data.yaml, which has the keys path, train, val and names alone.
    """
    home = folder.absolute() / FOLDER
    document: dict[str, Any] = {"path": str(home)}
    for name in _SPLITS:
        document[name] = f"{name}.txt"
        lines = "".join(f"{image}\n" for image in dataset.splits[name].images)
        atomic_write(home / document[name], lines.encode("utf-8", "surrogateescape"))
    document["names"] = dict(enumerate(dataset.names))
    target = home / "data.yaml"
    atomic_write(target, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return target
