"""A logged training once more, and whether it comes out the same."""
