"""The `transect` command."""

from transect.cli.app import app, main

__all__ = ["app", "main"]
