"""One module a version of the tables; each names the one before it."""
