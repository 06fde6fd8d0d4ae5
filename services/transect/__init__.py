"""Transect: train wildlife detectors, track every run, serve the best one, count animals.

The functions of `__all__` are the public API (docs/api.md). They are imported when they are first used: `import
transect` stays light, since MLflow's client alone takes seconds. Type checkers read their types in __init__.pyi.
"""

import os
from importlib import import_module
from typing import Any

__all__ = ["__version__", "estimate", "load_registry", "open_detector", "open_model", "run_census"]

__version__ = "0.1.0"

# Disable telemetry. MLflow and ONNX Runtime read these when they are imported, and one of them then stores a user id in
# the home directory, so they must be set before any module of ours imports them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """A public function, from the module that holds it (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All names, also those that are not imported yet, for completion in a notebook."""
    return sorted({*globals(), *__all__})
