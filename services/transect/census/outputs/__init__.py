"""The result as files that other programs read."""
