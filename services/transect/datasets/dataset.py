"""Load a training set: resolve and validate a data.yaml before a training starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transect.config_files import YamlMapping, read_yaml_mapping
from transect.datasets.images import Listing, image_size, list_images, require_usable
from transect.datasets.label_files import LabelFiles, find_label_files
from transect.datasets.labels import read_rows
from transect.errors import DatasetError
from transect.wording import count_of

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """The images of one split.

    All fields are aligned with `images`. `labels` are the label files; a missing one means an image
    without objects. `rows` are their contents when the set was read, (n, 5) as in `read_rows`: label
    files are read only once, so changes during a training have no effect. `sizes` are width and height
    in pixels after EXIF orientation.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    rows: tuple[NDArray[np.float64], ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Dataset:
    """A checked training set.

    `path` is the data.yaml. `splits` always has train, val and test; if the file has no test split,
    test is val and `test_is_val` is true. `remarks` are sentences on files that were left out, found in
    another place, or treated as empty ground. `review` is from which review of a census `transect review dataset` made
    the set; empty for others.
    """

    path: Path
    names: tuple[str, ...]
    splits: dict[SplitName, Split]
    test_is_val: bool
    remarks: tuple[str, ...] = ()
    review: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def name(self) -> str:
        """A display name: the file's own, or its folder's when the file is called data.yaml."""
        return self.path.parent.name if self.path.stem in {"data", "dataset"} else self.path.stem


def load_dataset(data_yaml: Path) -> Dataset:
    """Read a data.yaml in Ultralytics' format and check all files that it refers to.

    Other keys than path, train, val, test, names, nc and kpt_shape are ignored, including `download`.

    Raises DatasetError with file and line if: the file is missing or malformed; names are not a list
    or a mapping 0..n-1; a split is missing or empty; a file is not an image or cannot be read; a label
    row is malformed or out of range; a split has no label at all, or labels without images while images
    lack labels.
    """
    document = _read(data_yaml)
    names = _class_names(document, data_yaml)
    root, remarks = _root(document, data_yaml)
    keypoints = _keypoint_numbers(document, data_yaml)
    sources = {name: _sources(document, name, data_yaml) for name in ("train", "val")}
    if document.get("test"):
        sources["test"] = _sources(document, "test", data_yaml)
    try:
        listings = {name: _list(named, root) for name, named in sources.items()}
        for name, listing in listings.items():
            require_usable(listing, name, sources[name])
        found = find_label_files({name: listing.images for name, listing in listings.items()}, root)
        splits = {
            name: _split(listing.images, found[name], len(names), keypoints) for name, listing in listings.items()
        }
        for name, split in splits.items():
            _require_boxes(name, split)
    except DatasetError as error:
        raise DatasetError(f"{data_yaml}: {error}") from error
    for name, listing in listings.items():
        remarks += [*listing.remarks(name), *found[name].remarks(name, len(listing.images))]
    train, val = splits["train"], splits["val"]
    test = splits.get("test", val)
    return Dataset(
        data_yaml.absolute(),
        names,
        {"train": train, "val": val, "test": test},
        test.images == val.images,
        tuple(remarks),
        _review(document),
    )


def _review(document: YamlMapping) -> dict[str, str]:
    """The origin that `transect review dataset` writes."""
    given = document.get("review")
    return {str(key): str(value) for key, value in given.items()} if isinstance(given, dict) else {}


def _read(path: Path) -> YamlMapping:
    if not path.is_file():
        hint = " (it is a folder; name the data.yaml in it)" if path.is_dir() else ""
        raise DatasetError(f"Training set {path} does not exist{hint}; give the path of a data.yaml.")
    document = read_yaml_mapping(path, DatasetError)
    if not document:
        raise DatasetError(f"{path} is not a data.yaml: expected the keys train, val and names.")
    return document


def _class_names(document: YamlMapping, path: Path) -> tuple[str, ...]:
    names = document.get("names")
    keys: Sequence[str | int] = range(len(names)) if isinstance(names, list) else ()
    if isinstance(names, dict) and names:
        # Files converted from JSON have quoted numbers.
        by_number = {int(key): key for key in names if str(key).isascii() and str(key).isdecimal()}
        if sorted(by_number) != list(range(len(names))):
            first = min(by_number, default=0)
            hint = (
                f"; these begin at {first}, but labels count classes from 0: number the names, and the classes in the "
                "label files, from 0"
                if first
                else ""
            )
            raise DatasetError(
                document.placed(f"{path}: the keys of names must be 0 to {len(names) - 1}, each once{hint}", "names")
            )
        keys = [by_number[number] for number in range(len(names))]
        names = [names[key] for key in keys]
    if not isinstance(names, list) or not names:
        raise DatasetError(
            document.placed(
                f"{path}: names must be a list of class names, or a mapping from 0, 1, ... to them", "names"
            )
        )
    for key, name in zip(keys, names, strict=True):
        if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
            raise DatasetError(
                document.placed(
                    f"{path}: every entry of names must be a word; write yes, no, on and off in quotes", "names", key
                )
            )
    cleaned = tuple(str(name).strip() for name in names)
    if len(set(cleaned)) < len(cleaned):
        twice = next(name for name in cleaned if cleaned.count(name) > 1)
        raise DatasetError(document.placed(f"{path}: names holds the same class twice: {twice}", "names"))
    count = document.get("nc")
    if count is not None and str(count) != str(len(cleaned)):
        classes = count_of(len(cleaned), "class", "classes")
        raise DatasetError(document.placed(f"{path}: nc is {count}, but names holds {classes}", "nc"))
    return cleaned


def _root(document: YamlMapping, data_yaml: Path) -> tuple[Path, list[str]]:
    """The folder that splits are relative to, and remarks."""
    folder = data_yaml.absolute().parent
    value = document.get("path")
    if value is None:
        return folder, []
    if not isinstance(value, str):
        raise DatasetError(document.placed(f"{data_yaml}: path must be the name of a folder", "path"))
    _refuse_address(document, "path", value, data_yaml)
    wanted = Path(value).expanduser()
    # A moved set is found beside its yaml, also if `path` names the folder that contains the file. Ultralytics
    # resolves relative to the working directory.
    candidates = [folder / wanted, Path(wanted).absolute()]
    if wanted.parts and folder.parts[-len(wanted.parts) :] == wanted.parts:
        candidates.insert(1, folder)
    there = [candidate for candidate in candidates if candidate.is_dir()]
    if not there:
        raise DatasetError(
            document.placed(
                f"{data_yaml}: the folder {value} named by path does not exist; write `path: .` for the folder of "
                "the data.yaml itself",
                "path",
            )
        )
    # A leading dot is meant relative to the file.
    others = [other for other in there[1:] if not value.startswith(".") and not other.samefile(there[0])]
    if others:
        return there[0], [f"path: {value} is taken to be {there[0]}; there is a folder {others[0]} too."]
    return there[0], []


def _keypoint_numbers(document: YamlMapping, data_yaml: Path) -> int:
    """The count of numbers after the box in a row of pose labels; 0 without keypoints."""
    shape = document.get("kpt_shape")
    if shape is None:
        return 0
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(isinstance(one, int) and not isinstance(one, bool) for one in shape)
        or shape[0] < 1
        or shape[1] not in (2, 3)
    ):
        raise DatasetError(
            document.placed(
                f"{data_yaml}: kpt_shape must be the number of points and of values for each (2 or 3), such as [4, 2]",
                "kpt_shape",
            )
        )
    return int(shape[0]) * int(shape[1])


