"""Preloading of the last known version while MLflow is queried, so that a start takes the longer of the two times."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from transect.registry import ResolvedVersion
from transect.serving.models.slot import ServedModel

_log = logging.getLogger(__name__)


class CachedModelPreload:
    """Loads the last known version in a thread of its own and keeps it for `pop` or `discard`.

    If MLflow has not responded `patience_s` after the query started, the model is passed to `serve`, so that a hanging
    server does not delay the start. Before `start` is called, `pop` returns None.
    """

    def __init__(
        self,
        last_known: Callable[[], tuple[ResolvedVersion, Path] | None],
        load: Callable[[ResolvedVersion, Path], ServedModel],
        serve: Callable[[ServedModel], None],
        patience_s: float,
    ) -> None:
        self._last_known = last_known
        self._load = load
        self._serve = serve
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._query_started = threading.Event()
        self._query_finished = threading.Event()
        self._model: ServedModel | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start loading the last known version."""
        self._thread = threading.Thread(target=self._run, name="cached-model-preload", daemon=True)
        self._thread.start()

    def query_started(self) -> None:
        """Record that MLflow is being queried, which starts the timeout."""
        self._query_started.set()

    def query_finished(self) -> None:
        """Record that MLflow has responded, or that the query has failed."""
        self._query_finished.set()

    def pop(self, target: ResolvedVersion) -> ServedModel | None:
        """Wait for the loaded model, and hand it to the caller if its version is `target`; otherwise return None."""
        self._wait()
        with self._lock:
            model = self._model
            if model is None or version_key(model.resolved) != version_key(target):
                return None
            self._model = None
            return model

    def discard(self) -> None:
        """Close the model if it was neither taken nor served."""
        self._wait()
        with self._lock:
            model, self._model = self._model, None
        if model is not None:
            model.detector.close()

    def _wait(self) -> None:
        thread = self._thread
        if thread is not None:
            self._query_started.set()
            self._query_finished.set()
            thread.join()

    def _run(self) -> None:
        try:
            known = self._last_known()
            if known is None:
                return
            self._model = self._load(*known)
        except Exception as error:  # noqa: BLE001 - the first poll loads it again and reports the cause
            _log.info("The last known version could not be preloaded", extra={"reason": str(error)})
            return
        self._query_started.wait()
        if self._query_finished.wait(self._patience_s):
            return
        with self._lock:
            model, self._model = self._model, None
            if model is not None:
                self._serve(model)


def version_key(resolved: ResolvedVersion) -> tuple[str, str, str]:
    """Return the unique key of a version: after a model is deleted and registered again, numbers restart at 1."""
    return resolved.version, resolved.run_id, resolved.package_sha256
