"""Checkpoint files of a training, and the marker of a complete one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.files import atomic_path, atomic_write_json

TRAINED = "trained.json"
LAST, BEST = Path("weights") / "last.pt", Path("weights") / "best.pt"
# Copies from before Ultralytics strips both at the end, when all epochs are done.
COMPLETE, COMPLETE_BEST = Path("weights") / "complete.pt", Path("weights") / "complete-best.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint to resume from: its file, whether all epochs are done, and the arguments that changed since."""

    path: Path
    complete: bool
    changes: Mapping[str, Any]


def state_files(folder: Path) -> list[Path]:
    """The trainer's state files beside the checkpoint, for a bit-equal resume."""
    return sorted((folder / "weights").glob("state-*.pt"))


def cut_results(table: Path, epochs: int) -> None:
    """Remove the epochs after the first `epochs` from results.csv: they are trained again."""
    if not table.is_file():
        return
    header, *rows = table.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= epochs]
    with atomic_path(table) as temporary:
        temporary.write_text(header + "".join(kept), encoding="utf-8")


def write_trained(folder: Path, values: Mapping[str, Any]) -> None:
    """Mark the training as complete, with its results, and remove its state files."""
    atomic_write_json(folder / TRAINED, dict(values))
    for path in (folder / COMPLETE, folder / COMPLETE_BEST, *state_files(folder)):
        path.unlink(missing_ok=True)


def read_trained(folder: Path) -> dict[str, Any] | None:
    """The results that `write_trained` wrote; None when the training is not complete."""
    path = folder / TRAINED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
