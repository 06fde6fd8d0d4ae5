"""Ctrl-C and SIGTERM at a moment that cannot take them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is over, and then do what they do.

    For the writing of a checkpoint, which is then whole. Ultralytics passes over errors there: it tries
    again, or leaves a part out. An interrupt that a library underneath has turned into such an error
    would be lost, and the training would go on.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals come to the main thread alone.
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
