"""The state of a run, replayed from its journal."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transect.tracking.spool import Spool

# Parameters that name where a training reads and writes, and not how it trains.
_LOCATION_PARAMS = frozenset(
    {"data", "dataset_digest", "model", "name", "pretrained", "project", "recipe", "resume", "save_dir"}
)
# Sampled by time and not by epoch: a resumed run continues to sample.
_WALL_CLOCK_PREFIX = "system/"


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """A run as journalled.

    `metrics` are its (name, step) pairs. `status` is "" until the run ended. `registering` is whether
    the journal holds the registration of its package.
    """

    local_id: str
    name: str
    experiment: str
    resume_fingerprint: Mapping[str, Any]
    params: dict[str, str]
    metrics: set[tuple[str, int]]
    status: str
    registering: bool

    @classmethod
    def read(cls, spool: Spool) -> "RunHistory":
        """Replay the journal of a spool that has its first entry."""
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
                    (name, entry.data["step"])
                    for name in entry.data["values"]
                    if not name.startswith(_WALL_CLOCK_PREFIX)
                }
            elif entry.kind == "status":
                status = "" if entry.data["status"] == "RUNNING" else entry.data["status"]
            registering |= entry.kind == "register"
        return cls(
            local_id=first.get("local_id", ""),
            name=first.get("name", spool.run_folder.name),
            experiment=first.get("experiment", ""),
            resume_fingerprint=first.get("facts", {}),
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
        if name not in _LOCATION_PARAMS and name in before and before[name] != text
    }
    return json.dumps(changed, ensure_ascii=False) if changed else ""
