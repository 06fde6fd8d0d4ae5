"""A GPU backend that falls back to the CPU when the GPU is lost."""

import logging
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.base import Backend, BackendName
from transect.engine.package import Precision
from transect.errors import DeviceLostError

logger = logging.getLogger(__name__)


class CpuFallbackBackend:
    """Uses `backend` until it raises DeviceLostError, then the backend that `reopen` returns.

    Calls in progress are repeated, so that none fails. A backend of another precision is not used, because its
    numbers would not be comparable; the error then asks for a restart. Numbers also depend on the instruction set,
    so jobs that store boxes (a census) do not use this class.
    """

    def __init__(self, backend: Backend, reopen: Callable[[], Backend]) -> None:
        self._backend = backend
        self._reopen = reopen
        self._replaced = False
        self._lock = threading.Lock()
        self.name: BackendName = backend.name
        self.precision: Precision = backend.precision
        self.instructions, self.library = backend.instructions, backend.library
        self.parallel = backend.parallel

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        """As in Backend."""
        backend = self._backend
        try:
            return backend.infer(image, least)
        except DeviceLostError as error:
            return self._replace(backend, error).infer(image, least)

    def close(self) -> None:
        """As in Backend."""
        self._backend.close()

    def _replace(self, lost: Backend, error: DeviceLostError) -> Backend:
        with self._lock:
            if self._backend is not lost:
                return self._backend  # another caller has already replaced it
            if self._replaced:
                raise error
            found = self._reopen()
            if found.precision != self.precision:
                found.close()
                raise error
            logger.warning("%s Continuing with %s until then.", error, found.name)
            # Its other callers in progress get the same error and call this method.
            self._replaced, self._backend, self.name = True, found, found.name
            self.instructions, self.library = found.instructions, found.library
            lost.close()
            return found
