"""What to look at next, how long it takes, and what limits it should give."""
