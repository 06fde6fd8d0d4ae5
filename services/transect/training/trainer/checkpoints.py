"""The files from which a training goes on, and those that say that it is over."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.files import atomic_path, atomic_write_json

TRAINED = "trained.json"
LAST, BEST = Path("weights") / "last.pt", Path("weights") / "best.pt"
# Both as they were before Ultralytics strips them at the end: the epochs are all done then.
COMPLETE, COMPLETE_BEST = Path("weights") / "complete.pt", Path("weights") / "complete-best.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training goes on: the file, whether all epochs are done, and the arguments that are others now."""

    path: Path
    complete: bool
    changes: Mapping[str, Any]


def state_files(folder: Path) -> list[Path]:
    """What the trainer keeps beside its checkpoint, so that it goes on exactly as it would have."""
    return sorted((folder / "weights").glob("state-*.pt"))


def cut_results(table: Path, epochs: int) -> None:
    """Take out of results.csv the epochs after the first `epochs`: they are trained again."""
    if not table.is_file():
        return
    header, *rows = table.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= epochs]
    with atomic_path(table) as temporary:
        temporary.write_text(header + "".join(kept), encoding="utf-8")


def write_trained(folder: Path, values: Mapping[str, Any]) -> None:
    """Note that training is over, with what it left."""
    atomic_write_json(folder / TRAINED, dict(values))
    for path in (folder / COMPLETE, folder / COMPLETE_BEST, *state_files(folder)):
        path.unlink(missing_ok=True)


def read_trained(folder: Path) -> dict[str, Any] | None:
    """What `write_trained` noted, if it did."""
    path = folder / TRAINED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
