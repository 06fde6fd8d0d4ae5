"""A survey folder in, counts with limits out."""
