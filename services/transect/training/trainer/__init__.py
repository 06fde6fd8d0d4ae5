"""Ultralytics' trainer and what it needs. Nothing is imported here: torch takes seconds."""
