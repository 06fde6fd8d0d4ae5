"""Progress display: a bar with rate and remaining time on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

_LOG_EVERY_S = 10.0


class Advance(Protocol):
    """Reports that `steps` more units of work are done; `note` is a short text beside the bar.

    `resumed` steps were done by an earlier run, so they do not count for the rate. `total` replaces the total number of
    units, if it changes during the work.
    """

    def __call__(self, steps: int = 1, note: str = "", *, resumed: bool = False, total: int | None = None) -> None:
        """Add `steps`."""


class Pace:
    """Rate and remaining time of work, from the steps done in this run and their duration."""

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self.done = 0
        self._worked = 0
        self._busy_s = 0.0
        self._last = now

    def advance(self, steps: int, now: float, *, resumed: bool) -> None:
        """Record that `steps` are done at `now`, in seconds of a monotonic clock."""
        self.done += steps
        if not resumed:
            self._worked += steps
            self._busy_s += now - self._last
        self._last = now

    @property
    def rate(self) -> float | None:
        """Steps per second; None before the first step of this run."""
        return self._worked / max(self._busy_s, 1e-9) if self._worked else None

    @property
    def left_s(self) -> float | None:
        """Remaining seconds, if no further steps are resumed; None if the rate is unknown."""
        return (self.total - self.done) / self.rate if self.rate else None


class _Rate(ProgressColumn):
    def __init__(self, pace: Pace, unit: str) -> None:
        super().__init__()
        self.pace = pace
        self.unit = unit

    def render(self, task: Task) -> Text:
        rate, left = self.pace.rate, self.pace.left_s
        if rate is None or left is None:
            return Text(f"- {self.unit}/s")
        return Text(f"{rate:.1f} {self.unit}/s, {timedelta(seconds=round(left))} left")


@contextmanager
def progress(title: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """Show the progress of `total` units of work on standard error.

    Usage::

        with progress("Detecting", len(frames)) as advance:
            for frame in frames:
                work(frame)
                advance()
    """
    if sys.stderr.isatty():
        yield from _bar(title, total, unit)
    else:
        yield from _lines(title, total, unit)


def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    pace = Pace(total, time.monotonic())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(pace, unit),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(steps: int = 1, note: str = "", *, resumed: bool = False, total: int | None = None) -> None:
            pace.total = pace.total if total is None else total
            pace.advance(steps, time.monotonic(), resumed=resumed)
            bar.update(task, total=pace.total, advance=steps, note=note)

        yield advance


def _lines(title: str, total: int, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    pace = Pace(total, start)

    def advance(steps: int = 1, note: str = "", *, resumed: bool = False, total: int | None = None) -> None:
        nonlocal last
        pace.total = pace.total if total is None else total
        now = time.monotonic()
        pace.advance(steps, now, resumed=resumed)
        if pace.done < pace.total and now - last < _LOG_EVERY_S:
            return
        last = now
        parts = [f"{title}: {pace.done}/{pace.total} {unit}"]
        if pace.rate is not None:
            parts.append(f"{pace.rate:.1f} {unit}/s")
        if pace.done < pace.total and pace.left_s is not None:
            parts.append(f"{pace.left_s:.0f} s left")
        tail = f" in {now - start:.1f} s" if pace.done >= pace.total else ""
        print(f"{', '.join(parts)}{tail}{' ' + note if note else ''}", file=sys.stderr, flush=True)

    yield advance
