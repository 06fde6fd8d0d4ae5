"""Synthetic cameras: flight, view, light, metadata."""
