"""Classify every file below a folder: pictures, files left out, and unusable pictures, each with a reason."""

import os
import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from transect.errors import TransectError
from transect.pictures.kinds import FILM, PDF, READ_SUFFIXES, SVG, PictureKind, kind_of_file, kind_of_suffix

# Folders of systems and network storage, in lower case: trash, thumbnails, snapshots.
_SYSTEM_FOLDERS: Final = {
    "$recycle.bin": "a trash folder",
    "recycler": "a trash folder",
    "#recycle": "a trash folder",
    "@recycle": "a trash folder",
    "lost+found": "a folder of recovered fragments",
    "lost.dir": "a folder of recovered fragments",
    "found.000": "a folder of recovered fragments",
    "system volume information": "a system folder",
    "__macosx": "a system folder",
    "@eadir": "a folder of thumbnails",
    "@__thumb": "a folder of thumbnails",
    "#snapshot": "a folder of snapshots",
    "@snapshot": "a folder of snapshots",
    "@recently-snapshot": "a folder of snapshots",
    "@tmp": "a system folder",
}
_SYSTEM_FILES: Final = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "zbthumbnail.info", "icon\r"}
)
# Pictures, but not photos.
_THUMBNAILS: Final = frozenset({".thm", ".scr"})
_BESIDE_MAPS: Final = frozenset({".ovr", ".msk", ".rrd"})
_COPIES: Final = frozenset(
    (
        *(".bak", ".old", ".orig", ".original", ".tmp", ".temp"),
        *(".part", ".partial", ".crdownload", ".filepart", ".download"),
    )
)
# Not pictures, whatever their content; the content of files with other names is inspected.
_NO_PICTURES: Final = frozenset(
    (
        *(".csv", ".txt", ".tsv", ".json", ".xml", ".yaml", ".yml", ".ini", ".log", ".md", ".html"),
        *(".htm", ".zip", ".tar"),
        *(".doc", ".docx", ".ods", ".odt", ".pdf", ".xls", ".xlsx", ".dbf", ".sqlite", ".gpkg", ".qgs", ".qgz"),
        *(".xmp", ".aae", ".srt", ".ass", ".lrf", ".lrv", ".insv", ".gpx", ".kml", ".kmz", ".geojson", ".shp", ".shx"),
        *(".bpw", ".jgw", ".jpgw", ".pgw", ".tfw", ".tfwx", ".tifw", ".tiffw", ".wld", ".prj", ".las", ".laz"),
        *(".3gp", ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mts", ".webm"),
        *(".aac", ".m4a", ".mp3", ".wav"),
    )
)


@dataclass(frozen=True)
class Aside:
    """A file that is not searched, with the reason: a common category in `left_out`, in `unusable` the end of a
    sentence that starts with the file's name.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class PictureFiles:
    """The files below a folder, each once and sorted by path.

    `left_out` are no pictures, or not the survey's; `unusable` are pictures that cannot be opened. A link to a folder
    that is already searched is one entry of `left_out`.
    """

    pictures: tuple[Path, ...]
    left_out: tuple[Aside, ...]
    unusable: tuple[Aside, ...]

    @property
    def found(self) -> int:
        """The number of all files."""
        return len(self.pictures) + len(self.left_out) + len(self.unusable)


def find_pictures(folder: Path, failure: type[TransectError]) -> PictureFiles:
    """Walk a folder recursively, including linked folders; each real folder once, since links may form cycles.

    Suffixes of supported pictures and of known other files decide; the content of all other files is inspected.
    Files in hidden, trash and system folders are listed as left out, and links there are not followed. Raises
    `failure` if a folder cannot be read, because its pictures would be missing silently.
    """
    walk = _Walk(failure)
    walk.visible(folder)
    walk.hidden()
    pictures = sorted(walk.pictures, key=_in_order)
    left_out, unusable = sort_out_copies(walk.pictures, walk.unusable)
    return PictureFiles(
        tuple(Path(path) for path in pictures),
        tuple(Aside(Path(path), reason) for path, reason in sorted([*walk.left_out, *left_out], key=_named_in_order)),
        tuple(Aside(Path(path), reason) for path, reason in sorted(unusable, key=_named_in_order)),
    )


@dataclass
class _Walk:
    failure: type[TransectError]
    pictures: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    aside: list[tuple[str, str]] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def visible(self, folder: Path) -> None:
        """Real folders first, so that a photo has its real path, then linked folders."""
        links = deque([str(folder)])
        while links:
            start = links.popleft()
            folders = [start]
            while folders:
                place = folders.pop()
                if not self._is_new(place):
                    if place == start:
                        self.left_out.append((place, "link to a folder that is searched already"))
                    continue
                inner: list[str] = []
                for entry in self._entries(place):
                    reason = skipped_folder_reason(entry.name)
                    if not _is_folder(entry):
                        self._file(entry)
                    elif reason and not entry.is_symlink():
                        self.aside.append((entry.path, f"in {_printable(entry.name)}, {reason}"))
                    elif reason:
                        self.left_out.append((entry.path, f"link named {_printable(entry.name)}, {reason}"))
                    else:
                        (links if entry.is_symlink() else inner).append(entry.path)
                folders += reversed(inner)

    def hidden(self) -> None:
        """List the files of the folders that were set aside, except those reached by links already."""
        waiting = self.aside[::-1]
        while waiting:
            place, reason = waiting.pop()
            try:
                status = Path(place).stat()
                entries = [] if (status.st_dev, status.st_ino) in self.seen else _scan(place)
            except OSError:
                # Often nobody but the system may read them.
                self.left_out.append((place, f"{reason}, which may not be read"))
                continue
            self.seen.add((status.st_dev, status.st_ino))
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, reason))
                else:
                    self.left_out.append((entry.path, reason))

    def _is_new(self, place: str) -> bool:
        try:
            status = Path(place).stat()
        except OSError as error:
            raise self._refused(place, error) from error
        identity = (status.st_dev, status.st_ino)
        if identity in self.seen:
            return False
        self.seen.add(identity)
        return True

    def _entries(self, place: str) -> list[os.DirEntry[str]]:
        try:
            return _scan(place)
        except OSError as error:
            raise self._refused(place, error) from error

    def _refused(self, place: str, error: OSError) -> TransectError:
        return self.failure(f"{place} cannot be read: {error.strerror or error}; allow it, or move it away.")

    def _file(self, entry: os.DirEntry[str]) -> None:
        suffix = suffix_of(entry.name)
        if entry.name.startswith(".") and suffix == ".icloud":
            reason = "is in iCloud and not on this machine; download it in the Finder first"
            self.unusable.append((entry.path, reason))
        elif left_out := skipped_name_reason(entry.name, suffix):
            self.left_out.append((entry.path, left_out))
        elif reason := _unopenable_reason(entry):
            self.unusable.append((entry.path, reason))
        elif entry.stat().st_size == 0:
            if is_picture(kind_of_suffix(entry.name)):
                self.unusable.append((entry.path, "is empty (0 bytes); copy it again from its source"))
            else:
                self.left_out.append((entry.path, "no picture (empty)"))
        elif suffix in READ_SUFFIXES:
            self.pictures.append(entry.path)
        else:
            self._inspect_content(entry.path, suffix)

    def _inspect_content(self, path: str, suffix: str) -> None:
        try:
            kind = kind_of_file(Path(path))
        except OSError as error:
            self.unusable.append((path, f"cannot be read: {error.strerror or error}"))
            return
        if kind is None or not is_picture(kind):
            self.left_out.append((path, no_picture(suffix)))
        elif kind.read:
            self.pictures.append(path)
        else:
            self.unusable.append((path, kind.why))


def is_picture(kind: PictureKind | None) -> bool:
    """Whether a kind is that of a picture, read or not."""
    return kind is not None and kind not in (FILM, PDF, SVG)


def _scan(place: str) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a cycle of links; reported with the files


def skipped_folder_reason(name: str) -> str:
    """The reason to skip a folder of this name, or an empty string."""
    lower = name.lower()
    if lower in _SYSTEM_FOLDERS:
        return _SYSTEM_FOLDERS[lower]
    if lower.startswith((".trash", ".dtrash")):
        return "a trash folder"
    if lower.endswith(".lrdata"):
        return "a folder of thumbnails"
    return "a hidden folder" if name.startswith(".") else ""


def skipped_name_reason(name: str, suffix: str) -> str:
    """The reason to leave out a file of this name regardless of its content, or an empty string."""
    if name.startswith("."):
        return "hidden file"
    if name.lower() in _SYSTEM_FILES:
        return "system file"
    if suffix in _THUMBNAILS:
        return f"thumbnail ({suffix})"
    if suffix in _COPIES or suffix.endswith(("_original", "~")):
        return f"backup or unfinished copy ({suffix})"
    if suffix in _BESIDE_MAPS:
        return f"part of a map beside it ({suffix})"
    return no_picture(suffix) if suffix in _NO_PICTURES else ""


def no_picture(suffix: str) -> str:
    """The reason to leave out a file that is no picture."""
    return f"no picture ({suffix})" if suffix else "no picture (no suffix)"


def _unopenable_reason(entry: os.DirEntry[str]) -> str:
    """The reason that a file cannot be opened, or an empty string."""
    try:
        status = entry.stat()
    except OSError as error:
        if entry.is_symlink():
            return f"is a link to {Path(entry.path).readlink()}, which is not there; get that file, or remove the link"
        return f"cannot be read: {error.strerror or error}"
    return "" if stat.S_ISREG(status.st_mode) else "is no regular file"


def sort_out_copies(
    pictures: list[str], unusable: list[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Separate unsupported copies of a readable picture with the same name: cameras write JPEG and raw of one photo."""
    if not unusable:
        return [], []
    stems = {_stem(path) for path in pictures}
    copies, rest = [], []
    for path, reason in unusable:
        kind = kind_of_suffix(path)
        if kind is not None and not kind.read and _stem(path) in stems:
            copies.append((path, f"copy of a picture beside it in another format ({suffix_of(path)})"))
        else:
            rest.append((path, reason))
    return copies, rest


def _stem(path: str) -> str:
    return str(Path(path).with_suffix(""))


def suffix_of(path: str) -> str:
    """The suffix in lower case, with its dot; "" without one."""
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return _printable(f".{suffix.lower()}") if dot and stem and suffix else ""


def _printable(name: str) -> str:
    """A name with undecodable bytes escaped, because reasons are printed and written to files."""
    return name.encode("utf-8", "backslashreplace").decode()


def _in_order(path: str) -> list[str]:
    return path.split("/")


def _named_in_order(one: tuple[str, str]) -> list[str]:
    return one[0].split("/")


class _Reasoned(Protocol):
    @property
    def reason(self) -> str: ...


def count_reasons(asides: Iterable[_Reasoned]) -> dict[str, int]:
    """The number of files by reason, the most frequent first."""
    counts: dict[str, int] = {}
    for one in asides:
        counts[one.reason] = counts.get(one.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
