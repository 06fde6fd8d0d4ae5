"""The model slot: the reference to the served model, with reference counts for models still in use."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from transect.engine import Detector
from transect.registry import ResolvedVersion
from transect.serving.metrics import Metrics


@dataclass(frozen=True)
class ServedModel:
    """A loaded, probed and warmed-up model with its version in the registry."""

    detector: Detector
    resolved: ResolvedVersion
    loaded_at: datetime
    from_cache: bool

    def export_to(self, metrics: Metrics) -> None:
        """Set the model's labels in `metrics`."""
        version, detector = self.resolved, self.detector
        metrics.set_model_info(
            name=version.name,
            version=version.version,
            run_id=version.run_id,
            backend=detector.backend,
            precision=detector.precision,
            loaded_at=self.loaded_at,
        )


class Lease:
    """A reference to a model, which is not closed until all its leases are released."""

    def __init__(self, entry: "_Entry") -> None:
        self._entry = entry
        self.model = entry.model

    def share(self) -> "Lease":
        """Return another lease on the same model, for work that may outlive this one."""
        self._entry.retain()
        return Lease(self._entry)

    def release(self) -> None:
        """Release the lease; the last release closes a replaced model."""
        self._entry.release()

    def __enter__(self) -> ServedModel:
        return self.model

    def __exit__(self, *exception: object) -> None:
        self.release()


class _Entry:
    """A model and its reference count, which includes the slot."""

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
    """The served model; `swap` replaces it atomically. Thread-safe.

    `close` is called with a replaced model in the thread that releases its last lease.
    """

    def __init__(self, close: Callable[[ServedModel], None] = _close) -> None:
        self._close = close
        self._entry: _Entry | None = None
        self._lock = threading.Lock()

    @property
    def current(self) -> ServedModel | None:
        """The served model, for inspection only; for detection take a lease."""
        entry = self._entry
        return entry.model if entry else None

    def lease(self) -> Lease | None:
        """Return a lease on the served model, or None if no model is served."""
        with self._lock:
            if self._entry is None:
                return None
            self._entry.retain()
            return Lease(self._entry)

    def swap(self, model: ServedModel | None) -> None:
        """Serve `model` from now on; the previous model is closed when its last lease is released."""
        with self._lock:
            previous, self._entry = self._entry, _Entry(model, self._close) if model else None
        if previous:
            previous.release()
