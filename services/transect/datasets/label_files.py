"""Find the label file of each picture, and label files without a picture."""

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from transect.datasets.labels import label_path, read_rows
from transect.errors import DatasetError
from transect.pictures.kinds import READ_SUFFIXES
from transect.wording import count_of

# If this share of a split lacks labels while as many label files are left over, the layout is misread. Smaller shares
# are empty ground, and pictures that were removed.
_NOT_BY_CHANCE = 0.1
# Files of labelling tools among label files.
_NO_LABELS = frozenset({"classes.txt", "labels.txt", "obj.names", "notes.txt", "readme.txt", "license.txt"})
_MOST_SEARCHED = 200_000

_Listed = Callable[[Path], dict[str, list[Path]]]


@dataclass(frozen=True)
class LabelFiles:
    """The label files of one split's images, aligned with them; a missing one means empty ground.

    `missing` are indices of images without one. `beside` were found beside their picture and not in the label folder,
    `doubled` exist in both places, of which the first is used. `unused` label files belong to no image of any split.
    """

    paths: tuple[Path, ...]
    missing: tuple[int, ...]
    beside: tuple[Path, ...]
    doubled: tuple[Path, ...]
    unused: tuple[Path, ...]

    def remarks(self, split: str, images: int) -> list[str]:
        """Sentences on unusual label files, for the user to check before a training."""
        found = []
        if self.missing:
            place = self.paths[self.missing[0]]
            found.append(
                f"{split}: {len(self.missing)} of {images} images have no label file and count as empty ground "
                f"(looked for at places like {place})."
            )
        if self.beside:
            found.append(
                f"{split}: the labels of {len(self.beside)} of {images} images were found beside their pictures, "
                f"such as {self.beside[0]}."
            )
        if self.doubled:
            pictures = count_of(len(self.doubled), "image has", "images have")
            found.append(f"{split}: {pictures} a second label file, such as {self.doubled[0]}; it is not used.")
        if self.unused:
            files = count_of(len(self.unused), "label file belongs", "label files belong")
            found.append(f"{split}: {files} to no image, such as {self.unused[0]}.")
        return found


def find_label_files(splits: Mapping[str, Sequence[Path]], root: Path) -> dict[str, LabelFiles]:
    """Find the label files of the images of each split.

    A label file is expected at Ultralytics' path (see label_path), else beside its picture. Case and Unicode
    composition of the name are ignored if only one file matches.

    Raises DatasetError if a name matches several files, or if many images have no label file while label files are
    left over or are elsewhere below `root`.
    """
    listed, stems = cache(_label_names), cache(_picture_stems)

    def pictured(label: Path) -> bool:
        """Whether the label file has a picture that no split uses, or one in another folder."""
        return any(_folded(label.stem) in stems(folder) for folder in (label.parent, _picture_folder(label)))

    placed = {name: [_find(image, listed) for image in images] for name, images in splits.items()}
    used = {_identity(one.path) for found in placed.values() for one in found if one.exists}
    own = {name: _label_folders(images) for name, images in splits.items()}
    owned = {folder for folders in own.values() for folder in folders}
    result = {}
    for name, found in placed.items():
        paths = tuple(one.path for one in found)
        missing = tuple(number for number, one in enumerate(found) if not one.exists)
        # A folder of another split is searched by that split.
        folders = dict.fromkeys((*own[name], *(below for below in _below(own[name]) if below not in owned)))
        unused = tuple(
            path
            for folder in folders
            for paths_here in listed(folder).values()
            for path in paths_here
            if _identity(path) not in used and path.name.lower() not in _NO_LABELS and not pictured(path)
        )
        result[name] = LabelFiles(
            paths,
            missing,
            tuple(one.path for one in found if one.beside),
            tuple(one.double for one in found if one.double is not None),
            unused,
        )
        _require_fitting(name, splits[name], result[name], lambda path: _identity(path) in used or pictured(path), root)
    return result


def _label_folders(images: Sequence[Path]) -> dict[Path, bool]:
    """The folders of the expected label files, and whether each contains only labels."""
    one_of_each = {image.parent: image for image in images}
    places = {folder: label_path(image).parent for folder, image in one_of_each.items()}
    return {place: place != folder for folder, place in places.items()}


