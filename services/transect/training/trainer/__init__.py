"""Ultralytics' trainer and its support code. Nothing is imported here: torch takes seconds."""
