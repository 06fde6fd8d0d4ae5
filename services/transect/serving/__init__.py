"""The HTTP detection service: follows an alias, swaps models under load, answers in JSON."""

from transect.serving.app import create_app
from transect.serving.server import serve

__all__ = ["create_app", "serve"]
