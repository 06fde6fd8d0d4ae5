"""A training set: what a data.yaml says, resolved and checked before anything is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from transect.datasets.images import image_size, list_images
from transect.datasets.labels import label_path, read_rows
from transect.errors import DatasetError

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """The images of one split.

    `labels` are the label files, aligned with `images`; one that does not exist means an image
    without objects. `sizes` are width and height in pixels after EXIF orientation.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Dataset:
    """A checked training set.

    `path` is the data.yaml. `splits` always holds train, val and test; where the file names no
    test split of its own, test is val and `test_is_val` says so.
    """

    path: Path
    names: tuple[str, ...]
    splits: dict[SplitName, Split]
    test_is_val: bool

    @property
    def name(self) -> str:
        """A name for people: the file's own, or its folder's when the file is called data.yaml."""
        return self.path.parent.name if self.path.stem in {"data", "dataset"} else self.path.stem


def load_dataset(data_yaml: Path) -> Dataset:
    """Read a data.yaml in Ultralytics' format and check all that it points to.

    Raises DatasetError, naming file and line, when: the file is missing or malformed; names are
    not a list or a mapping 0..n-1; a split is missing or empty; an image is not one; a label row is
    malformed or out of range; no image of the train split has a label.
    """
    document = _read_yaml(data_yaml)
    names = _class_names(document, data_yaml)
    root = _root(document, data_yaml)
    if "val" not in document and "validation" in document:
        document["val"] = document["validation"]
    train = _split(document, "train", root, data_yaml, len(names))
    val = _split(document, "val", root, data_yaml, len(names))
    test = _split(document, "test", root, data_yaml, len(names)) if document.get("test") else val
    if not any(_has_box(path) for path in train.labels):
        raise DatasetError(
            f"{data_yaml}: no image of the train split has a label; expected them at places like {train.labels[0]}."
        )
    return Dataset(data_yaml.absolute(), names, {"train": train, "val": val, "test": test}, test.images == val.images)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        hint = " (it is a folder; name the data.yaml in it)" if path.is_dir() else ""
        raise DatasetError(f"Training set {path} does not exist{hint}; give the path of a data.yaml.")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path} is not YAML: {reason}.") from error
    if not isinstance(document, dict):
        raise DatasetError(f"{path} is not a data.yaml: expected the keys train, val and names.")
    return document


def _class_names(document: dict[str, Any], path: Path) -> tuple[str, ...]:
    names = document.get("names")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DatasetError(f"{path}: the keys of names must be 0 to {len(names) - 1}, each once.")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError(f"{path}: names must be a list of class names, or a mapping from 0, 1, ... to them.")
    if not all(isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip() for name in names):
        raise DatasetError(f"{path}: every entry of names must be a word.")
    cleaned = tuple(str(name).strip() for name in names)
    if len(set(cleaned)) < len(cleaned):
        raise DatasetError(f"{path}: names holds the same class twice.")
    count = document.get("nc")
    if count is not None and str(count) != str(len(cleaned)):
        raise DatasetError(f"{path}: nc is {count}, but names holds {len(cleaned)} classes.")
    return cleaned


def _root(document: dict[str, Any], data_yaml: Path) -> Path:
    folder = data_yaml.absolute().parent
    given = document.get("path")
    if given is None:
        return folder
    if not isinstance(given, str):
        raise DatasetError(f"{data_yaml}: path must be the name of a folder.")
    # Ultralytics looks from the working directory; a set that was moved is found beside its yaml.
    for candidate in (folder / given, Path(given).absolute()):
        if candidate.is_dir():
            return candidate
    raise DatasetError(f"{data_yaml}: the folder {given} named by path does not exist.")


def _split(document: dict[str, Any], name: SplitName, root: Path, data_yaml: Path, classes: int) -> Split:
    given = document.get(name)
    sources = [source for source in (given if isinstance(given, list) else [given]) if isinstance(source, str)]
    if not sources or (isinstance(given, list) and len(sources) < len(given)):
        raise DatasetError(f"{data_yaml}: {name} must name a folder of images, a text file, or a list of these.")
    try:
        found = [image for source in sources for image in list_images(_resolve(source, root), root)]
        images = tuple(dict.fromkeys(found))
        labels = tuple(label_path(image) for image in images)
        sizes = tuple(image_size(image) for image in images)
        for path in labels:
            read_rows(path, classes)
    except DatasetError as error:
        raise DatasetError(f"{data_yaml}: {error}") from error
    if not images:
        raise DatasetError(f"{data_yaml}: the {name} split is empty; no images in {', '.join(sources)}.")
    return Split(images, labels, sizes)


def _resolve(source: str, root: Path) -> Path:
    path = root / source
    if not path.exists() and source.startswith("../"):
        # Exports of labelling services begin with ../ although the folder lies beside the yaml.
        path = root / source[3:]
    return Path(path.absolute())


def _has_box(label: Path) -> bool:
    return len(read_rows(label)) > 0
