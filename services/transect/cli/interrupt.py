"""Clean interruption of long commands: one line, the usual exit code, and resume with the same command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer


class _Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


@contextmanager
def stoppable() -> Iterator[None]:
    """End the block and the program on Ctrl-C or SIGTERM with one line, and exit with 130 or 143.

    For commands that can be resumed. Must be entered in the main thread.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as stopped:
        typer.echo("transect: stopped; run the same command again to resume. Finished work is kept.", err=True)
        number = signal.SIGTERM if isinstance(stopped, _Terminated) else signal.SIGINT
        raise typer.Exit(128 + number) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated
