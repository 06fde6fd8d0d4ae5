"""Closing of replaced models in a background thread, and return of their memory to the system."""

import ctypes
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from transect.serving.models.slot import ServedModel

_log = logging.getLogger(__name__)


class ModelCloser:
    """One thread that closes models in the order of the calls to `close`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="closer")
        self._trim = _malloc_trim()

    def close(self, model: ServedModel) -> None:
        """Close `model` in the background; return at once."""
        with suppress(RuntimeError):  # after stop() the process exits, which frees the model
            self._thread.submit(_close, model)
            # A separate task, because the arguments of the first keep the model in memory while it runs.
            self._thread.submit(self._trim)

    def stop(self) -> None:
        """Close all models passed to `close`, then stop the thread."""
        self._thread.shutdown(wait=True)


def _close(model: ServedModel) -> None:
    try:
        model.detector.close()
    except Exception:  # noqa: BLE001 - the service does not depend on it
        _log.exception("Closing a model failed", extra={"version": model.resolved.version})


def _malloc_trim() -> Callable[[], object]:
    """Return glibc's malloc_trim, which returns the freed memory of its arenas to the system; elsewhere a no-op."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            trim = ctypes.CDLL("libc.so.6").malloc_trim
            return lambda: trim(0)
    return lambda: None
