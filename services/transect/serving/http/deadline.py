"""How long a request's work may take, and the one event that ends it, early or late."""

import math
import threading
from time import monotonic

from transect.serving.http.problems import ProblemError

TIMEOUT_HEADER = "X-Request-Timeout"


class Deadline:
    """A moment after which nobody waits for the work any more, and `stop`, which ends the work itself.

    Everything that works for one request shares one Deadline: setting `stop` ends it at the next tile.
    """

    def __init__(self, seconds: float, at: float) -> None:
        self.seconds = seconds
        self.at = at
        self.stop = threading.Event()

    @classmethod
    def after(cls, seconds: float, start: float | None = None) -> "Deadline":
        """`seconds` after `start` (a reading of time.monotonic(); now, where it is None)."""
        return cls(seconds, (monotonic() if start is None else start) + seconds)

    def remaining(self) -> float:
        """Seconds that are left; never negative."""
        return max(0.0, self.at - monotonic())

    @property
    def over(self) -> bool:
        """Whether the work should end: it was stopped, or its time is up."""
        return self.stop.is_set() or self.remaining() == 0.0


def expired(deadline: Deadline) -> ProblemError:
    """The answer when the time is up."""
    detail = (
        f"The request took longer than {deadline.seconds:g} s (TRANSECT_DEADLINE_SECONDS, or the timeout that it "
        "asked for); send fewer or smaller images, or try again when the service is less busy."
    )
    return ProblemError(504, "deadline", detail)


def header_seconds(text: str | None) -> float | None:
    """The seconds that the header X-Request-Timeout asks for; ProblemError (422) for anything else."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ProblemError(422, "timeout", f"{TIMEOUT_HEADER}: {text!r} is not a number of seconds above 0.")
    return seconds
