"""The last known version, opened while MLflow is being asked, so that a start takes the time of one, not of both."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from transect.registry import ResolvedVersion
from transect.serving.models.slot import ServedModel

_log = logging.getLogger(__name__)


class HeadStart:
    """Opens the last known version in a thread of its own and keeps it until it is taken or dropped.

    When MLflow has not answered `patience_s` after it was asked, the version goes to `serve`: a
    server that hangs must not hold up a start. Until `begin` is called there is nothing to take.
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
        self._asked = threading.Event()
        self._answered = threading.Event()
        self._model: ServedModel | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to open the last known version."""
        self._thread = threading.Thread(target=self._run, name="head-start", daemon=True)
        self._thread.start()

    def asked(self) -> None:
        """MLflow is being asked from now on."""
        self._asked.set()

    def answered(self) -> None:
        """MLflow has answered, or it is known that it cannot."""
        self._answered.set()

    def take(self, wanted: ResolvedVersion) -> ServedModel | None:
        """The opened model when it is `wanted`, waiting until it is open; the caller owns it then."""
        self._wait()
        with self._lock:
            model = self._model
            if model is None or identity(model.resolved) != identity(wanted):
                return None
            self._model = None
            return model

    def drop(self) -> None:
        """Close what nobody took."""
        self._wait()
        with self._lock:
            model, self._model = self._model, None
        if model is not None:
            model.detector.close()

    def _wait(self) -> None:
        thread = self._thread
        if thread is not None:
            self._asked.set()
            self._answered.set()
            thread.join()

    def _run(self) -> None:
        try:
            known = self._last_known()
            if known is None:
                return
            self._model = self._load(*known)
        except Exception as error:  # noqa: BLE001 - the usual way, which follows, says what is wrong with it
            _log.info("The last known version is not ready ahead of MLflow's answer", extra={"reason": str(error)})
            return
        self._asked.wait()
        if self._answered.wait(self._patience_s):
            return
        with self._lock:
            model, self._model = self._model, None
            if model is not None:
                self._serve(model)


def identity(resolved: ResolvedVersion) -> tuple[str, str, str]:
    """What makes a version itself: a model that was deleted and registered anew starts again at version 1."""
    return resolved.version, resolved.run_id, resolved.package_sha256
