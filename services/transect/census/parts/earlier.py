"""Results that a census of Transect 0.1.0 kept in a file for each photo; they are read, and none is written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CANDIDATES = ".candidates"


def has_earlier_parts(folder: Path) -> bool:
    """Whether a folder of results holds such files: they lie in folders named by two digits of their hash."""
    return any(path.is_dir() for path in folder.glob("[0-9a-f][0-9a-f]"))


def read_earlier_part(folder: Path, sha256: str, variant: str) -> tuple[Mapping[str, Any] | None, dict[str, Any]]:
    """What counts in a photo and its candidates by their threshold; None and nothing where no file has them.

    A file that was damaged from outside is none.
    """
    place = folder / sha256[:2]
    counted = _read(place / f"{sha256}{variant}.json")
    start = f"{sha256}{variant}-from"
    candidates = {}
    for path in place.glob(f"{start}*{_CANDIDATES}"):
        found = _read(path)
        if found is not None:
            candidates[path.name.removeprefix(start).removesuffix(_CANDIDATES)] = found
    return counted, candidates


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "detections" in found else None
