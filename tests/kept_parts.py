"""What a census has written and kept below its result folder, as tests look at it."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from transect.census.parts.found import Look
from transect.census.parts.segments import read_segments
from transect.stores import FolderStore


def kept_looks(work: Path) -> list[tuple[Look, dict[str, Any]]]:
    """Every look at a photo that is kept, with what it found; empty where that was kept by an earlier look."""
    store = FolderStore(work)
    folders = sorted(path.name for path in work.iterdir() if path.is_dir()) if work.is_dir() else []
    return [
        (Look(*key), json.loads(content))
        for folder in folders
        if folder not in ("readings", "leases")
        for key, content in read_segments(store, folder)
    ]


def kept_photos(work: Path) -> list[tuple[str, str]]:
    """Hash and variant of every photo of which something was found, or nothing was."""
    return [(look.sha256, look.variant) for look, content in kept_looks(work) if content]


def digests(folder: Path) -> dict[str, str]:
    """Content of the result files; times are cut out of the two that hold them."""
    found = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if path.name in ("manifest.json", "report.html"):
            content = re.sub(rb"20\d\d-\d\d-\d\d(T[\d:+]+)?", b"", content)
        found[path.name] = hashlib.sha256(content).hexdigest()
    return found
