"""The result files for other programs."""
