"""The one reference to the model that is served, and who still uses the one before it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from transect.engine import Detector
from transect.registry import ResolvedVersion
from transect.serving.metrics import Metrics


@dataclass(frozen=True)
class ServedModel:
    """A loaded, probed and warm model with its place in the registry."""

    detector: Detector
    resolved: ResolvedVersion
    loaded_at: datetime
    from_cache: bool

    def show_in(self, metrics: Metrics) -> None:
        """Name the model in what Prometheus reads."""
        version, detector = self.resolved, self.detector
        metrics.show_model(
            name=version.name,
            version=version.version,
            run_id=version.run_id,
            backend=detector.backend,
            precision=detector.precision,
            loaded_at=self.loaded_at,
        )


class Lease:
    """The right to use a model: it is not closed before every lease on it is released."""

    def __init__(self, entry: "_Entry") -> None:
        self._entry = entry
        self.model = entry.model

    def share(self) -> "Lease":
        """A second lease on the same model, for work that may outlive this one."""
        self._entry.retain()
        return Lease(self._entry)

    def release(self) -> None:
        """Give the right back; the last one out closes a model that was replaced."""
        self._entry.release()

    def __enter__(self) -> ServedModel:
        return self.model

    def __exit__(self, *exception: object) -> None:
        self.release()


class _Entry:
    """A model and the number of its users; the slot itself is one of them."""

    def __init__(self, model: ServedModel, close: Callable[[ServedModel], None]) -> None:
        self.model = model
        self._close = close
        self._users = 1
        self._lock = threading.Lock()

    def retain(self) -> None:
        with self._lock:
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._close(self.model)


def _close(model: ServedModel) -> None:
    model.detector.close()


class ModelSlot:
    """Holds the served model; `swap` replaces it in one step. Safe to use from any thread.

    `close` closes a model that nobody uses any more, in the thread of its last user.
    """

    def __init__(self, close: Callable[[ServedModel], None] = _close) -> None:
        self._close = close
        self._entry: _Entry | None = None
        self._lock = threading.Lock()

    @property
    def current(self) -> ServedModel | None:
        """The served model, for looking at; to detect with it, take a lease."""
        entry = self._entry
        return entry.model if entry else None

    def lease(self) -> Lease | None:
        """A lease on the served model, None where there is none."""
        with self._lock:
            if self._entry is None:
                return None
            self._entry.retain()
            return Lease(self._entry)

    def swap(self, model: ServedModel | None) -> None:
        """Serve `model` from now on; the one before is closed when its last lease ends."""
        with self._lock:
            before, self._entry = self._entry, _Entry(model, self._close) if model else None
        if before:
            before.release()
