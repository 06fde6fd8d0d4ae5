"""The HTTP detection service."""
