"""Request deadlines, and the event that stops a request's work."""

import math
import threading
from time import monotonic

from transect.serving.http.problems import ProblemError

TIMEOUT_HEADER = "X-Request-Timeout"


class Deadline:
    """A point in time, and an event `stop` that ends the work at its next tile.

    All tasks and threads of one request share one Deadline.
    """

    def __init__(self, seconds: float, at: float) -> None:
        self.seconds = seconds
        self.at = at
        self.stop = threading.Event()

    @classmethod
    def after(cls, seconds: float, start: float | None = None) -> "Deadline":
        """Return a deadline `seconds` after `start`, a reading of time.monotonic(); None means now."""
        return cls(seconds, (monotonic() if start is None else start) + seconds)

    def remaining(self) -> float:
        """Return the seconds left, at least 0."""
        return max(0.0, self.at - monotonic())

    @property
    def over(self) -> bool:
        """Whether the work should end: it was stopped, or the deadline has passed."""
        return self.stop.is_set() or self.remaining() == 0.0


def deadline_exceeded(deadline: Deadline) -> ProblemError:
    """Return the problem (504) for a deadline that has passed."""
    detail = (
        f"The request took longer than {deadline.seconds:g} s (TRANSECT_DEADLINE_SECONDS, or the request's own "
        "timeout); send fewer or smaller images, or try again when the service is less busy."
    )
    return ProblemError(504, "deadline", detail)


def header_seconds(text: str | None) -> float | None:
    """Parse X-Request-Timeout; ProblemError (422) unless it is a finite number of seconds above 0."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ProblemError(422, "timeout", f"{TIMEOUT_HEADER}: {text!r} is not a number of seconds above 0.")
    return seconds
