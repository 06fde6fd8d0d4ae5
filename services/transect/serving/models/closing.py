"""Closes models that were replaced, away from the threads that answer, and gives their memory back."""

import ctypes
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from transect.serving.models.slot import ServedModel

_log = logging.getLogger(__name__)


class Closer:
    """One thread that closes models, in the order in which they are handed over."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="closer")
        self._trim = _malloc_trim()

    def close(self, model: ServedModel) -> None:
        """Close `model` soon; returns at once."""
        with suppress(RuntimeError):  # after stop() the process ends, and its models with it
            self._thread.submit(_close, model)
            # A task of its own: while the one before runs, its arguments keep the model in memory.
            self._thread.submit(self._trim)

    def stop(self) -> None:
        """Close what was handed over, and end."""
        self._thread.shutdown(wait=True)


def _close(model: ServedModel) -> None:
    try:
        model.detector.close()
    except Exception:  # noqa: BLE001 - the service goes on without it
        _log.exception("Closing a model failed", extra={"version": model.resolved.version})


def _malloc_trim() -> Callable[[], object]:
    """glibc keeps freed memory in its arenas; this returns it to the system. Elsewhere there is nothing to do."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            trim = ctypes.CDLL("libc.so.6").malloc_trim
            return lambda: trim(0)
    return lambda: None
