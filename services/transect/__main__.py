"""`python -m transect` is the `transect` command."""

from transect.cli import main

main()
