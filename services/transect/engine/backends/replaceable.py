"""A backend on a GPU that may be lost: once it is, the CPU goes on."""

import logging
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.base import Backend, BackendName
from transect.engine.package import Precision
from transect.errors import DeviceLostError

logger = logging.getLogger(__name__)


class Replaceable:
    """`backend`, until it raises DeviceLostError; from then on what `reopen` opens.

    The calls that were in work are run again, so that none fails. Where the other one computes in another precision,
    nothing is replaced: the numbers would not be comparable, and the error says to start again. Nor are they where an
    instruction set decides, so what keeps boxes for later (a census) does not use this.
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
            return self._instead_of(backend, error).infer(image, least)

    def close(self) -> None:
        """As in Backend."""
        self._backend.close()

    def _instead_of(self, lost: Backend, error: DeviceLostError) -> Backend:
        with self._lock:
            if self._backend is not lost:
                return self._backend  # another caller was here first
            if self._replaced:
                raise error
            found = self._reopen()
            if found.precision != self.precision:
                found.close()
                raise error
            logger.warning("%s Going on with %s until then.", error, found.name)
            # Its other callers in work get the same error and come here.
            self._replaced, self._backend, self.name = True, found, found.name
            self.instructions, self.library = found.instructions, found.library
            lost.close()
            return found
