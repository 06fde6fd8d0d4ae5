"""How tables are printed."""

from rich.console import Console


def wide_console() -> Console:
    """The terminal; where there is none, a console that is wide enough for every column."""
    # A log or a pipe has no width of its own; a table cut at 80 columns would hide what was asked for.
    console = Console()
    return console if console.is_terminal else Console(width=200)
