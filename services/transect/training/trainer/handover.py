"""What Ultralytics is told of a training set: a data.yaml of our own, with nothing of the user's file in it.

Ultralytics opens the file that its argument `data` names whenever it validates outside of a training, looks for the
pictures from the working directory, and where it does not find them runs what stands under `download:`, be it a shell
command or Python. So the user's file is read by `load_dataset` alone.
"""

from pathlib import Path
from typing import Any

import yaml

from transect.datasets import Dataset, SplitName
from transect.files import atomic_write

FOLDER = "dataset"
_SPLITS: tuple[SplitName, ...] = ("train", "val")


def write_handover(dataset: Dataset, folder: Path) -> Path:
    """Write the pictures of training and validation, by absolute path, and the class names into the run's `folder`.

    Returns the path of the data.yaml. It has the keys path, train, val and names, and no other.
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
