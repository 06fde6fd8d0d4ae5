"""Sample surveys with known truth."""