def _below(folders: Mapping[Path, bool]) -> list[Path]:
    """The folders below those that contain only labels; some may have no picture."""
    return [Path(found) for folder, labels_alone in folders.items() if labels_alone for found, *_ in os.walk(folder)]


@dataclass(frozen=True, kw_only=True)
class _LabelFile:
    """The label file of an image, or where one is expected. `beside` is true for one that lies beside its image;
    `double` is a second one there, which is not used.
    """

    path: Path
    exists: bool = True
    beside: bool = False
    double: Path | None = None


def _find(image: Path, listed: _Listed) -> _LabelFile:
    expected = label_path(image)
    kept = _in_folder(expected, listed)
    neighbour = image.with_suffix(".txt")
    beside = _in_folder(neighbour, listed) if neighbour.parent != expected.parent else None
    if kept is not None:
        return _LabelFile(path=kept, double=beside)
    if beside is not None:
        return _LabelFile(path=beside, beside=True)
    return _LabelFile(path=expected, exists=False)


def _in_folder(wanted: Path, listed: _Listed) -> Path | None:
    fitting = listed(wanted.parent).get(_folded(wanted.name), [])
    if wanted in fitting:
        return wanted
    if len(fitting) > 1:
        raise DatasetError(f"{fitting[0]} and {fitting[1].name} both fit one image; keep one of them.")
    return fitting[0] if fitting else None


def _label_names(folder: Path) -> dict[str, list[Path]]:
    """The label files of a folder, by name with case and Unicode composition ignored."""
    names: dict[str, list[Path]] = {}
    for name in _entries(folder):
        folded = _folded(name)
        if folded.endswith(".txt") and not name.startswith("."):
            names.setdefault(folded, []).append(folder / name)
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _identity(path: Path) -> str:
    return os.path.realpath(path)


def _require_fitting(
    name: str, images: Sequence[Path], found: LabelFiles, taken: Callable[[Path], bool], root: Path
) -> None:
    least = max(1.0, _NOT_BY_CHANCE * len(images))
    if len(found.missing) < least:
        return
    image = images[found.missing[0]]
    if len(found.unused) >= least:
        raise DatasetError(
            f"{len(found.missing)} of {len(images)} images of the {name} split have no label file, such as {image}, "
            f"and {len(found.unused)} label files belong to no image, such as {found.unused[0]}; a label file has its "
            "image's name and the suffix .txt."
        )
    names = {_folded(label_path(images[number]).name) for number in found.missing}
    elsewhere = [path for path in _named(names, root) if not taken(path) and _is_label_file(path)]
    if len(elsewhere) >= least:
        raise DatasetError(
            f"{len(found.missing)} of {len(images)} images of the {name} split have no label file where it is looked "
            f"for, such as {found.paths[found.missing[0]]}, but {len(elsewhere)} label files of their names lie "
            f"elsewhere, such as {elsewhere[0]}; move them there."
        )


def _named(names: set[str], root: Path) -> list[Path]:
    """Files of these names anywhere below the training set."""
    found, searched = [], 0
    for folder, folders, files in os.walk(root):
        folders.sort()
        searched += len(files)
        if searched > _MOST_SEARCHED:
            break
        found += [Path(folder, file) for file in sorted(files) if _folded(file) in names]
    return found


def _picture_folder(label: Path) -> Path:
    """The picture folder of a label file: the inverse of label_path."""
    parts = list(label.parent.parts)
    for index in range(len(parts) - 1, 0, -1):
        if parts[index] == "labels":
            parts[index] = "images"
            break
    return Path(*parts)


def _picture_stems(folder: Path) -> frozenset[str]:
    paths = map(Path, _entries(folder))
    return frozenset(_folded(path.stem) for path in paths if path.suffix.lower() in READ_SUFFIXES)


def _entries(folder: Path) -> list[str]:
    """The names in a folder; empty if it does not exist."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _is_label_file(path: Path) -> bool:
    try:
        return len(read_rows(path)) > 0
    except DatasetError:
        return False
