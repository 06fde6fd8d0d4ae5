"""Consoles for tables."""

from rich.console import Console


def wide_console() -> Console:
    """The terminal, or without one a console that is wide enough for all columns."""
    # A log or pipe has no width; cutting a table at 80 columns would hide requested data.
    console = Console()
    return console if console.is_terminal else Console(width=200)
