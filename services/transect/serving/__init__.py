"""The HTTP detection service: follows a model alias, swaps models under load, responds in JSON."""

from transect.serving.app import create_app
from transect.serving.server import serve

__all__ = ["create_app", "serve"]