def _sources(document: YamlMapping, name: str, data_yaml: Path) -> list[str]:
    """The folders, files and lists of a split."""
    key = "validation" if name == "val" and "val" not in document and "validation" in document else name
    value = document.get(key)
    sources = [source for source in (value if isinstance(value, list) else [value]) if isinstance(source, str)]
    if not all(source.strip() for source in sources) or len(sources) != (len(value) if isinstance(value, list) else 1):
        sources = []
    if not sources:
        called_valid = name == "val" and key not in document and "valid" in document
        hint = "; the file has valid: call it val" if called_valid else ""
        raise DatasetError(
            document.placed(
                f"{data_yaml}: {name} must name a folder of images, a text file, or a list of these{hint}", key
            )
        )
    for source in sources:
        _refuse_address(document, key, source, data_yaml)
    return sources


def _refuse_address(document: YamlMapping, key: str, value: str, data_yaml: Path) -> None:
    if "://" in value:
        raise DatasetError(
            document.placed(
                f"{data_yaml}: {key} is the address {value}; nothing is downloaded: get the set yourself, and name its "
                "folder",
                key,
            )
        )


def _list(sources: Sequence[str], root: Path) -> Listing:
    return Listing.of([list_images(_resolve(source, root), root) for source in sources])


def _resolve(source: str, root: Path) -> Path:
    """Resolve a source of a split; exports of labelling services write ../ before a folder beside the file."""
    for name in (source, source.replace("\\", "/")):
        path = root / Path(name).expanduser()
        for candidate in (path, root / name.removeprefix("../")):
            if candidate.exists():
                return candidate.absolute()
    return Path((root / source).absolute())


def _split(images: tuple[Path, ...], found: LabelFiles, classes: int, keypoints: int) -> Split:
    rows = tuple(read_rows(path, classes, keypoints) for path in found.paths)
    return Split(images, found.paths, rows, tuple(image_size(image) for image in images))


def _require_boxes(name: str, split: Split) -> None:
    if not any(map(len, split.rows)):
        raise DatasetError(f"no image of the {name} split has a label; expected them at places like {split.labels[0]}.")
