"""Classify the files of an object store as find_pictures() does those of a folder."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from transect.pictures.files import (
    Aside,
    PictureFiles,
    is_picture,
    no_picture,
    skipped_folder_reason,
    skipped_name_reason,
    sort_out_copies,
    suffix_of,
)
from transect.pictures.kinds import READ_SUFFIXES, kind_of_stream, kind_of_suffix

# Enough to tell a kind, and most raw files from TIFFs.
HEAD_BYTES = 64 * 1024


def sort_stored_files(
    files: Iterable[tuple[str, int]], below: Path, read_start: Callable[[str, int], bytes]
) -> PictureFiles:
    """Each of `files` (name with forward slashes, size in bytes) once, sorted; their paths are those below `below`.

    `read_start` gives the first bytes of a file whose name does not tell what it is; its OSErrors become reasons.
    """
    pictures, left_out, unusable = list[str](), list[tuple[str, str]](), list[tuple[str, str]]()
    for name, size in sorted(files, key=lambda one: one[0].split("/")):
        reason = _folder_reason(name) or skipped_name_reason(name.rpartition("/")[2], suffix_of(name))
        if reason:
            left_out.append((name, reason))
        elif size == 0:
            if is_picture(kind_of_suffix(name)):
                unusable.append((name, "is empty (0 bytes); copy it again from its source"))
            else:
                left_out.append((name, "no picture (empty)"))
        elif suffix_of(name) in READ_SUFFIXES:
            pictures.append(name)
        else:
            _by_content(name, read_start, pictures, left_out, unusable)
    copies, unusable = sort_out_copies(pictures, unusable)
    asides = [
        tuple(Aside(below / name, reason) for name, reason in sorted(some, key=lambda one: one[0].split("/")))
        for some in ([*left_out, *copies], unusable)
    ]
    return PictureFiles(tuple(below / name for name in pictures), asides[0], asides[1])


def _folder_reason(name: str) -> str:
    for folder in name.split("/")[:-1]:
        reason = skipped_folder_reason(folder)
        if reason:
            return f"in {folder}, {reason}"
    return ""


def _by_content(
    name: str,
    read_start: Callable[[str, int], bytes],
    pictures: list[str],
    left_out: list[tuple[str, str]],
    unusable: list[tuple[str, str]],
) -> None:
    try:
        kind = kind_of_stream(name, io.BytesIO(read_start(name, HEAD_BYTES)))
    except OSError as error:
        unusable.append((name, f"cannot be read: {error.strerror or error}"))
        return
    if kind is None or not is_picture(kind):
        left_out.append((name, no_picture(suffix_of(name))))
    elif kind.read:
        pictures.append(name)
    else:
        unusable.append((name, kind.why))
