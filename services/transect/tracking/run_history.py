"""What a run has told so far, read back from its spool."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transect.tracking.spool import Spool

# What says where a training writes or what it loads, and not how it trains.
_PLACES = frozenset(
    {"data", "dataset_digest", "model", "name", "pretrained", "project", "recipe", "resume", "save_dir"}
)
# Measured by the clock and not by the epoch: a resumed run goes on measuring.
_CLOCKED = "system/"


@dataclass(frozen=True)
class History:
    """A run as its journal tells it.

    `metrics` are the (name, step) pairs that it has; `status` is "" while nothing ended it, and
    `registering` whether its package was handed over.
    """

    local_id: str
    name: str
    experiment: str
    facts: Mapping[str, Any]
    params: dict[str, str]
    metrics: set[tuple[str, int]]
    status: str
    registering: bool

    @classmethod
    def read(cls, spool: Spool) -> "History":
        """The history of a spool that has its first entry."""
        first: dict[str, Any] = {}
        params: dict[str, str] = {}
        metrics: set[tuple[str, int]] = set()
        status, registering = "", False
        for entry in spool.entries():
            if entry.kind == "create":
                first = entry.data
            elif entry.kind == "params":
                params = {**entry.data["values"], **params}
            elif entry.kind == "metrics":
                metrics |= {
                    (name, entry.data["step"]) for name in entry.data["values"] if not name.startswith(_CLOCKED)
                }
            elif entry.kind == "status":
                status = "" if entry.data["status"] == "RUNNING" else entry.data["status"]
            registering |= entry.kind == "register"
        return cls(
            local_id=first.get("local_id", ""),
            name=first.get("name", spool.run_folder.name),
            experiment=first.get("experiment", ""),
            facts=first.get("facts", {}),
            params=params,
            metrics=metrics,
            status=status,
            registering=registering,
        )


def param_drift(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The parameters that changed, as JSON of name to old and new value; empty when none did."""
    changed = {
        name: {"old": before[name], "new": text}
        for name, text in sorted(now.items())
        if name not in _PLACES and name in before and before[name] != text
    }
    return json.dumps(changed, ensure_ascii=False) if changed else ""
