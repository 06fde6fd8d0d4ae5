"""One request from bytes to boxes."""
