"""An alias follower over a model source in memory."""

import threading
import time
from pathlib import Path

from transect.engine import Detector, ModelRef
from transect.errors import NotRegisteredError, RegistryError
from transect.registry import ResolvedVersion
from transect.serving.metrics import Metrics
from transect.serving.models.alias_follower import AliasFollower
from transect.serving.models.slot import ModelSlot

LONG = 3600.0


class InMemoryModelSource:
    """A model source in memory: packages by version, an alias, and a store that can be unavailable."""

    def __init__(self) -> None:
        self.packages: dict[str, Path] = {}
        self.alias: str | None = None
        self.away = False
        self.remembered: ResolvedVersion | None = None
        # A test clears them to hold up the import of MLflow's client, or MLflow's answer.
        self.imports, self.answers = threading.Event(), threading.Event()
        self.imports.set()
        self.answers.set()

    def prepare(self) -> None:
        assert self.imports.wait(60)

    def resolve(self) -> ResolvedVersion:
        assert self.answers.wait(60)
        if self.away:
            raise RegistryError("MLflow cannot be reached.")
        if self.alias is None:
            raise NotRegisteredError("No version has the alias; promote one.")
        return ResolvedVersion(
            name="detector",
            version=self.alias,
            run_id=f"run-{self.alias}",
            source="runs:/x/model",
            package_sha256=self.alias * 64,
        )

    def fetch(self, resolved: ResolvedVersion) -> Path:
        return self.packages[resolved.version]

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        known = self.remembered
        return None if known is None else (known, self.packages[known.version])

    def remember(self, resolved: ResolvedVersion) -> None:
        self.remembered = resolved


class FollowerHarness:
    """A follower that polls only on request, with its source, slot and metrics."""

    def __init__(self, source: InMemoryModelSource, patience_s: float = LONG) -> None:
        self.source = source
        self.slot = ModelSlot()
        self.metrics = Metrics()
        self.later_s = 0.0
        self.opened: list[Detector] = []
        self.opens = threading.Event()
        self.opens.set()
        self.follower = AliasFollower(
            source, self.slot, self.metrics, self.open, LONG, patience_s=patience_s, clock=self.now
        )

    def open(self, package: Path, ref: ModelRef) -> Detector:
        assert self.opens.wait(60)
        self.opened.append(Detector.open(package, ref=ref, backend="onnxruntime"))
        return self.opened[-1]

    def now(self) -> float:
        return time.monotonic() + self.later_s

    def poll(self) -> None:
        """Poll as the timer does, without retrying rejected versions early."""
        self.follower._poll(forced=False)

    def refresh(self) -> None:
        self.follower._poll(forced=True)

    def version(self) -> str | None:
        return self.slot.current.resolved.version if self.slot.current else None

    def count(self, metric: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, {"outcome": outcome})
