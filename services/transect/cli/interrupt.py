"""Long commands that can be stopped at any moment: one line, the usual exit code, and go on with the same command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which then ends the program as Ctrl-C does."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block and the program with one line, and exit with 130 or 143.

    For commands that go on where they were. To be entered in the main thread.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as stopped:
        typer.echo("transect: stopped; run the same command again to go on. What was finished is kept.", err=True)
        number = signal.SIGTERM if isinstance(stopped, _Terminated) else signal.SIGINT
        raise typer.Exit(128 + number) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated
